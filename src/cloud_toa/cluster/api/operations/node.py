# SPDX-License-Identifier: Apache-2.0
"""What nodes ask: see ``cluster/model/protocol.py``. Each can ask about itself alone."""

from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.responses import Response

from cloud_toa.cluster.api import access
from cloud_toa.cluster.api.operation import Call, operation
from cloud_toa.cluster.api.problem import refuse
from cloud_toa.cluster.api.streams import EventStream
from cloud_toa.cluster.model import node_state, nodes, tests
from cloud_toa.cluster.model.protocol import (
    Join,
    Joined,
    Line,
    Outcome,
    Sample,
    Settings,
    Status,
)

_LARGEST_STATUS = 200_000
"""Bytes."""

Lines = Annotated[list[Line], Meta(max_length=500)]
Samples = Annotated[list[Sample], Meta(max_length=30)]


@operation("POST", "/node/join", "join", status=201, refusals=(409, 422))
async def join(call: Call[Join, None]) -> Joined:
    """Join the cluster, by a join token: the node's id, and a token of its own."""
    where = access.address(call.request)
    async with call.cluster.joining:
        return await nodes.join(call.store, call.who.secret, call.body, where)


@operation("GET", "/node/events", "node", media_type="text/event-stream")
async def events(call: Call[None, None]) -> Response:
    """What the node is to do, as it comes: events settings and test."""
    return EventStream(await call.cluster.nodes.open(call.node))


@operation("GET", "/node/settings", "node")
async def settings(call: Call[None, None]) -> Settings:
    """What the node is to run; with ETag and If-None-Match."""
    told = call.cluster.nodes.settings(call.node.drained)
    tag = f'"{told.revision}{"d" if told.drained else ""}"'
    headers = {"ETag": tag}
    asked = call.request.headers.get("If-None-Match", "")
    if tag in [each.strip().removeprefix("W/") for each in asked.split(",")]:
        return Response(status_code=304, headers=headers)  # type: ignore[return-value]
    return Response(  # type: ignore[return-value]
        msgspec.json.encode(told), headers=headers, media_type="application/json"
    )


@operation("PUT", "/node/status", "node", refusals=(413, 422))
async def status(call: Call[Status, None]) -> None:
    """Say how the node is: at each change, and every 15 seconds."""
    if len(await call.request.body()) > _LARGEST_STATUS:
        raise refuse(413, f"a status has {_LARGEST_STATUS} bytes at most")
    await call.cluster.statuses.keep(call.node.id, call.body)


@operation("POST", "/node/logs", "node", refusals=(413, 422, 429))
async def log(call: Call[Lines, None]) -> None:
    """Lines of the node's run log."""
    if call.body:
        await call.cluster.logs.keep(call.node.id, call.body, await _ahead(call))


@operation("POST", "/node/samples", "node", refusals=(409, 413, 422))
async def rates(call: Call[Samples, None]) -> None:
    """Rates, one every ten seconds."""
    kept = await call.cluster.samples.keep(call.node.id, call.body, await _ahead(call))
    call.cluster.totals.add(kept)


@operation("PUT", "/node/tests/{id}", "node", refusals=(404, 409, 413, 422))
async def outcome(call: Call[Outcome, None]) -> None:
    """What became of a quick test that the node was asked for."""
    await tests.finish(call.store, call.named("id"), call.node.id, call.body)


async def _ahead(call: Call[list[Line], None] | Call[list[Sample], None]) -> float:
    """Seconds by which the node's clock is ahead, as its last status shows it."""
    entry = await call.store.get(f"status/{call.node.id}")
    heard = msgspec.json.decode(entry.value, type=nodes.Heard) if entry else None
    return node_state.skew(heard.status, heard.time) if heard else 0.0
