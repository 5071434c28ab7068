# SPDX-License-Identifier: Apache-2.0
"""Nodes: how one joins, what each says of itself, and what can be done about it."""

import shlex

from starlette.responses import Response
from starlette.routing import BaseRoute

from cloud_toa.cluster.api import access
from cloud_toa.cluster.console.page import Page, route
from cloud_toa.cluster.model import nodes
from cloud_toa.cluster.model.values import Mistake, RefusedError

_FOLDER = "/etc/cloud-toa"
_UNIT = "cloud-toa-node"


def routes() -> list[BaseRoute]:
    """The list, joining, and each node."""
    return [
        route("GET", "/nodes", "viewer", _list),
        route("GET", "/nodes/table", "viewer", _table),
        route("GET", "/nodes/join", "viewer", _join),
        route("POST", "/nodes/join", "operator", _new_token),
        route("GET", "/nodes/{id}", "viewer", _one),
        route("GET", "/nodes/{id}/state", "viewer", _state),
        route("POST", "/nodes/{id}/drain", "operator", _drain),
        route("POST", "/nodes/{id}/reissue", "operator", _reissue),
        route("GET", "/nodes/{id}/remove", "operator", _ask_remove),
        route("POST", "/nodes/{id}/remove", "operator", _remove),
    ]


def command(server: str, token: str) -> str:
    """What makes a host a node, and keeps it one, by the unit cloud-toa-node.service."""
    options = ["--server", server]
    if server.startswith("http://"):
        options.append("--insecure")
    steps = (
        "set -e",
        "umask 077",
        f"mkdir -p {_FOLDER}",
        f"cat >{_FOLDER}/node.token",
        f"echo OPTIONS={shlex.join(options)} >{_FOLDER}/node.env",
        f"systemctl enable {_UNIT}",
        # It may run already, for another server.
        f"systemctl restart {_UNIT}",
    )
    # Not in sudo's arguments, which it logs.
    return f"echo {token} | sudo sh -c {shlex.quote('; '.join(steps))}"


async def _list(page: Page) -> Response:
    return page.show("nodes.html", nodes=await nodes.all(page.store))


async def _table(page: Page) -> Response:
    return page.show("nodes_table.html", nodes=await nodes.all(page.store))


async def _join(page: Page) -> Response:
    return _show_join(page, "1", {})


def _show_join(page: Page, uses: str, wrong: dict[str, list[str]], **more: object) -> Response:
    return page.show(
        "join.html",
        422 if wrong else 200,
        **{"token": None, "command": "", "insecure": False, **more},
        uses=uses,
        wrong=wrong,
    )


async def _new_token(page: Page) -> Response:
    uses = page.input("uses") or "1"
    try:
        if not uses.isdecimal() or len(uses) > 9:
            raise RefusedError(
                Mistake(
                    message=f"{uses[:20]} uses: from 1 to {nodes.MOST_USES} nodes", field="uses"
                )
            )
        token = await nodes.join_token(page.store, page.by, uses=int(uses))
    except RefusedError as error:
        return _show_join(page, uses, {each.field: [each.message] for each in error.mistakes})
    server = str(page.request.base_url).rstrip("/")
    return _show_join(
        page,
        uses,
        {},
        token=token,
        command=command(server, token.token),
        insecure=not access.by_tls(page.request),
    )


async def _one(page: Page) -> Response:
    return await _show(page, None)


async def _show(page: Page, secret: str | None) -> Response:
    return page.show("node.html", node=await nodes.one(page.store, page.named("id")), secret=secret)


async def _state(page: Page) -> Response:
    return page.show("node_state.html", node=await nodes.one(page.store, page.named("id")))


async def _drain(page: Page) -> Response:
    drained = page.input("drained") == "yes"
    await nodes.drain(page.store, page.named("id"), drained, page.by)
    return page.go(f"/nodes/{page.named('id')}", "drained" if drained else "undrained")


async def _reissue(page: Page) -> Response:
    return await _show(page, await nodes.reissue(page.store, page.named("id"), page.by))


async def _ask_remove(page: Page) -> Response:
    return page.show("node_remove.html", node=await nodes.one(page.store, page.named("id")))


async def _remove(page: Page) -> Response:
    await nodes.remove(page.store, page.named("id"), page.by)
    return page.go("/nodes", "node_removed")
