# SPDX-License-Identifier: Apache-2.0
"""Quick test: one connection through a chosen node, its packets, and what the origin saw."""

import tomllib

from starlette.responses import Response
from starlette.routing import BaseRoute

from cloud_toa.cluster.console.page import Page, route
from cloud_toa.cluster.model import nodes, settings, tests
from cloud_toa.cluster.model.tests import QuickTest
from cloud_toa.cluster.model.values import RefusedError


def routes() -> list[BaseRoute]:
    """Asking for a test, and its outcome."""
    return [
        route("GET", "/quick-test", "viewer", _new),
        route("POST", "/quick-test", "operator", _ask),
        route("GET", "/quick-test/{id}", "viewer", _one),
        route("GET", "/quick-test/{id}/outcome", "viewer", _outcome),
    ]


async def _new(page: Page) -> Response:
    asked = {name: page.query.get(name, "") for name in ("node", "service", "client")}
    return await _show(page, asked, {}, None)


async def _ask(page: Page) -> Response:
    asked = {name: page.input(name) for name in ("node", "service", "client")}
    try:
        test = await tests.ask(
            page.store, asked["node"], asked["service"], asked["client"] or None, page.by
        )
    except RefusedError as error:
        wrong = {each.field: [each.message] for each in error.mistakes}
        return await _show(page, asked, wrong, None)
    return page.go(f"/quick-test/{test.id}")


async def _one(page: Page) -> Response:
    test = await tests.one(page.store, page.named("id"))
    asked = {"node": test.node, "service": test.service, "client": test.client or ""}
    return await _show(page, asked, {}, test)


async def _show(
    page: Page, asked: dict[str, str], wrong: dict[str, list[str]], test: QuickTest | None
) -> Response:
    views = await nodes.all(page.store)
    text = (await settings.current(page.store)).text
    services = [each["name"] for each in tomllib.loads(text).get("service", [])]
    earlier = [each for each in await tests.latest(page.store) if not test or each.id != test.id]
    return page.show(
        "quick_test.html",
        422 if wrong else 200,
        test=test,
        node=asked["node"],
        service=asked["service"],
        client=asked["client"],
        wrong=wrong,
        earlier=earlier[:20],
        names={each.id: each.name for each in views},
        node_choices=[
            (each.id, f"{each.name} ({page.t(f'state.{each.state}')})") for each in views
        ],
        service_choices=[(name, name) for name in services],
    )


async def _outcome(page: Page) -> Response:
    test = await tests.one(page.store, page.named("id"))
    names = {each.id: each.name for each in await nodes.all(page.store)}
    return page.show("outcome_part.html", test=test, names=names)
