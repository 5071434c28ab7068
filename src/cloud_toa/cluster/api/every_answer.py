# SPDX-License-Identifier: Apache-2.0
"""What every answer has: headers for browsers, and a line in the access log.

The log has methods, paths and names; no queries, tokens or bodies, which may be secret.
"""

import logging
import time

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = logging.getLogger("cloud_toa.cluster.access")

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
_BY_TLS = {"Strict-Transport-Security": "max-age=31536000"}


class EveryAnswer:
    """Around everything else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 500
        scope.setdefault("state", {})
        more = _BY_TLS if scope["scheme"] == "https" else {}

        async def send_more(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in (_HEADERS | more).items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_more)
        finally:
            self._tell(scope, status, time.monotonic() - began)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        # As it came, percent signs and all: a path can't begin a line of its own.
        path = scope.get("raw_path", b"").partition(b"?")[0].decode("ascii", "replace")
        # A thousand nodes say how they are each quarter of a minute.
        level = logging.DEBUG if path.startswith("/node/") and status < 400 else logging.INFO
        who = scope["state"].get("who")
        _log.log(
            level,
            "%s %.200s %d %.1f ms %s %s",
            scope["method"],
            path,
            status,
            seconds * 1000,
            who.name if who else "-",
            (scope.get("client") or ("-",))[0],
        )
