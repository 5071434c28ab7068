# SPDX-License-Identifier: Apache-2.0
"""What the SQLite backend reads and writes, each function in a transaction of its own.

``entries`` is how things are, ``changes`` how they came to be so, kept for a while for watches;
``state`` has the last revision, and the last one whose changes are gone. An entry whose time is
over is not seen any more, whether it was already removed or not.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby

from cloud_toa.cluster.store import Change, CompactedError, ConflictError, Delete, Entry, Event, Put
from cloud_toa.cluster.store.limits import END, HISTORY_SECONDS, not_empty

_SPAN = 200
"""Revisions that a watch reads at once."""
_EXPIRING = 500
"""Keys that expire at once; with more, others wait too long for their turn."""

_PAGE = 500

Answer = int | ConflictError


def get(db: sqlite3.Connection, key: str, now: float) -> Entry | None:
    """A key that is there at the time ``now``."""
    row = db.execute(
        "SELECT key, value, revision FROM entries WHERE key = ? AND ifnull(expires > ?, 1)",
        (key, now),
    ).fetchone()
    return None if row is None else Entry(*row)


def listing(
    db: sqlite3.Connection, span: tuple[str, str], limit: int | None, backwards: bool, now: float
) -> tuple[list[Entry], int]:
    """Keys from the first of a span to before its end, in order, and the revision of it all."""
    order = "DESC" if backwards else "ASC"
    with _reading(db):
        rows = db.execute(
            "SELECT key, value, revision FROM entries "  # noqa: S608  (no text of others)
            "WHERE key >= ? AND key < ? AND ifnull(expires > ?, 1) "
            f"ORDER BY key {order} LIMIT ?",
            (*span, now, -1 if limit is None else limit),
        ).fetchall()
        return [Entry(*row) for row in rows], _state(db)[0]


def keep(db: sqlite3.Connection, calls: Sequence[Sequence[Change]], now: float) -> list[Answer]:
    """Carry out several calls; they reach the disk together, which is what takes the time."""
    with _writing(db):
        _expire(db, now)
        return [_keep_one(db, changes, now) for changes in calls]


def _keep_one(db: sqlite3.Connection, changes: Sequence[Change], now: float) -> Answer:
    _remove(db, [change.key for change in changes if _is_over(db, change.key, now)], now)
    for change in changes:
        row = db.execute("SELECT revision FROM entries WHERE key = ?", (change.key,)).fetchone()
        if change.expected not in {None, row[0] if row else 0}:
            return ConflictError(
                f"{change.key} was changed meanwhile: read it again, and repeat what you did"
            )
    return _carry_out(db, changes, now)


def _carry_out(db: sqlite3.Connection, changes: Sequence[Change], now: float) -> int:
    revision = _state(db)[0] + 1
    done = False
    for change in changes:
        if isinstance(change, Put):
            expires = None if change.seconds is None else now + change.seconds
            db.execute(
                "INSERT INTO entries VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                "value = excluded.value, revision = excluded.revision, expires = excluded.expires",
                (change.key, change.value, revision, expires),
            )
            _tell(db, revision, now, change.key, change.value)
        elif db.execute("DELETE FROM entries WHERE key = ?", (change.key,)).rowcount:
            _tell(db, revision, now, change.key, None)
        else:
            continue
        done = True
    if not done:
        return revision - 1
    db.execute("UPDATE state SET revision = ?", (revision,))
    return revision


def fill(db: sqlite3.Connection, puts: Sequence[Put], replace: bool, now: float) -> None:
    """See `Store.fill`; at once."""
    with _writing(db):
        _expire(db, now)
        keys = {key for (key,) in db.execute("SELECT key FROM entries")}
        if keys and not replace:
            raise not_empty(min(keys))
        gone = [Delete(key) for key in sorted(keys - {put.key for put in puts})]
        _carry_out(db, [*gone, *puts], now)


def page(db: sqlite3.Connection, after: str, now: float) -> list[tuple[str, bytes, float | None]]:
    """Some entries behind a key, with the seconds they have left.

    All are of one revision if the first page was read after `hold`.
    """
    rows = db.execute(
        "SELECT key, value, expires - ?1 FROM entries "
        "WHERE key > ?2 AND ifnull(expires > ?1, 1) ORDER BY key LIMIT ?3",
        (now, after, _PAGE),
    )
    return rows.fetchall()


def hold(db: sqlite3.Connection) -> None:
    """See things as they are now, until the connection is closed."""
    db.execute("BEGIN")


def expire(db: sqlite3.Connection, now: float) -> None:
    """Remove entries whose time is over."""
    with _writing(db):
        _expire(db, now)


def due(db: sqlite3.Connection, now: float) -> bool:
    """Whether there are any."""
    row = db.execute("SELECT 1 FROM entries WHERE expires <= ? LIMIT 1", (now,)).fetchone()
    return row is not None


def _expire(db: sqlite3.Connection, now: float) -> None:
    due = "SELECT key FROM entries WHERE expires <= ? LIMIT ?"
    _remove(db, [key for (key,) in db.execute(due, (now, _EXPIRING)).fetchall()], now)


def _is_over(db: sqlite3.Connection, key: str, now: float) -> bool:
    row = db.execute("SELECT 1 FROM entries WHERE key = ? AND expires <= ?", (key, now)).fetchone()
    return row is not None


def _remove(db: sqlite3.Connection, keys: Sequence[str], now: float) -> None:
    if keys:
        _carry_out(db, [Delete(key) for key in keys], now)


def compact(db: sqlite3.Connection, now: float) -> None:
    """Forget changes that are older than `HISTORY_SECONDS`."""
    with _writing(db):
        row = db.execute(
            "SELECT revision FROM changes WHERE time >= ? ORDER BY revision LIMIT 1",
            (now - HISTORY_SECONDS,),
        ).fetchone()
        revision, compacted = _state(db)
        last = row[0] - 1 if row else revision
        if last > compacted:
            db.execute("DELETE FROM changes WHERE revision <= ?", (last,))
            db.execute("UPDATE state SET compacted = ?", (last,))


def events(db: sqlite3.Connection, prefix: str, since: int) -> tuple[list[list[Event]], int, bool]:
    """Changes after a revision, those of one together; up to which; and whether there are more.

    Raises:
        CompactedError: some are not there any more; or none of them ever was, as the file is
            another one than that which the revision is of.
    """
    with _reading(db):
        revision, compacted = _state(db)
        if not compacted <= since <= revision:
            raise CompactedError(
                f"changes since revision {since} are not kept any more: read all again"
            )
        last = min(revision, since + _SPAN)
        rows = db.execute(
            "SELECT key, value, revision FROM changes WHERE revision > ? AND revision <= ? "
            "AND key >= ? AND key < ? ORDER BY revision, number",
            (since, last, prefix, prefix + END),
        )
        told = [list(same) for _, same in groupby(_events(rows), lambda event: event.revision)]
        return told, last, last < revision


def changed(db: sqlite3.Connection, since: int) -> tuple[set[str] | None, int]:
    """Keys that were changed after a revision, and the last one; None where nobody knows."""
    with _reading(db):
        revision, compacted = _state(db)
        if not compacted <= since <= revision:
            return None, revision
        rows = db.execute("SELECT key FROM changes WHERE revision > ?", (since,))
        return {key for (key,) in rows}, revision


def version(db: sqlite3.Connection) -> int:
    """Another one after each change that another connection made."""
    (answer,) = db.execute("PRAGMA data_version").fetchone()
    return int(answer)


def _events(rows: sqlite3.Cursor) -> Iterator[Event]:
    for row in rows:
        yield Event(*row)


def _tell(db: sqlite3.Connection, revision: int, now: float, key: str, value: bytes | None) -> None:
    db.execute(
        "INSERT INTO changes (revision, time, key, value) VALUES (?, ?, ?, ?)",
        (revision, now, key, value),
    )


def _state(db: sqlite3.Connection) -> tuple[int, int]:
    revision, compacted = db.execute("SELECT revision, compacted FROM state").fetchone()
    return revision, compacted


@contextmanager
def _reading(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("ROLLBACK")


@contextmanager
def _writing(db: sqlite3.Connection) -> Iterator[None]:
    # At once, as a transaction that has begun by reading can't always go on to write.
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # SQLite ends it itself after some errors
            db.execute("ROLLBACK")
        raise
