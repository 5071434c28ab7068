# SPDX-License-Identifier: Apache-2.0
"""All pages, as the API server takes them in."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount

from cloud_toa.cluster.api.problem import Problem
from cloud_toa.cluster.api.server import Pages
from cloud_toa.cluster.console import (
    dashboard_pages,
    entry_pages,
    live,
    log_pages,
    node_pages,
    page,
    people_pages,
    quick_test_pages,
    service_pages,
    settings_pages,
    static,
    toa_pages,
)

_MODULES = (
    entry_pages,
    dashboard_pages,
    live,
    log_pages,
    node_pages,
    people_pages,
    quick_test_pages,
    service_pages,
    settings_pages,
    toa_pages,
)
_REMEDIES = {403: "error.ask_admin", 503: "error.store_away"}


def pages() -> Pages:
    """The console."""
    routes = [route for module in _MODULES for route in module.routes()]
    return Pages([*routes, Mount("/static", static.Static())], _refusal)


def _refusal(request: Request, problem: Problem) -> Response:
    """The page that says why another was not shown."""
    asked = page.of(request)
    template = "error.html" if asked.who and asked.who.role else "error_alone.html"
    return asked.show(
        template,
        problem.status,
        message=problem.detail,
        remedy=_REMEDIES.get(problem.status, ""),
        kept="",
        back="/",
    )
