# SPDX-License-Identifier: Apache-2.0
"""The first page: how much passes, and what a new cluster still needs."""

import time
import tomllib
from typing import Any
from urllib.parse import urlencode

from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from cloud_toa.cluster.console.page import Page, route
from cloud_toa.cluster.model import nodes, samples, settings
from cloud_toa.cluster.model.nodes import View
from cloud_toa.cluster.model.samples import Point, Series

_RANGES = {"15m": (900, 10), "1h": (3600, 30), "6h": (21600, 120), "24h": (86400, 600)}
"""By name: seconds, and seconds between two points."""
_USUAL = "1h"
_LATE = 15.0
"""Seconds after which every node has told of a slot of ten."""


def routes() -> list[BaseRoute]:
    """The page, the part of it that changes, and what its charts show."""
    return [
        route("GET", "/", "viewer", _dashboard),
        route("GET", "/dashboard/figures", "viewer", _figures),
        route("GET", "/dashboard/data", "viewer", _data),
    ]


async def _dashboard(page: Page) -> Response:
    text = (await settings.current(page.store)).text
    names = [each["name"] for each in tomllib.loads(text).get("service", [])]
    views = await nodes.all(page.store)
    node, service, span = _asked(page, views, names)
    return page.show(
        "dashboard.html",
        **await _shown(page, views, node, service),
        has_services=bool(names),
        query=urlencode({"range": span, "node": node, "service": service}),
        range=span,
        node=node,
        service=service,
        ranges=[(each, page.t(f"range.{each}")) for each in _RANGES],
        node_choices=[("", page.t("dashboard.all")), *((each.id, each.name) for each in views)],
        service_choices=[("", page.t("dashboard.all")), *((name, name) for name in names)],
    )


async def _figures(page: Page) -> Response:
    views = await nodes.all(page.store)
    node, service, _ = _asked(page, views, None)
    return page.show("dashboard_figures.html", **await _shown(page, views, node, service))


def _asked(page: Page, views: list[View], names: list[str] | None) -> tuple[str, str, str]:
    """Of which node and service, over which range; what is not there counts as not asked."""
    node, service = page.query.get("node", ""), page.query.get("service", "")
    span = page.query.get("range", _USUAL)
    return (
        node if any(each.id == node for each in views) else "",
        service if names is None or service in names else "",
        span if span in _RANGES else _USUAL,
    )


async def _shown(page: Page, views: list[View], node: str, service: str) -> dict[str, Any]:
    last = await _last(page, node, service)
    chosen = [each for each in views if not node or each.id == node]
    return {
        "nodes": views,
        "online": sum(each.state != "offline" for each in views),
        "failed": sum(each.state == "failed" for each in views),
        "current": sum(_current(each, service) for each in chosen if each.state != "offline"),
        "last": last,
        "share": _share(last),
    }


def _current(view: View, service: str) -> int:
    services = view.status.services if view.status else {}
    if service:
        return services[service].current if service in services else 0
    return sum(counts.current for name, counts in services.items() if name)


async def _last(page: Page, node: str, service: str) -> Point | None:
    until = (time.time() - _LATE) // samples.SECONDS * samples.SECONDS
    series = await _series(page, node, service, since=until - 60, until=until, step=10)
    return series.points[-1] if series.points else None


async def _data(page: Page) -> Response:
    views = await nodes.all(page.store)
    node, service, span = _asked(page, views, None)
    seconds, step = _RANGES[span]
    until = (time.time() - _LATE) // step * step
    series = await _series(page, node, service, since=until - seconds, until=until, step=step)
    return JSONResponse(_columns(series))


async def _series(
    page: Page, node: str, service: str, *, since: float, until: float, step: float
) -> Series:
    if node:
        return await samples.of_node(
            page.store, node, since=since, until=until, step=step, service=service
        )
    return await samples.of_cluster(
        page.store, since=since, until=until, step=step, service=service
    )


def _columns(series: Series) -> dict[str, list[float | None]]:
    """A list for each line of a chart, with nothing where nobody has said anything."""
    found = {round(point.time): point for point in series.points}
    count = round((series.end - series.begin) / series.step)
    times = [round(series.begin + place * series.step) for place in range(count)]
    points = [found.get(at) for at in times]
    return {
        "time": [float(at) for at in times],
        "connections": [each.connections if each else None for each in points],
        "bytes": [each.bytes if each else None for each in points],
        "share": [_share(each) for each in points],
    }


def _share(point: Point | None) -> float | None:
    if point is None or point.with_toa is None or point.without_toa is None:
        return None
    total = point.with_toa + point.without_toa
    return point.with_toa / total if total else None
