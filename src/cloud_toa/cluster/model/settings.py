# SPDX-License-Identifier: Apache-2.0
"""A cluster's settings: one edge's file for all nodes, by revisions.

A revision, its place in the history and its line in the audit log are one change of the store.
"""

import difflib
import time

from msgspec import Struct

from cloud_toa.cluster.model import audit
from cloud_toa.cluster.model.values import By, MissingError, Mistake, RefusedError, put, read
from cloud_toa.cluster.store import ConflictError, Store
from cloud_toa.node import edge_file

KEY = "settings"
NAME = "settings"
"""As which file the text is spoken of in errors."""
LARGEST = 200_000
"""Bytes of text."""


class Revision(Struct, frozen=True, kw_only=True):
    """The settings as they were saved once."""

    number: int
    text: str
    who: str
    when: float
    why: str = ""


NONE = Revision(number=0, text="", who="", when=0.0)
"""Before anybody has saved any."""


class OutdatedError(ConflictError):
    """Somebody else has saved meanwhile; nothing is lost: both texts are here."""

    def __init__(self, seen: Revision, current: Revision, text: str) -> None:
        super().__init__(
            f"{current.who} has saved revision {current.number} meanwhile, and you changed "
            f"revision {seen.number}: nothing was saved; compare, and save on top of it"
        )
        self.seen = seen
        self.current = current
        self.text = text
        """What was to be saved."""


async def current(store: Store) -> Revision:
    """The revision in force; `NONE` before the first."""
    entry = await store.get(KEY)
    return NONE if entry is None else read(entry, Revision)


async def at(store: Store, number: int) -> Revision:
    """A revision of the history.

    Raises:
        MissingError: there is none of this number.
    """
    entry = await store.get(_history(number))
    if entry is None:
        raise MissingError(f"there is no revision {number}")
    return read(entry, Revision)


async def history(store: Store, *, before: int | None = None, limit: int = 50) -> list[Revision]:
    """Revisions, newest first; only older ones than ``before``, if given."""
    after = "" if before is None else _history(before)
    entries, _ = await store.list("history/", after=after, limit=limit, backwards=True)
    return [read(entry, Revision) for entry in entries]


async def save(store: Store, text: str, *, seen: int, by: By, why: str = "") -> Revision:
    """Put a text into force, whole or not at all.

    Args:
        store: where.
        text: the whole of the settings.
        seen: the number of the revision that the text was made from.
        by: who wants it.
        why: for the history.

    Raises:
        RefusedError: the text can't be an edge's file, or changes nothing.
        OutdatedError: another revision was saved since ``seen``.
        UnavailableError: it is not kept, or nobody knows: read `current`.
    """
    text = text.replace("\r\n", "\n")
    if mistakes := check(text):
        raise RefusedError(*mistakes)
    entry = await store.get(KEY)
    before = NONE if entry is None else read(entry, Revision)
    if before.number != seen:
        raise OutdatedError(await _seen(store, seen), before, text)
    if before.text == text:
        raise RefusedError(Mistake(message="nothing was changed, so there is nothing to save"))
    revision = Revision(number=before.number + 1, text=text, who=by.name, when=time.time(), why=why)
    try:
        await store.change(
            put(KEY, revision, 0 if entry is None else entry.revision),
            put(_history(revision.number), revision, 0),
            audit.record(by, "settings.save", why, before.number or "", revision.number),
        )
    except ConflictError:
        raise OutdatedError(before, await current(store), text) from None
    return revision


async def revert(store: Store, number: int, *, seen: int, by: By) -> Revision:
    """Put an earlier revision's text into force, as a new revision.

    Raises:
        MissingError: there is no such revision.
        RefusedError, OutdatedError, UnavailableError: see `save`.
    """
    earlier = await at(store, number)
    return await save(store, earlier.text, seen=seen, by=by, why=f"back to revision {number}")


def check(text: str) -> list[Mistake]:
    """What is wrong in a text; empty where it can be saved."""
    if len(text.encode(errors="surrogatepass")) > LARGEST:
        return [Mistake(message=f"the text is longer than {LARGEST} bytes")]
    try:
        edge_file.parse(text, NAME)
    except edge_file.FileError as error:
        return [
            Mistake(message=each.what, field=".".join(map(str, each.path)), line=each.line)
            for each in error.mistakes
        ]
    return []


def diff(before: Revision, after: Revision) -> str:
    """What has changed between two revisions, as a unified diff; empty for nothing."""
    return diff_texts(before.text, after.text, f"revision {before.number}", _named(after))


def diff_texts(before: str, after: str, before_name: str, after_name: str) -> str:
    """See `diff`."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), before_name, after_name, lineterm=""
    )
    return "".join(f"{line}\n" for line in lines)


def _named(revision: Revision) -> str:
    return f"revision {revision.number}"


def _history(number: int) -> str:
    return f"history/{number:010d}"


async def _seen(store: Store, number: int) -> Revision:
    try:
        return await at(store, number)
    except MissingError:
        return Revision(number=number, text="", who="", when=0.0)
