# SPDX-License-Identifier: Apache-2.0
"""ASGI: the connection's client in ``scope["client"]``.

ASGI does not name the socket. But uvicorn's ``receive`` is a method of an object
that has the connection's ``transport``, for HTTP and WebSocket, in each of its
implementations; gunicorn's ASGI worker has it one step further, at the
``protocol``. asyncio's transports, and uvloop's, tell their socket. Where a server
does otherwise, the scope stays as it is.

So this must be the outermost middleware, ``app = ToaMiddleware(app)``: any other
may pass a ``receive`` of its own. uvicorn's own for ``X-Forwarded-For`` lies
outside still and passes the server's; what it wrote is replaced where there is a
TOA. (uvicorn's log level ``trace`` wraps ``receive`` and hides the transport.)

With the eBPF receiver attached, uvicorn knows the client by itself, except an IPv6
client of an IPv4 listener. Without, prepare the listener before uvicorn has it::

    saved_syn.prepare(listener, trust=["192.0.2.0/24"])
    uvicorn.Server(uvicorn.Config(ToaMiddleware(app))).run(sockets=[listener])

Source: the ASGI specification, HTTP and WebSocket connection scopes.
"""

from asyncio import BaseTransport
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from cloud_toa.option import Client
from cloud_toa.origin.client import client_of

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PEER = "cloud_toa.peer"
"""The scope's key for what ``client`` was before; absent where nothing was changed."""


class ToaMiddleware:
    """Sets ``scope["client"]`` to the client's ``(host, port)`` where an edge named it.

    The port is the scope's own (0 without one) where the option's layout has none.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection; the client is asked for when its request arrives."""
        if scope["type"] in {"http", "websocket"} and (client := _client(receive)) is not None:
            before = scope.get("client")
            port = client.port or (before[1] if before else 0)
            scope[PEER] = before
            # In place, not in a copy: uvicorn's access log reads this very scope, and
            # formats the client with %, which takes a tuple and no list.
            scope["client"] = (str(client.ip), port)
        await self.app(scope, receive, send)


def _client(receive: Receive) -> Client | None:
    transport = _transport(receive)
    if transport is None or (conn := transport.get_extra_info("socket")) is None:
        return None
    # uvloop's transport for TLS can't be referenced weakly; the SSLObject can.
    owner = transport.get_extra_info("ssl_object") or transport
    try:
        return client_of(conn, owner)
    except OSError:
        return None  # the client has hung up, and the socket is closed


def _transport(receive: Receive) -> BaseTransport | None:
    request = getattr(receive, "__self__", None)
    for holder in (request, getattr(request, "protocol", None)):
        transport: BaseTransport | None = getattr(holder, "transport", None)
        if transport is not None:
            return transport
    return None
