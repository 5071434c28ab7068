# SPDX-License-Identifier: Apache-2.0
"""Tokens for programs that call the API: each with a role of its own, whoever made it."""

import time

from msgspec import Struct

from cloud_toa.cluster.model import audit, random_tokens
from cloud_toa.cluster.model.people import Role
from cloud_toa.cluster.model.values import By, MissingError, Mistake, RefusedError, put, read
from cloud_toa.cluster.store import Delete, Store

_LONGEST = 100


class ApiToken(Struct, frozen=True, kw_only=True):
    """A token, as it is kept."""

    id: str
    name: str
    """What it is for."""
    role: Role
    hash: str
    who: str
    """Who made it."""
    created: float
    expires: float | None = None


class Shown(Struct, frozen=True, kw_only=True):
    """A token without what is secret."""

    id: str
    name: str
    role: Role
    who: str
    created: float
    expires: float | None


async def all(store: Store) -> list[Shown]:  # noqa: A001  (api_tokens.all)
    """Every token, oldest first."""
    entries, _ = await store.list("tokens/")
    tokens = sorted((read(entry, ApiToken) for entry in entries), key=lambda each: each.created)
    return [shown(each) for each in tokens]


async def create(
    store: Store, name: str, role: Role, by: By, *, days: float | None = None
) -> tuple[ApiToken, str]:
    """A new token; its text is told once.

    Raises:
        RefusedError: it needs a name.
    """
    if not name.strip() or len(name) > _LONGEST or not name.isprintable():
        raise RefusedError(
            Mistake(
                message=f"say what the token is for, in {_LONGEST} characters at most",
                field="name",
            )
        )
    id_ = random_tokens.new_id()
    text = random_tokens.new("toa", id_)
    now = time.time()
    seconds = None if days is None else days * 86400.0
    token = ApiToken(
        id=id_,
        name=name.strip(),
        role=role,
        hash=random_tokens.hashed(text),
        who=by.name,
        created=now,
        expires=None if seconds is None else now + seconds,
    )
    await store.change(
        put(f"tokens/{id_}", token, 0, seconds),
        audit.record(by, "token.create", token.name, after=role),
    )
    return token, text


async def remove(store: Store, id_: str, by: By) -> None:
    """Have a token no longer be good.

    Raises:
        MissingError: there is none of this id.
        ConflictError: somebody else removes it at this moment.
    """
    entry = await store.get(f"tokens/{id_}")
    if entry is None:
        raise MissingError(f"there is no token {id_}")
    token = read(entry, ApiToken)
    await store.change(
        Delete(entry.key, entry.revision),
        audit.record(by, "token.remove", token.name, token.role),
    )


async def of(store: Store, text: str) -> ApiToken | None:
    """The token whose text this is; None where there is none."""
    id_ = random_tokens.owner(text, "toa")
    entry = None if id_ is None else await store.get(f"tokens/{id_}")
    token = read(entry, ApiToken) if entry else None
    if token is None or not random_tokens.same(text, token.hash):
        return None
    return None if token.expires is not None and token.expires < time.time() else token


def shown(token: ApiToken) -> Shown:
    """A token without what is secret."""
    return Shown(
        id=token.id,
        name=token.name,
        role=token.role,
        who=token.who,
        created=token.created,
        expires=token.expires,
    )
