# SPDX-License-Identifier: Apache-2.0
"""Who is asking, and whether he may.

A browser shows a session's cookie; a program shows a token, ``Authorization: Bearer ...``: of the
API, of a node, or to join. The cookie goes along by itself, also where a foreign page asks: so
whatever changes something also shows the page's token, in the header ``X-CSRF-Token`` or in the
form's field ``csrf``, and comes from a page of the same origin. `gate.Gate` sees to that for every
call, also those of the console's pages.

The console calls `who`, `require`, `page_token`, `log_in`, `log_out`, `set_cookie`,
`by_tls`.
"""

from dataclasses import dataclass, field
from typing import Literal

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from cloud_toa.cluster.api.cluster import Cluster, cluster_of
from cloud_toa.cluster.api.problem import refuse
from cloud_toa.cluster.model import api_tokens, attempts, nodes, people, sessions
from cloud_toa.cluster.model.nodes import Node
from cloud_toa.cluster.model.people import Role, User
from cloud_toa.cluster.model.values import By
from cloud_toa.cluster.store import UnavailableError

_SAFE = ("GET", "HEAD", "OPTIONS")
_COOKIE = "cloud-toa"
_SECURE_COOKIE = "__Host-cloud-toa"


@dataclass(frozen=True)
class Who:
    """The one who asks."""

    kind: Literal["user", "token", "node", "join"]
    name: str
    """For the audit log."""
    role: Role | None = None
    """Of users and API tokens."""
    user: User | None = None
    node: Node | None = None
    secret: str = field(default="", repr=False)
    """The token of the session, or the one to join with."""


def who(request: HTTPConnection) -> Who | None:
    """Who is asking, as the gate has found out; None: nobody that is known."""
    found: Who | None = request.state.who
    return found


def require(request: HTTPConnection, role: Role) -> Who:
    """Who is asking, if he may do what takes this role.

    Raises:
        ProblemError: 401 where nobody is logged in, 403 where the role is not enough.
    """
    asking = who(request)
    if asking is None:
        raise refuse(401, "log in, or show an API token", WWW_Authenticate="Bearer")
    if asking.role is None:
        raise refuse(403, f"this is not for a {asking.kind}'s token")
    if not people.may(asking.role, role):
        raise refuse(403, f"{asking.name} is {asking.role}: this takes {role}")
    return asking


def require_user(request: HTTPConnection) -> tuple[User, str]:
    """Who is logged in in a browser, and the token of the session.

    Raises:
        ProblemError: 401 where nobody is, 403 for API tokens.
    """
    asking = require(request, "viewer")
    if asking.user is None:
        raise refuse(403, "this is for somebody who is logged in, and not for tokens")
    return asking.user, asking.secret


def by(request: HTTPConnection) -> By:
    """Who is asking, for the audit log."""
    asking = who(request)
    return By(asking.name if asking else "", address(request))


def address(request: HTTPConnection) -> str:
    """Where a call comes from."""
    return request.client.host if request.client else ""


def by_tls(request: HTTPConnection) -> bool:
    """Whether the browser speaks TLS, to this server or to a proxy that it trusts.

    Cookies that it gets are then never sent without.
    """
    return bool(request.scope["scheme"] == "https")


def page_token(request: HTTPConnection) -> str:
    """What the page shows with each change: ``X-CSRF-Token`` or the form's field ``csrf``."""
    asking = who(request)
    return sessions.page_token(asking.secret) if asking and asking.user else ""


async def log_in(request: Request, name: str, password: str) -> str:
    """Log somebody in; answer the session's token, for `set_cookie`.

    Raises:
        ProblemError: 401: name or password are wrong.
        TooManyError: it was tried too often.
    """
    cluster = cluster_of(request)
    store, where = cluster.store, address(request)
    await attempts.take(store, name, where)
    user = await people.verified(store, name, password)
    if user is None:
        cluster.log.warning("a login as %.63r from %s failed", name, where)
        raise refuse(401, "name or password are wrong")
    await attempts.give_back(store, name, where)
    return await sessions.begin(store, user, instead_of=_cookie(request))


async def log_out(request: Request) -> None:
    """End the session that asks for it."""
    _, token = require_user(request)
    await sessions.end(cluster_of(request).store, token)


async def change_password(request: Request, current: str, new: str) -> str:
    """Give the one who asks another password; answer the token of his new session.

    Raises:
        ProblemError: 403: the current password is wrong.
        RefusedError: the new one can't be.
        TooManyError: it was tried too often.
    """
    user, token = require_user(request)
    store, where = cluster_of(request).store, address(request)
    await attempts.take(store, user.name, where)
    if await people.verified(store, user.name, current) is None:
        raise refuse(403, "the current password is wrong")
    await attempts.give_back(store, user.name, where)
    changed = await people.set_password(store, user.name, new, by(request))
    return await sessions.begin(store, changed, instead_of=token)


def set_cookie(response: Response, request: Request, token: str | None) -> None:
    """Have the browser keep a session's token; forget it where there is none."""
    secure = by_tls(request)
    name = _SECURE_COOKIE if secure else _COOKIE
    response.set_cookie(
        name,
        token or "",
        max_age=int(sessions.WHOLE) if token else 0,
        path="/",
        secure=secure,
        httponly=True,
        samesite="lax",
    )


async def identify(cluster: Cluster, request: HTTPConnection) -> Who | None:
    """Find out who is asking; None: nobody that is known.

    Raises:
        UnavailableError: the store is asked, and does not answer.
    """
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    if kind:
        return await _by_token(cluster, token.strip()) if kind.lower() == "bearer" else None
    cookie = _cookie(request)
    user = await sessions.of(cluster.store, cookie) if cookie else None
    if user is None or cookie is None:
        return None
    try:
        await sessions.touch(cluster.store, cookie)
    except UnavailableError:
        cluster.log.info("the last use of a session was not kept: the store is away")
    return Who("user", user.name, user.role, user=user, secret=cookie)


def check_origin(request: HTTPConnection) -> None:
    """See that a change is not asked for by a foreign page.

    Raises:
        ProblemError: 403: it is.
    """
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise refuse(403, "a page of another site asks for this")
    origin = request.headers.get("Origin")
    if origin is None:
        return
    scheme, _, host = origin.partition("://")
    # Behind a proxy that does not say that it ends TLS, pages are by https, and calls are not.
    if host != request.headers.get("Host") or (by_tls(request) and scheme != "https"):
        raise refuse(403, "a page of another site asks for this")


def changes_something(method: str) -> bool:
    """Whether a call of this method is more than a look."""
    return method not in _SAFE


async def _by_token(cluster: Cluster, token: str) -> Who | None:
    if token.startswith("node_"):
        node = await nodes.by_token(cluster.store, token)
        return Who("node", f"node:{node.name}", node=node) if node else None
    if token.startswith("join_"):
        return Who("join", "join", secret=token)
    found = await api_tokens.of(cluster.store, token)
    return Who("token", f"token:{found.name}", found.role) if found else None


def _cookie(request: HTTPConnection) -> str | None:
    return request.cookies.get(_SECURE_COOKIE if by_tls(request) else _COOKIE) or None
