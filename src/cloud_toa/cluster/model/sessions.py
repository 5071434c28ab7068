# SPDX-License-Identifier: Apache-2.0
"""Who is logged in, in a browser.

A session is over at its user's logout, change of password or of role, and removal; when nothing was
asked for eight hours; and after a week. The page proves that it is the console's own by a second
token, which is made from the session's: so it is kept nowhere.
"""

import hashlib
import hmac
import time

import msgspec
from msgspec import Struct

from cloud_toa.cluster.model import people, random_tokens
from cloud_toa.cluster.model.people import User
from cloud_toa.cluster.model.values import put, read
from cloud_toa.cluster.store import ConflictError, Delete, Store

IDLE = 8 * 3600.0
WHOLE = 7 * 86400.0
_FRESH = 300.0
"""So old the last use may be said to be, before it is kept anew."""


class Session(Struct, frozen=True, kw_only=True):
    """A login."""

    user: str
    generation: str
    began: float
    used: float


async def begin(store: Store, user: User, *, instead_of: str | None = None) -> str:
    """Log a user in; answer the session's token. The one that the browser had before ends."""
    token = random_tokens.new("session")
    now = time.time()
    session = Session(user=user.name, generation=user.generation, began=now, used=now)
    ended = [Delete(_key(instead_of))] if instead_of else []
    await store.change(put(_key(token), session, 0, IDLE), *ended)
    return token


async def of(store: Store, token: str) -> User | None:
    """Who is logged in by this token; None where nobody is."""
    entry = await store.get(_key(token))
    if entry is None:
        return None
    session, now = read(entry, Session), time.time()
    # The store lets it expire; it may be away, and memory know no better.
    if now > min(session.used + IDLE, session.began + WHOLE):
        return None
    user = await people.find(store, session.user)
    if user is None or user.generation != session.generation:
        return None
    return user


async def touch(store: Store, token: str) -> None:
    """Keep that a session was used."""
    entry = await store.get(_key(token))
    if entry is None:
        return
    session, now = read(entry, Session), time.time()
    left = min(IDLE, session.began + WHOLE - now)
    if now - session.used < _FRESH or left <= 0:
        return
    try:
        used = msgspec.structs.replace(session, used=now)
        await store.change(put(entry.key, used, entry.revision, left))
    except ConflictError:
        return  # another page of the same session has done it


async def end(store: Store, token: str) -> None:
    """Log out."""
    await store.change(Delete(_key(token)))


def page_token(token: str) -> str:
    """What a page of this session shows with each change that it asks for."""
    return hmac.new(token.encode(), b"page", hashlib.sha256).hexdigest()


def _key(token: str) -> str:
    return f"sessions/{random_tokens.hashed(token)}"
