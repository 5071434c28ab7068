# SPDX-License-Identifier: Apache-2.0
"""Services: the list, and a form with everything that a file can say of one."""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from starlette.responses import Response
from starlette.routing import BaseRoute

from cloud_toa.balancer.settings import Service
from cloud_toa.cluster.console import form_fields, form_values, settings_pages
from cloud_toa.cluster.console.page import Page, route
from cloud_toa.cluster.model import nodes, settings, settings_text
from cloud_toa.cluster.model.nodes import View
from cloud_toa.cluster.model.values import MissingError, RefusedError
from cloud_toa.node import edge_file

_FIELDS = form_fields.of(Service, "service")
_SHOWN = {
    "main": ("name", "protocol", "listen", "tls", "server_names", "origin", "toa"),
    "balancing": ("algorithm", "connect_timeout", "idle_timeout", "check"),
    "limits": (
        *("max_connections", "max_connections_per_client"),
        "new_connections_per_client",
    ),
    "clients": ("allow", "deny", "proxy_from"),
}
_GROUPS = [
    (group, [field for name in names for field in _FIELDS if field.name == name])
    for group, names in _SHOWN.items()
]


@dataclass
class ShownOrigin:
    """An origin of the list; ``up`` is None where no node has said."""

    name: str
    state: str = ""
    ups: int = 0
    seen: int = 0
    other: str = ""
    """Its address of the other IP version, if it has one."""

    @property
    def up(self) -> bool | None:
        """Whether any node reaches it."""
        return self.ups > 0 if self.seen else None


@dataclass
class ShownService:
    """A line of the list."""

    name: str
    protocol: str
    listen: tuple[str, ...]
    toa: bool
    origins: list[ShownOrigin] = field(default_factory=list)
    current: int = 0


def routes() -> list[BaseRoute]:
    """The list, and a form for each."""
    return [
        route("GET", "/services", "viewer", _list),
        route("GET", "/new-service", "operator", _new),
        route("POST", "/new-service", "operator", _change),
        route("GET", "/services/{name}", "viewer", _edit),
        route("POST", "/services/{name}", "operator", _change),
    ]


def shown(text: str, views: Iterable[View]) -> list[ShownService]:
    """The services of a text, with what nodes say of them. Pure."""
    if not text:
        return []
    edge = edge_file.parse(text, settings.NAME)
    statuses = [
        view.status for view in views if view.status is not None and view.state != "offline"
    ]
    found = []
    for service in edge.service:
        line = ShownService(
            service.name,
            service.protocol,
            service.listen,
            edge.toa.enabled and any(service.has_toa(each) for each in service.origin),
        )
        for origin in service.origin:
            words = [
                said[origin.name]
                for status in statuses
                if origin.name in (said := status.origins.get(service.name, {}))
            ]
            line.origins.append(
                ShownOrigin(
                    origin.name,
                    "" if origin.state == "active" else origin.state,
                    sum(is_up(word) for word in words),
                    len(words),
                    next(iter(origin.addresses[1:]), ""),
                )
            )
        counts = [
            status.services[service.name] for status in statuses if service.name in status.services
        ]
        line.current = sum(each.current for each in counts)
        found.append(line)
    return found


def is_up(word: str) -> bool:
    """Whether HAProxy's word for an origin's state means that connections go there."""
    return word.upper().startswith(("UP", "NO CHECK", "DRAIN"))


async def _list(page: Page) -> Response:
    now = await settings.current(page.store)
    return page.show("services.html", services=shown(now.text, await nodes.all(page.store)))


async def _new(page: Page) -> Response:
    now = await settings.current(page.store)
    return _show(page, None, {}, now.number, {})


async def _edit(page: Page) -> Response:
    now = await settings.current(page.store)
    name = page.named("name")
    return _show(page, name, _said(now.text, name), now.number, {})


def _said(text: str, name: str) -> dict[str, Any]:
    for service in tomllib.loads(text).get("service", []):
        if service.get("name") == name:
            found: dict[str, Any] = service
            return found
    raise MissingError(f"there is no service {name}")


def _show(
    page: Page,
    name: str | None,
    values: dict[str, Any],
    seen: int,
    wrong: dict[str, list[str]],
) -> Response:
    return page.show(
        "service.html",
        422 if wrong else 200,
        title=page.t("service.title", name=name) if name else page.t("services.add"),
        name=name,
        action=f"/services/{quote(name, safe='')}" if name else "/new-service",
        groups=_GROUPS,
        values=values,
        seen=seen,
        wrong=wrong,
    )


async def _change(page: Page) -> Response:
    name = page.request.path_params.get("name")
    before = await settings_pages.base(page)
    said = _said(before.text, name) if name else {}
    posted = form_values.without_removed(page.posted)
    values = form_values.read(posted, _FIELDS, before=said)
    if "add" in posted or "remove" in posted:
        return _show(page, name, form_values.with_added(posted, _FIELDS, values), before.number, {})
    try:
        if page.input("do") == "remove" and name:
            text = settings_text.without_service(before.text, name)
            return await _compare(page, text, f"service {name}: removed")
        text = settings_text.with_service(before.text, name, values)
        what = f"service {values.get('name', '')}{'' if name else ': added'}"
        return await _compare(page, text, what)
    except RefusedError as error:
        others = tomllib.loads(before.text).get("service", [])
        names = [each.get("name") for each in others]
        place = names.index(name) if name else len(names)
        wrong = form_values.by_field(error.mistakes, f"service.{place}", _FIELDS)
        return _show(page, name, values, before.number, wrong)


async def _compare(page: Page, text: str, why: str) -> Response:
    if mistakes := settings.check(text):
        raise RefusedError(*mistakes)
    return await settings_pages.compare(page, text, why, "/services")
