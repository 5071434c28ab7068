# SPDX-License-Identifier: Apache-2.0
"""One call of the API: its method and path, who may make it, what it takes and answers.

Routes and the OpenAPI description are both made from `Operation.all`, so neither can have what the
other has not. What a function takes and answers is read from its annotations: ``Call[Body, Query]``
and the struct it returns.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, get_args, get_type_hints

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cloud_toa.cluster.api import access, problem
from cloud_toa.cluster.api.access import Who
from cloud_toa.cluster.api.cluster import Cluster, cluster_of
from cloud_toa.cluster.api.problem import refuse
from cloud_toa.cluster.model.nodes import Node
from cloud_toa.cluster.model.people import Role
from cloud_toa.cluster.model.values import By
from cloud_toa.cluster.store.mirror import Mirror

Caller = Literal["anybody", "join", "node", "viewer", "operator", "admin"]
Body = TypeVar("Body")
Query = TypeVar("Query")


@dataclass(frozen=True)
class Call(Generic[Body, Query]):
    """What is asked, by whom."""

    request: Request
    cluster: Cluster
    body: Body
    query: Query

    @property
    def store(self) -> Mirror:
        """The cluster's."""
        return self.cluster.store

    @property
    def by(self) -> By:
        """Who asks, for the audit log."""
        return access.by(self.request)

    @property
    def who(self) -> Who:
        """Who asks."""
        found = access.who(self.request)
        assert found is not None
        return found

    @property
    def node(self) -> Node:
        """The node that asks."""
        node = self.who.node
        assert node is not None
        return node

    def named(self, what: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[what])


Function = Callable[[Any], Awaitable[Any]]


@dataclass(frozen=True)
class Operation:
    """See the module."""

    method: str
    path: str
    caller: Caller
    function: Function
    body: type | None
    query: type | None
    answer: Any
    """None: there is nothing to say. `Response`: it says so itself, as ``media_type``."""
    status: int
    refusals: tuple[int, ...]
    media_type: str

    @property
    def summary(self) -> str:
        """The first line of what the function says of itself."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @property
    def name(self) -> str:
        """As the description calls it."""
        module = self.function.__module__.rpartition(".")[2]
        return f"{module}.{self.function.__name__}"

    async def answered(self, request: Request) -> Response:
        """The answer to a call."""
        _let(request, self.caller)
        call = Call(
            request,
            cluster_of(request),
            body=None if self.body is None else await _body(request, self.body),
            query=None if self.query is None else _query(request, self.query),
        )
        answer = await self.function(call)
        if isinstance(answer, Response):
            return answer
        if self.answer is None:
            return Response(status_code=204)
        return Response(msgspec.json.encode(answer), self.status, media_type=self.media_type)


def operation(
    method: str,
    path: str,
    caller: Caller,
    *,
    status: int = 200,
    refusals: tuple[int, ...] = (),
    media_type: str = "application/json",
) -> Callable[[Function], Operation]:
    """Make an operation of a function."""

    def made(function: Function) -> Operation:
        hints = get_type_hints(function, include_extras=True)
        answer = hints["return"]
        body, query = get_args(hints["call"])
        return Operation(
            method=method,
            path=path,
            caller=caller,
            function=function,
            body=None if body is type(None) else body,
            query=None if query is type(None) else query,
            answer=None if answer is type(None) else answer,
            status=204 if answer is type(None) else status,
            refusals=refusals,
            media_type=media_type,
        )

    return made


def routes(operations: Sequence[Operation]) -> list[Route]:
    """As the server has them: one for each path, which knows all its methods."""
    paths: dict[str, dict[str, Operation]] = {}
    for each in operations:
        paths.setdefault(each.path, {})[each.method] = each
    return [_route(path, methods) for path, methods in paths.items()]


def _route(path: str, methods: Mapping[str, Operation]) -> Route:
    async def answered(request: Request) -> Response:
        # HEAD is GET without the body, which the server leaves off.
        method = "GET" if request.method == "HEAD" else request.method
        return await methods[method].answered(request)

    return Route(path, answered, methods=list(methods))


def _let(request: Request, caller: Caller) -> None:
    """See that the caller may.

    Raises:
        ProblemError: he may not.
    """
    if caller == "anybody":
        return
    who = access.who(request)
    if caller in ("join", "node"):
        if who is None or who.kind != caller:
            what = "a join token" if caller == "join" else "a node's token"
            status = 401 if who is None else 403
            raise refuse(status, f"show {what}", WWW_Authenticate="Bearer")
        return
    role: Role = caller  # type: ignore[assignment]
    access.require(request, role)


async def _body(request: Request, kind: type) -> object:
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise refuse(415, "send JSON, with Content-Type: application/json")
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except msgspec.ValidationError as error:
        raise problem.of_validation(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise refuse(400, f"the body is no JSON: {error}") from None


def _query(request: Request, kind: type) -> object:
    try:
        return msgspec.convert(dict(request.query_params), kind, strict=False)
    except msgspec.ValidationError as error:
        raise problem.of_validation(error) from None
