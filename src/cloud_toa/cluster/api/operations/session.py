# SPDX-License-Identifier: Apache-2.0
"""Logging in and out, and what belongs to the one who is logged in."""

import msgspec
from msgspec import Struct
from starlette.responses import Response

from cloud_toa.cluster.api import access
from cloud_toa.cluster.api.operation import Call, operation
from cloud_toa.cluster.model import attempts, people, sessions
from cloud_toa.cluster.model.people import Language, Person, Role


class Login(Struct, forbid_unknown_fields=True, kw_only=True):
    """Name and password."""

    name: str
    password: str


class SetUp(Struct, forbid_unknown_fields=True, kw_only=True):
    """The first administrator."""

    token: str
    """Of the set-up link."""
    name: str
    password: str


class Me(Struct, kw_only=True):
    """The one who asks."""

    name: str
    role: Role
    language: Language = ""
    csrf: str = ""
    """To be shown as X-CSRF-Token with each change; empty for API tokens, which need none."""


class NewPassword(Struct, forbid_unknown_fields=True, kw_only=True):
    """Another password."""

    current: str
    new: str


class NewLanguage(Struct, forbid_unknown_fields=True, kw_only=True):
    """Another language."""

    language: Language


@operation("POST", "/api/login", "anybody", refusals=(401, 422, 429))
async def log_in(call: Call[Login, None]) -> Me:
    """Log in: a session begins, whose cookie the answer sets."""
    token = await access.log_in(call.request, call.body.name, call.body.password)
    user = await people.one(call.store, call.body.name)
    return _with_cookie(call, token, user)  # type: ignore[return-value]


@operation("POST", "/api/logout", "viewer", refusals=(403,))
async def log_out(call: Call[None, None]) -> None:
    """Log out: the session ends."""
    await access.log_out(call.request)
    response = Response(status_code=204)
    access.set_cookie(response, call.request, None)
    return response  # type: ignore[return-value]


@operation("POST", "/api/setup", "anybody", refusals=(403, 422, 429))
async def set_up(call: Call[SetUp, None]) -> Person:
    """Make the first administrator, with the token of the link that the first start printed."""
    where = access.address(call.request)
    await attempts.take(call.store, "set-up", where)
    wish = call.body
    made = await people.set_up(call.store, wish.token, wish.name, wish.password, where)
    await attempts.give_back(call.store, "set-up", where)
    return made


@operation("GET", "/api/me", "viewer")
async def me(call: Call[None, None]) -> Me:
    """Who asks, and what role he has."""
    who = call.who
    assert who.role is not None
    return Me(
        name=who.name,
        role=who.role,
        language=who.user.language if who.user else "",
        csrf=access.page_token(call.request),
    )


@operation("PUT", "/api/me/password", "viewer", refusals=(403, 409, 422, 429))
async def change_password(call: Call[NewPassword, None]) -> Me:
    """Change one's own password: all sessions end, and a new one begins here."""
    token = await access.change_password(call.request, call.body.current, call.body.new)
    user = await people.one(call.store, call.who.name)
    return _with_cookie(call, token, user)  # type: ignore[return-value]


@operation("PUT", "/api/me/language", "viewer", refusals=(403, 409, 422))
async def change_language(call: Call[NewLanguage, None]) -> None:
    """Have one's own pages in another language; empty: what the browser asks for."""
    user, _ = access.require_user(call.request)
    await people.set_language(call.store, user.name, call.body.language)


def _with_cookie(
    call: Call[Login, None] | Call[NewPassword, None], token: str, user: people.User
) -> Response:
    answer = Me(
        name=user.name,
        role=user.role,
        language=user.language,
        csrf=sessions.page_token(token),
    )
    response = Response(msgspec.json.encode(answer), media_type="application/json")
    access.set_cookie(response, call.request, token)
    return response
