# SPDX-License-Identifier: Apache-2.0
"""Who may do what: users with roles, and the link that makes the first of them.

There is always an administrator: the last one can be neither removed nor given another role. Their
number is kept under a key, which each change of one of them must find unchanged.
"""

import re
import secrets
import time
from typing import Literal

import msgspec
from msgspec import Struct

from cloud_toa.cluster.model import audit, passwords, random_tokens
from cloud_toa.cluster.model.values import By, MissingError, Mistake, RefusedError, put, read
from cloud_toa.cluster.store import ConflictError, Delete, Entry, Put, Store
from cloud_toa.errors import ToaError

Role = Literal["viewer", "operator", "admin"]
Language = Literal["", "en", "zh"]
"""Empty: what the browser asks for."""

ROLES: tuple[Role, ...] = ("viewer", "operator", "admin")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
_ADMINS = "admins"
SETUP_SECONDS = 24 * 3600.0


class User(Struct, frozen=True, kw_only=True):
    """Somebody who can log in."""

    name: str
    password_hash: str
    role: Role
    language: Language = ""
    created: float
    generation: str
    """Changes with password and role; sessions of another one are over."""


class Person(Struct, frozen=True, kw_only=True):
    """A user, as others are shown him."""

    name: str
    role: Role
    language: Language
    created: float


class SetupError(ToaError):
    """The set-up link is not good."""


def person(user: User) -> Person:
    """A user without what is secret."""
    return Person(name=user.name, role=user.role, language=user.language, created=user.created)


def may(role: Role, needed: Role) -> bool:
    """Whether a role is enough."""
    return ROLES.index(role) >= ROLES.index(needed)


async def all(store: Store) -> list[Person]:  # noqa: A001  (people.all)
    """Every user, by name."""
    entries, _ = await store.list("users/")
    return [person(read(entry, User)) for entry in entries]


async def one(store: Store, name: str) -> User:
    """A user.

    Raises:
        MissingError: there is none of this name.
    """
    return (await _known(store, name))[0]


async def find(store: Store, name: str) -> User | None:
    """A user; None where there is none of this name."""
    if not _NAME.fullmatch(name):
        return None
    entry = await store.get(_key(name))
    return read(entry, User) if entry else None


async def create(store: Store, name: str, password: str, role: Role, by: By) -> Person:
    """A new user.

    Raises:
        RefusedError: the name or the password can't be.
        ConflictError: somebody has the name.
    """
    user = await _new(name, password, role)
    admins = [await _one_more(store)] if role == "admin" else []
    try:
        await store.change(
            put(_key(name), user, 0),
            *admins,
            audit.record(by, "user.create", name, after=role),
        )
    except ConflictError:
        raise await _taken(store, name) from None
    return person(user)


async def set_role(store: Store, name: str, role: Role, by: By) -> Person:
    """Give a user another role; his sessions end.

    Raises:
        MissingError: there is no such user.
        RefusedError: he is the last administrator.
        ConflictError: somebody else changes users at this moment.
    """
    user, entry = await _known(store, name)
    if user.role == role:
        return person(user)
    admins = []
    if user.role == "admin":
        admins = [await _one_less(store, name)]
    elif role == "admin":
        admins = [await _one_more(store)]
    changed = msgspec.structs.replace(user, role=role, generation=_generation())
    await store.change(
        put(entry.key, changed, entry.revision),
        *admins,
        audit.record(by, "user.role", name, user.role, role),
    )
    return person(changed)


async def set_password(store: Store, name: str, password: str, by: By) -> User:
    """Give a user another password; his sessions end.

    Raises:
        MissingError: there is no such user.
        RefusedError: the password can't be.
        ConflictError: somebody else changes the user at this moment.
    """
    user, entry = await _known(store, name)
    passwords.check(password, name)
    changed = msgspec.structs.replace(
        user, password_hash=await passwords.hashed(password), generation=_generation()
    )
    await store.change(
        put(entry.key, changed, entry.revision), audit.record(by, "user.password", name)
    )
    return changed


async def set_language(store: Store, name: str, language: Language) -> None:
    """Have a user's pages in a language.

    Raises:
        MissingError: there is no such user.
        ConflictError: somebody else changes the user at this moment.
    """
    user, entry = await _known(store, name)
    await store.change(
        put(entry.key, msgspec.structs.replace(user, language=language), entry.revision)
    )


async def remove(store: Store, name: str, by: By) -> None:
    """Remove a user; his sessions end.

    Raises:
        MissingError: there is no such user.
        RefusedError: he is the last administrator.
        ConflictError: somebody else changes users at this moment.
    """
    user, entry = await _known(store, name)
    admins = [await _one_less(store, name)] if user.role == "admin" else []
    await store.change(
        Delete(entry.key, entry.revision),
        *admins,
        audit.record(by, "user.remove", name, user.role),
    )


async def verified(store: Store, name: str, password: str) -> User | None:
    """The user whose name and password these are; None where they are nobody's."""
    user = await find(store, name)
    if not await passwords.verify(password, user.password_hash if user else None):
        return None
    if user and passwords.outdated(user.password_hash):
        entry = await store.get(_key(name))
        if entry is not None and read(entry, User) == user:
            newer = msgspec.structs.replace(user, password_hash=await passwords.hashed(password))
            try:
                await store.change(put(entry.key, newer, entry.revision))
            except ConflictError:
                return user  # the next login does it
            return newer
    return user


async def setup_token(store: Store) -> str | None:
    """A new one-time token for the first administrator; None where there is one already."""
    if await store.get(_ADMINS) is not None:
        return None
    token = random_tokens.new("setup")
    await store.change(Put(_setup(token), b"", 0, SETUP_SECONDS))
    return token


async def set_up(store: Store, token: str, name: str, password: str, address: str) -> Person:
    """Make the first administrator; the token is used up, and all others are no longer good.

    Raises:
        SetupError: the token is not good, or there is an administrator.
        RefusedError: the name or the password can't be.
    """
    link = await store.get(_setup(token))
    if link is None or await store.get(_ADMINS) is not None:
        raise SetupError(
            "this set-up link is not known, used up or too old: as long as there is no "
            "administrator, each start of the server prints a new one"
        )
    user = await _new(name, password, "admin")
    others, _ = await store.list("setup/")
    try:
        await store.change(
            put(_key(name), user, 0),
            put(_ADMINS, 1, 0),
            Delete(link.key, link.revision),
            *(Delete(each.key) for each in others[:100] if each.key != link.key),
            audit.record(By(name, address), "user.set_up", name, after="admin"),
        )
    except ConflictError:
        raise SetupError("somebody else has made the first administrator: log in") from None
    return person(user)


async def is_set_up(store: Store) -> bool:
    """Whether there is an administrator."""
    return await store.get(_ADMINS) is not None


async def _known(store: Store, name: str) -> tuple[User, Entry]:
    entry = await store.get(_key(name)) if _NAME.fullmatch(name) else None
    if entry is None:
        raise MissingError(f"there is no user {name}")
    return read(entry, User), entry


def wrong(name: str, password: str) -> list[Mistake]:
    """Why nobody can be called so or have this password; empty where somebody can. Pure."""
    mistakes = []
    if not _NAME.fullmatch(name):
        mistakes.append(
            Mistake(
                message=f"a user can't be called {name[:80]!r}: up to 63 letters, digits, '.', "
                "'_', '@' and '-', a letter or digit first",
                field="name",
            )
        )
    if (mistake := passwords.wrong(password, name)) is not None:
        mistakes.append(mistake)
    return mistakes


async def _new(name: str, password: str, role: Role) -> User:
    if mistakes := wrong(name, password):
        raise RefusedError(*mistakes)
    return User(
        name=name,
        password_hash=await passwords.hashed(password),
        role=role,
        created=time.time(),
        generation=_generation(),
    )


async def _one_more(store: Store) -> Put:
    entry = await store.get(_ADMINS)
    return put(_ADMINS, (read(entry, int) if entry else 0) + 1, entry.revision if entry else 0)


async def _one_less(store: Store, name: str) -> Put:
    entry = await store.get(_ADMINS)
    count = read(entry, int) if entry else 0
    if entry is None or count <= 1:
        raise RefusedError(
            Mistake(
                message=f"{name} is the last administrator: make another one first", field="role"
            )
        )
    return put(_ADMINS, count - 1, entry.revision)


async def _taken(store: Store, name: str) -> ConflictError:
    if await store.get(_key(name)) is not None:
        return ConflictError(f"there is a user {name} already: choose another name")
    return ConflictError("somebody else has changed the users at this moment: try again")


def _key(name: str) -> str:
    return f"users/{name.casefold()}"


def _setup(token: str) -> str:
    return f"setup/{random_tokens.hashed(token)}"


def _generation() -> str:
    return secrets.token_hex(8)
