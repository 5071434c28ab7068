# SPDX-License-Identifier: Apache-2.0
"""What operators do about nodes."""

from typing import Annotated

from msgspec import Meta, Struct

from cloud_toa.cluster.api.operation import Call, operation
from cloud_toa.cluster.model import nodes, tests
from cloud_toa.cluster.model.nodes import NewJoinToken, View
from cloud_toa.cluster.model.tests import QuickTest


class Uses(Struct, forbid_unknown_fields=True, kw_only=True):
    """How many nodes may join, and within how long."""

    uses: Annotated[int, Meta(ge=1, le=nodes.MOST_USES)] = 1
    minutes: Annotated[int, Meta(ge=1, le=7 * 1440)] = 60


class Drain(Struct, forbid_unknown_fields=True, kw_only=True):
    """Whether a node is to take no new connections."""

    drained: bool


class NodeToken(Struct, kw_only=True):
    """A node's own token, which is told once."""

    token: str


class WantedTest(Struct, forbid_unknown_fields=True, kw_only=True):
    """A connection to be made."""

    service: str
    client: str | None = None
    """The address that it comes from; one for documentation by default."""


class OfNode(Struct, forbid_unknown_fields=True, kw_only=True):
    """Tests of one node."""

    node: str | None = None


@operation("GET", "/api/nodes", "viewer")
async def every(call: Call[None, None]) -> list[View]:
    """Every node, by name."""
    return await nodes.all(call.store)


@operation("GET", "/api/nodes/{id}", "viewer", refusals=(404,))
async def one(call: Call[None, None]) -> View:
    """A node."""
    return await nodes.one(call.store, call.named("id"))


@operation("POST", "/api/nodes/join-tokens", "operator", status=201, refusals=(422,))
async def join_token(call: Call[Uses, None]) -> NewJoinToken:
    """A token that nodes can join with; it is told once."""
    return await nodes.join_token(
        call.store, call.by, uses=call.body.uses, seconds=call.body.minutes * 60.0
    )


@operation("PUT", "/api/nodes/{id}/drain", "operator", refusals=(404, 409, 422))
async def drain(call: Call[Drain, None]) -> View:
    """Have a node take no new connections, or take them again."""
    await nodes.drain(call.store, call.named("id"), call.body.drained, call.by)
    return await nodes.one(call.store, call.named("id"))


@operation("POST", "/api/nodes/{id}/token", "operator", status=201, refusals=(404, 409))
async def reissue(call: Call[None, None]) -> NodeToken:
    """Give a node another token: the former one is no longer good, its connection ends."""
    return NodeToken(token=await nodes.reissue(call.store, call.named("id"), call.by))


@operation("DELETE", "/api/nodes/{id}", "operator", refusals=(404, 409))
async def remove(call: Call[None, None]) -> None:
    """Forget a node; its token is no longer good. It serves on with the settings that it has."""
    await nodes.remove(call.store, call.named("id"), call.by)


@operation("POST", "/api/nodes/{id}/tests", "operator", status=201, refusals=(404, 422))
async def test(call: Call[WantedTest, None]) -> QuickTest:
    """Have a node make one connection through a service; the outcome is told by an event."""
    wish = call.body
    return await tests.ask(call.store, call.named("id"), wish.service, wish.client, call.by)


@operation("GET", "/api/tests", "viewer", refusals=(422,))
async def latest_tests(call: Call[None, OfNode]) -> list[QuickTest]:
    """Quick tests of the last hour, newest first."""
    return await tests.latest(call.store, call.query.node)


@operation("GET", "/api/tests/{id}", "viewer", refusals=(404,))
async def one_test(call: Call[None, None]) -> QuickTest:
    """A quick test, with its outcome once there is one."""
    return await tests.one(call.store, call.named("id"))
