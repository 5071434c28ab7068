# SPDX-License-Identifier: Apache-2.0
"""What operators look at: run logs, rates, and events as they come."""

import time
from typing import Annotated, Literal

from msgspec import Meta, Struct
from starlette.responses import Response

from cloud_toa.cluster.api import access
from cloud_toa.cluster.api.operation import Call, operation
from cloud_toa.cluster.api.problem import refuse
from cloud_toa.cluster.api.streams import EventStream
from cloud_toa.cluster.model import logs, nodes, samples
from cloud_toa.cluster.model.logs import Filter, NodeLine
from cloud_toa.cluster.model.samples import Series

Time = Annotated[float, Meta(ge=0, le=1e11)]
Word = Annotated[str, Meta(max_length=200)]
Level = Literal["debug", "info", "warning", "error"]
_MOST_POINTS = 1500


class Lines(Struct, forbid_unknown_fields=True, kw_only=True):
    """Which lines of run logs."""

    node: Word = ""
    """A node's id; all where it is left out."""
    level: Level = "debug"
    """This one and worse ones."""
    tag: Word = ""
    word: Word = ""
    """In the text, capital or not."""
    since: Time = 0.0
    until: Time = 1e11
    limit: Annotated[int, Meta(ge=1, le=5000)] = 200


class Range(Struct, forbid_unknown_fields=True, kw_only=True):
    """Which rates."""

    node: Word = ""
    """A node's id; the whole cluster where it is left out."""
    service: Word = ""
    """A service's name; all together where it is left out."""
    minutes: Annotated[int, Meta(ge=1, le=1440)] = 60
    until: Time | None = None
    """The end of the range; now by default."""
    step: Annotated[int, Meta(ge=10, le=3600)] = 30
    """Seconds between two points."""


class Followed(Struct, forbid_unknown_fields=True, kw_only=True):
    """What is to be followed beside settings, nodes and tests."""

    log: bool = False
    """Run logs, those that the rest lets pass."""
    node: Word = ""
    level: Level = "debug"
    tag: Word = ""
    word: Word = ""


@operation("GET", "/api/logs", "viewer", refusals=(404, 422))
async def log(call: Call[None, Lines]) -> list[NodeLine]:
    """The last lines of nodes' run logs that are wanted, oldest first."""
    wish = call.query
    if wish.node:
        await nodes.known(call.store, wish.node)
        ids = [wish.node]
    else:
        ids = [node.id for node in await nodes.all(call.store)]
    wanted = Filter(
        node=wish.node,
        level=wish.level,
        tag=wish.tag,
        word=wish.word,
        since=wish.since,
        until=wish.until,
    )
    return await logs.latest(call.store, ids, wanted, wish.limit)


@operation("GET", "/api/samples", "viewer", refusals=(404, 422))
async def rates(call: Call[None, Range]) -> Series:
    """Rates over a range, of the cluster, a node or a service."""
    wish = call.query
    if wish.minutes * 60 / wish.step > _MOST_POINTS:
        raise refuse(422, f"that would be more than {_MOST_POINTS} points: take a longer step")
    until = wish.until or time.time()
    # Points lie at multiples of the step, so that a chart does not flicker as time goes on.
    until = until // wish.step * wish.step
    since = until - wish.minutes * 60
    if wish.node:
        await nodes.known(call.store, wish.node)
        return await samples.of_node(
            call.store,
            wish.node,
            since=since,
            until=until,
            step=wish.step,
            service=wish.service,
        )
    return await samples.of_cluster(
        call.store, since=since, until=until, step=wish.step, service=wish.service
    )


@operation("GET", "/api/events", "viewer", refusals=(422,), media_type="text/event-stream")
async def events(call: Call[None, Followed]) -> Response:
    """Changes as they come: events settings, node, removed, test, log, gap, with JSON."""
    request, cluster, wish = call.request, call.cluster, call.query

    async def good() -> bool:
        who = await access.identify(cluster, request)
        return who is not None and (who.name, who.role) == (call.who.name, call.who.role)

    wanted = Filter(node=wish.node, level=wish.level, tag=wish.tag, word=wish.word)
    return EventStream(cluster.consoles.open(wanted if wish.log else None, good))
