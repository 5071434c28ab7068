# SPDX-License-Identifier: Apache-2.0
"""Cluster settings: TOA, switched on once for all nodes, and which nodes have applied it."""

import tomllib
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute

from cloud_toa.cluster.console import form_fields, form_values, settings_pages
from cloud_toa.cluster.console.page import Page, route
from cloud_toa.cluster.model import nodes, settings, settings_text
from cloud_toa.cluster.model.values import RefusedError
from cloud_toa.node.edge_file import EdgeFile, Toa

_BASIC = ("enabled", "option_type_v4", "option_type_v6")
_FIELDS = form_fields.of(Toa, "toa")
_GENERAL = tuple(
    field for field in form_fields.of(EdgeFile, "") if field.name not in ("service", "toa")
)


def routes() -> list[BaseRoute]:
    """The pages of what holds for every service."""
    return [
        route("GET", "/toa", "viewer", _toa),
        route("POST", "/toa", "operator", _change_toa),
        route("GET", "/toa/applied", "viewer", _applied),
        route("GET", "/general", "viewer", _general),
        route("POST", "/general", "operator", _change_general),
    ]


async def _toa(page: Page) -> Response:
    now = await settings.current(page.store)
    said = tomllib.loads(now.text)
    return await _show(page, said.get("toa", {}), now.number, bool(said.get("service")), {})


async def _show(
    page: Page, values: dict[str, Any], seen: int, has_services: bool, wrong: dict[str, list[str]]
) -> Response:
    return page.show(
        "toa.html",
        422 if wrong else 200,
        switches=[field for field in _FIELDS if field.name == "enabled"],
        kinds=[field for field in _FIELDS if field.name.startswith("option_type")],
        more=[field for field in _FIELDS if field.name not in _BASIC],
        values=values,
        seen=seen,
        has_services=has_services,
        wrong=wrong,
        open_more=any(name not in _BASIC for name in (*values, *filter(None, wrong))),
        nodes=await nodes.all(page.store),
    )


async def _change_toa(page: Page) -> Response:
    before = await settings_pages.base(page)
    said = tomllib.loads(before.text)
    values = form_values.read(page.posted, _FIELDS, before=said.get("toa", {}))
    try:
        text = settings_text.with_toa(
            before.text, {field.name: values.get(field.name) for field in _FIELDS}
        )
        if page.input("do") == "compare":
            return await settings_pages.compare(
                page, text, _why(said.get("toa", {}), values), "/toa"
            )
        return await settings_pages.save(page, text, _why(said.get("toa", {}), values), "/toa")
    except RefusedError as error:
        wrong = form_values.by_field(error.mistakes, "toa", _FIELDS)
        return await _show(page, values, before.number, bool(said.get("service")), wrong)


def _why(before: dict[str, Any], after: dict[str, Any]) -> str:
    """What the history says of a change."""
    usual = {field.name: field.default for field in _FIELDS}
    changes = [
        f"{name} = {_word(after.get(name, usual[name]))}"
        for name in usual
        if after.get(name, usual[name]) != before.get(name, usual[name])
    ]
    return f"toa: {', '.join(changes)}" if changes else ""


def _word(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, list | tuple) else str(value)


async def _applied(page: Page) -> Response:
    return page.show("toa_applied.html", nodes=await nodes.all(page.store))


async def _general(page: Page) -> Response:
    now = await settings.current(page.store)
    said = tomllib.loads(now.text)
    return _show_general(page, said, now.number, bool(said.get("service")), {})


def _show_general(
    page: Page, values: dict[str, Any], seen: int, has_services: bool, wrong: dict[str, list[str]]
) -> Response:
    return page.show(
        "general.html",
        422 if wrong else 200,
        fields=_GENERAL,
        values=values,
        seen=seen,
        has_services=has_services,
        wrong=wrong,
    )


async def _change_general(page: Page) -> Response:
    before = await settings_pages.base(page)
    said = tomllib.loads(before.text)
    values = form_values.read(page.posted, _GENERAL, before=said)
    try:
        text = settings_text.with_values(
            before.text, {field.name: values.get(field.name) for field in _GENERAL}
        )
        if mistakes := settings.check(text):
            raise RefusedError(*mistakes)
    except RefusedError as error:
        wrong = form_values.by_field(error.mistakes, "", _GENERAL)
        return _show_general(page, values, before.number, bool(said.get("service")), wrong)
    return await settings_pages.compare(page, text, "", "/general")
