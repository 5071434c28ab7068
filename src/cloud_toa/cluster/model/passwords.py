# SPDX-License-Identifier: Apache-2.0
"""Passwords, as argon2id keeps them.

Parameters are argon2-cffi's, which are RFC 9106's second choice: 64 MiB, three passes. A hash made
with others is made anew when its owner logs in. Two are computed at a time, so that a flood of
logins takes 128 MiB and not more.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar, TypeVarTuple

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from cloud_toa.cluster.model.values import Mistake, RefusedError

SHORTEST = 12
LONGEST = 256
"""Characters."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_hasher = PasswordHasher()
_threads = ThreadPoolExecutor(2, thread_name_prefix="password")


def check(password: str, user: str) -> None:
    """See whether somebody may have this password.

    Raises:
        RefusedError: it is too short, too long, or the name.
    """
    if (mistake := wrong(password, user)) is not None:
        raise RefusedError(mistake)


def wrong(password: str, user: str) -> Mistake | None:
    """Why somebody may not have this password; None where they may."""
    if len(password) < SHORTEST:
        why = f"a password has {SHORTEST} characters at least"
    elif len(password) > LONGEST:
        why = f"a password has {LONGEST} characters at most"
    elif password.casefold() in (user.casefold() * LONGEST):
        why = "a password is not one's name"
    elif len(set(password)) < 4:
        why = "a password has four different characters at least"
    else:
        return None
    return Mistake(message=why, field="password")


async def hashed(password: str) -> str:
    """What is kept of a password."""
    return await _in_thread(_hasher.hash, password)


async def verify(password: str, hash_: str | None) -> bool:
    """Whether this is the password that was kept so.

    It takes as long where there is no such user, so that nobody learns who there is.
    """
    if len(password) > LONGEST:
        password, hash_ = "", None
    if hash_ is None:
        await _in_thread(_verify, password, await _in_thread(_nobodys))
        return False
    return await _in_thread(_verify, password, hash_)


def outdated(hash_: str) -> bool:
    """Whether a hash was made with other parameters than one that is made now."""
    return _hasher.check_needs_rehash(hash_)


def _verify(password: str, hash_: str) -> bool:
    try:
        return _hasher.verify(hash_, password)
    except (VerificationError, InvalidHashError):
        return False


@cache
def _nobodys() -> str:
    return _hasher.hash("nobody's password")


async def _in_thread(function: Callable[[*Ts], T], *arguments: *Ts) -> T:
    return await asyncio.get_running_loop().run_in_executor(_threads, function, *arguments)
