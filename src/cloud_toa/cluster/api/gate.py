# SPDX-License-Identifier: Apache-2.0
"""What every call passes, whatever it is for: so that a route can't forget it.

Calls by a name that is not this server's are refused, which is what a page does that has its own
name point here. Nobody passes without login, but to `OPEN`. What changes something by a session
shows the page's token. Bodies have a largest size.
"""

from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import parse_qs, quote

from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud_toa.cluster.api import access, problem
from cloud_toa.cluster.api.cluster import cluster_of
from cloud_toa.cluster.api.problem import ProblemError, refuse
from cloud_toa.cluster.model import random_tokens, sessions

OPEN = ("/health", "/login", "/setup", "/api/login", "/api/setup")
"""What is answered without login; and ``/static/``: no page of somebody's data."""
LARGEST = 1_000_000
"""Bytes of a body."""
_DRAINED = 20 * LARGEST
"""Bytes that are read and thrown away, so that the refusal is heard."""
_FORM = "application/x-www-form-urlencoded"


class Gate:
    """In front of all routes.

    Args:
        app: what is behind it.
        shown: how a refusal is answered.
    """

    def __init__(self, app: ASGIApp, shown: Callable[[Request, ProblemError], Response]) -> None:
        self._app = app
        self._shown = shown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a call pass, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        request.state.who = None
        try:
            receive = await self._let(request, receive)
        except Exception as error:
            writes = access.changes_something(scope["method"])
            refused = problem.of(error, writes)
            if refused.problem.status == 500:
                raise
            answer = _to_login(request, refused) or self._shown(request, refused)
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _let(self, request: HTTPConnection, receive: Receive) -> Receive:
        cluster = cluster_of(request)
        method, path = request.scope["method"], request.url.path
        receive = _limited(receive)
        # A load balancer's check is HTTP/1.0 as a rule, and no browser leaves ``Host`` out.
        if path != "/health" or "Host" in request.headers:
            _check_host(request, cluster.options.hosts)
        if path == "/health":
            return receive
        is_open = path in OPEN or path.startswith("/static/")
        request.state.who = who = await access.identify(cluster, request)
        if who is None and not is_open:
            raise refuse(401, "log in, or show a token that is good", WWW_Authenticate="Bearer")
        if access.changes_something(method) and (who is None or who.user is not None):
            access.check_origin(request)
            if who is not None and not is_open:
                receive = await _check_page(request, who.secret, receive)
        return receive


def _check_host(request: HTTPConnection, known: tuple[str, ...]) -> None:
    host = request.headers.get("Host", "")
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    name = name.strip("[]").rstrip(".").lower()
    try:
        ip_address(name)
    except ValueError:
        parent = f"*.{name.partition('.')[2]}"
        if name != "localhost" and name not in known and parent not in known:
            raise refuse(
                421, f"this server is not known as {host[:80]!r}: start it with --host NAME"
            ) from None


async def _check_page(request: HTTPConnection, session: str, receive: Receive) -> Receive:
    """See that a change is asked for by a page of this session; answer the body once more."""
    shown = request.headers.get("X-CSRF-Token")
    if shown is None and request.headers.get("Content-Type", "").lower().startswith(_FORM):
        body = await _whole(receive)
        shown = parse_qs(body.decode(errors="replace")).get("csrf", [""])[0]
        receive = _again(body, receive)
    if not random_tokens.equal(shown or "", sessions.page_token(session)):
        raise refuse(403, "the page is too old, or not of this console: load it again")
    return receive


def _limited(receive: Receive) -> Receive:
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > LARGEST:
            # Who is still sending would not hear an answer: the kernel resets what is not read.
            while message.get("more_body", False) and seen < _DRAINED:
                message = await receive()
                seen += len(message.get("body", b""))
            raise refuse(413, f"send {LARGEST} bytes at most", Connection="close")
        return message

    return counted


async def _whole(receive: Receive) -> bytes:
    body: bytes = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect  # half a form is none
        body += bytes(message.get("body", b""))
        if not message.get("more_body", False):
            return body


def _again(body: bytes, receive: Receive) -> Receive:
    told = False

    async def first_the_body() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return first_the_body


def _to_login(request: HTTPConnection, refused: ProblemError) -> Response | None:
    """A browser that is at a page is led to the login."""
    path = request.url.path
    a_page = "text/html" in request.headers.get("Accept", "")
    if refused.problem.status != 401 or not a_page or path.startswith(("/api/", "/node/")):
        return None
    if request.headers.get("HX-Request"):
        return Response(status_code=401, headers={"HX-Redirect": "/login"})
    if not access.changes_something(request.scope["method"]):
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"/login?next={quote(path + query, safe='')}", 303)
    return RedirectResponse("/login", 303)
