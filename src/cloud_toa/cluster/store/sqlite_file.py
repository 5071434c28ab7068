# SPDX-License-Identifier: Apache-2.0
"""The file of the SQLite backend: made, opened, and what is wrong with it.

WAL lets readers go on while one writes. ``synchronous=FULL`` writes the log to the disk before a
change is answered: what was answered is there after a power cut, too. (With ``NORMAL`` the
file would stay sound, but lose the last changes.)

Source: https://sqlite.org/wal.html, https://sqlite.org/pragma.html, https://sqlite.org/rescode.html
"""

import errno
import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

from cloud_toa.cluster.store import UnavailableError

BUSY_SECONDS = 5.0
"""So long a change waits for those of other processes."""
_APPLICATION = 0x63546F61  # "cToa", so that file(1) and we know whose it is
_VERSION = 1
# ``time`` stands before ``value``, so that it is found without reading a large value.
_SCHEMA = """
CREATE TABLE entries (
    key TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL, expires REAL
);
CREATE INDEX entries_expires ON entries (expires) WHERE expires IS NOT NULL;
CREATE TABLE changes (
    number INTEGER PRIMARY KEY, revision INTEGER NOT NULL, time REAL NOT NULL,
    key TEXT NOT NULL, value BLOB
);
CREATE INDEX changes_revision ON changes (revision);
CREATE TABLE state (revision INTEGER NOT NULL, compacted INTEGER NOT NULL);
INSERT INTO state VALUES (0, 0);
"""


def opened(path: Path) -> sqlite3.Connection:
    """A connection to the store in this file, which is made if there is none, with mode 0600.

    Where root makes it, it belongs to the directory's owner, as whom a server runs.

    Raises:
        UnavailableError: there is no such directory, the file is something else or damaged, of a
            newer version, or can't be written.
    """
    if not path.parent.is_dir():
        raise UnavailableError(f"{path.parent} is no directory: make it, or name another file")
    # A file that exists is not opened here: closing it again would take away the locks that this
    # process has by its other connections (fcntl(2)), and another process would think it alone.
    try:
        with suppress(FileExistsError):
            _make(path)
        _check_writable(path)
        if path.stat().st_mode & 0o077:  # a copy that was put back, for instance
            path.chmod(0o600)
    except OSError as error:
        raise UnavailableError(
            f"{path} can't be opened as a store: {error.strerror}: name another file, "
            "or let this user write it"
        ) from None
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        _prepare(db, path)
    except sqlite3.Error as error:
        db.close()
        raise unavailable(path, error) from error
    except BaseException:
        db.close()
        raise
    return db


def _make(path: Path) -> None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if os.geteuid() == 0:
            directory = path.parent.stat()
            os.fchown(handle, directory.st_uid, directory.st_gid)
    finally:
        os.close(handle)


def _check_writable(path: Path) -> None:
    """Raise what opening it would."""
    number = 0
    if path.is_dir():
        number = errno.EISDIR
    elif not os.access(path, os.R_OK | os.W_OK):
        read_only = os.statvfs(path).f_flag & os.ST_RDONLY
        number = errno.EROFS if read_only else errno.EACCES
    if number:
        raise OSError(number, os.strerror(number))


def unavailable(path: Path, error: sqlite3.Error) -> UnavailableError:
    """The same for an operator."""
    match getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF:
        case sqlite3.SQLITE_FULL:
            why = "its disk is full: free some space; nothing of the last change was kept"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            why = "another process holds it: see which with 'fuser', or try again"
        case sqlite3.SQLITE_READONLY:
            why = "it can't be written: mount it writable, or let this user write it"
        case sqlite3.SQLITE_NOTADB:
            why = "it is no store: name another file, or remove this one"
        case sqlite3.SQLITE_CORRUPT:
            why = "it is damaged: import what 'cloud-toa cluster export' saved into a new file"
        case _:
            why = f"{error}: see whether its disk is in order"
    return UnavailableError(f"the store {path} can't be used: {why}")


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA journal_size_limit = 67108864")
    _write_ahead(db)
    if _version(db) == (_APPLICATION, _VERSION):
        return
    db.execute("BEGIN IMMEDIATE")
    application, version = _version(db)  # another process may have made it meanwhile
    if application == 0 and not db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone():
        for statement in _SCHEMA.split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {_APPLICATION}")
        db.execute(f"PRAGMA user_version = {_VERSION}")
    elif application != _APPLICATION:
        raise UnavailableError(f"{path} is another program's database: name another file")
    elif version != _VERSION:
        raise UnavailableError(
            f"the store {path} has version {version}, and this cloud-toa knows {_VERSION}: "
            "use the cloud-toa that wrote it, or a newer one"
        )
    db.execute("COMMIT")


def _write_ahead(db: sqlite3.Connection) -> None:
    # Two processes that switch it on at once don't wait for each other, against the time limit.
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return


def _version(db: sqlite3.Connection) -> tuple[int, int]:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return application, version
