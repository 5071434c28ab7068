# SPDX-License-Identifier: Apache-2.0
"""The server as a whole: routes behind the gate, and the process that answers."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from cloud_toa.cluster.api import access, operation, operations, problem
from cloud_toa.cluster.api.cluster import Cluster
from cloud_toa.cluster.api.every_answer import EveryAnswer
from cloud_toa.cluster.api.forwarded import Forwarded
from cloud_toa.cluster.api.gate import Gate
from cloud_toa.cluster.api.problem import TITLES, Problem, ProblemError
from cloud_toa.errors import ToaError

_log = logging.getLogger(__name__)

_NO_SUCH = {404: "there is nothing at this path", 405: "this path has no such method"}


@dataclass(frozen=True)
class Pages:
    """The console, which stands above this part and is therefore handed in.

    Its routes are behind the gate as all others; see `access` for who asks.
    """

    routes: Sequence[BaseRoute]
    refusal: Callable[[Request, Problem], Response]
    """The page that tells a browser why it was refused; of the same status."""


def app(cluster: Cluster, pages: Pages | None = None) -> ASGIApp:
    """The application, of a cluster that was started."""

    async def refused(request: Request, error: Exception) -> Response:
        return shown(request, _problem(request, error))

    def shown(request: Request, found: ProblemError) -> Response:
        path = request.url.path
        for_people = "text/html" in request.headers.get("Accept", "")
        if pages is not None and for_people and not path.startswith(("/api/", "/node/")):
            response = pages.refusal(request, found.problem)
            response.headers.update(found.headers)
            return response
        return problem.response(found)

    made = Starlette(
        routes=[
            *operation.routes(operations.ALL),
            *(pages.routes if pages else ()),
        ],
        middleware=[Middleware(Gate, shown=shown)],
        exception_handlers={
            HTTPException: refused,
            ProblemError: refused,
            ToaError: refused,
            ClientDisconnect: refused,
            Exception: refused,
        },
    )
    made.router.redirect_slashes = False
    made.state.cluster = cluster
    # Outside of all, so that an answer to a fault of ours has what every answer has.
    return Forwarded(EveryAnswer(made), cluster.options.proxies)


def _problem(request: Request, error: Exception) -> ProblemError:
    if isinstance(error, HTTPException):
        detail = _NO_SUCH.get(error.status_code, error.detail)
        title = TITLES.get(error.status_code, error.detail)
        return ProblemError(
            Problem(status=error.status_code, title=title, detail=detail), error.headers
        )
    found = problem.of(error, access.changes_something(request.method))
    if found.problem.status == 500:
        _log.error("%s %s", request.method, request.url.path, exc_info=error)
    return found
