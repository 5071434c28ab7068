# SPDX-License-Identifier: Apache-2.0
"""Users, API tokens, and the audit log."""

from typing import Annotated

from msgspec import Meta, Struct

from cloud_toa.cluster.api.operation import Call, operation
from cloud_toa.cluster.model import api_tokens, audit, people
from cloud_toa.cluster.model.audit import Record
from cloud_toa.cluster.model.people import Person, Role


class NewUser(Struct, forbid_unknown_fields=True, kw_only=True):
    """Somebody who is to log in."""

    name: str
    password: str
    role: Role


class NewRole(Struct, forbid_unknown_fields=True, kw_only=True):
    """Another role."""

    role: Role


class Password(Struct, forbid_unknown_fields=True, kw_only=True):
    """Another password."""

    password: str


class NewToken(Struct, forbid_unknown_fields=True, kw_only=True):
    """A token for a program."""

    name: str
    """What it is for."""
    role: Role
    days: Annotated[int, Meta(ge=1, le=3660)] | None = None
    """So long it is good; for ever by default."""


class Token(Struct, kw_only=True):
    """A token, and its text, which is told once."""

    token: str
    about: api_tokens.Shown


class AuditPart(Struct, forbid_unknown_fields=True, kw_only=True):
    """Which part of the audit log."""

    before: Annotated[float, Meta(ge=0, le=1e10)] | None = None
    """Only older records than this time, in seconds since 1970."""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


@operation("GET", "/api/users", "admin")
async def users(call: Call[None, None]) -> list[Person]:
    """Every user, by name."""
    return await people.all(call.store)


@operation("POST", "/api/users", "admin", status=201, refusals=(409, 422))
async def create_user(call: Call[NewUser, None]) -> Person:
    """A new user."""
    wish = call.body
    return await people.create(call.store, wish.name, wish.password, wish.role, call.by)


@operation("PUT", "/api/users/{name}/role", "admin", refusals=(404, 409, 422))
async def set_role(call: Call[NewRole, None]) -> Person:
    """Give a user another role: his sessions end."""
    return await people.set_role(call.store, call.named("name"), call.body.role, call.by)


@operation("PUT", "/api/users/{name}/password", "admin", refusals=(404, 409, 422))
async def set_password(call: Call[Password, None]) -> None:
    """Give a user another password: his sessions end."""
    await people.set_password(call.store, call.named("name"), call.body.password, call.by)


@operation("DELETE", "/api/users/{name}", "admin", refusals=(404, 409, 422))
async def remove_user(call: Call[None, None]) -> None:
    """Remove a user: his sessions end. The last administrator remains."""
    await people.remove(call.store, call.named("name"), call.by)


@operation("GET", "/api/tokens", "admin")
async def tokens(call: Call[None, None]) -> list[api_tokens.Shown]:
    """Every API token, oldest first."""
    return await api_tokens.all(call.store)


@operation("POST", "/api/tokens", "admin", status=201, refusals=(422,))
async def create_token(call: Call[NewToken, None]) -> Token:
    """A new API token."""
    wish = call.body
    token, text = await api_tokens.create(call.store, wish.name, wish.role, call.by, days=wish.days)
    return Token(token=text, about=api_tokens.shown(token))


@operation("DELETE", "/api/tokens/{id}", "admin", refusals=(404, 409))
async def remove_token(call: Call[None, None]) -> None:
    """Have an API token no longer be good."""
    await api_tokens.remove(call.store, call.named("id"), call.by)


@operation("GET", "/api/audit", "operator", refusals=(422,))
async def log(call: Call[None, AuditPart]) -> list[Record]:
    """Who changed what, newest first."""
    return await audit.latest(call.store, before=call.query.before, limit=call.query.limit)
