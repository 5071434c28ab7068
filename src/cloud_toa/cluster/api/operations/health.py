# SPDX-License-Identifier: Apache-2.0
"""Whether this server can answer, for load balancers; and how to ask it, for programs."""

import asyncio
from typing import Any

import msgspec
from msgspec import Struct
from starlette.responses import Response

from cloud_toa.cluster.api.operation import Call, operation
from cloud_toa.cluster.store import UnavailableError

_PATIENCE = 2.0


class Health(Struct, kw_only=True):
    """Whether there is a store behind it."""

    server: str
    store: str
    """``ok``, or ``away``: then nodes get their last settings, and nothing can be saved."""


@operation("GET", "/health", "anybody", refusals=(503,))
async def health(call: Call[None, None]) -> Health:
    """Whether the server and its store answer: 200 if both do, else 503."""
    try:
        async with asyncio.timeout(_PATIENCE):
            await call.store.store.get("settings")
    except (UnavailableError, TimeoutError):
        away = msgspec.json.encode(Health(server="ok", store="away"))
        return Response(away, 503, media_type="application/json")  # type: ignore[return-value]
    return Health(server="ok", store="ok")


@operation("GET", "/api/openapi.json", "viewer")
async def description(call: Call[None, None]) -> dict[str, Any]:  # noqa: ARG001
    """How to ask this server, as OpenAPI 3.1."""
    # Here, as the description is of all operations, this one too.
    from cloud_toa.cluster.api import openapi, operations  # noqa: PLC0415

    return openapi.describe(operations.ALL)
