# SPDX-License-Identifier: Apache-2.0
"""What a node of a cluster keeps on its disk, so that it serves with no server in reach.

::

    joining.json    by what it is known again when the answer to its joining is lost
    node.json       its own token, and by which token file it came
    settings.toml   the last settings that were in force: an edge's file as any other
    revision.json   which revision that is, and whether the node is drained
    lock            held while an agent runs

All are root's alone, and each is replaced in one step. Where a crash came between the last two,
the revision is that of another text, and counts as 0 until a server says which it is.
"""

import fcntl
import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from cloud_toa.cluster.model import random_tokens
from cloud_toa.cluster.model.protocol import Settings
from cloud_toa.errors import ToaError

_T = TypeVar("_T")


class Identity(Struct, frozen=True, kw_only=True):
    """A node's own token."""

    token: str
    from_file: str = ""
    """Digest of what was in the token file when this token came."""


class _Joining(Struct, frozen=True, kw_only=True):
    secret: str
    from_file: str


class _Revision(Struct, frozen=True, kw_only=True):
    revision: int
    drained: bool
    digest: str


def digest(text: str) -> str:
    """By which a text is known again."""
    return sha256(text.encode()).hexdigest()


class Kept:
    """A folder for one agent.

    Raises:
        ToaError: another one has it, or it can't be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise ToaError(f"another 'cloud-toa node' has {folder}: stop that first") from None
        except OSError as error:
            raise ToaError(f"--state {folder}: {error.strerror}") from None

    @property
    def file(self) -> Path:
        """The last settings that were in force."""
        return self._folder / "settings.toml"

    def identity(self) -> Identity | None:
        """The node's own token; None before it has one."""
        return self._read("node.json", Identity)

    def keep_identity(self, identity: Identity) -> None:
        """Keep it.

        Raises:
            ToaError: it can't be.
        """
        self._write("node.json", msgspec.json.encode(identity))

    def join_secret(self, from_file: str) -> str:
        """The secret that goes with a join token: made once, and kept before it is told.

        Args:
            from_file: the token's digest.

        Raises:
            ToaError: it can't be kept.
        """
        kept = self._read("joining.json", _Joining)
        if kept is None or kept.from_file != from_file:
            kept = _Joining(secret=random_tokens.secret(), from_file=from_file)
            self._write("joining.json", msgspec.json.encode(kept))
        return kept.secret

    def see_room(self) -> None:
        """See that a token could be kept, before one is used up for it.

        Raises:
            ToaError: it could not.
        """
        self._write("trial", b" " * 4096)
        (self._folder / "trial").unlink()

    def settings(self) -> Settings | None:
        """The last that were in force; None before the first."""
        try:
            text = self.file.read_text()
        except (OSError, UnicodeDecodeError):
            return None
        about = self._read("revision.json", _Revision)
        if about is None:
            return Settings(revision=0, text=text)
        same = about.digest == digest(text)
        return Settings(revision=about.revision if same else 0, text=text, drained=about.drained)

    def keep_settings(self, settings: Settings) -> None:
        """These are in force.

        Raises:
            ToaError: they can't be kept.
        """
        about = _Revision(
            revision=settings.revision, drained=settings.drained, digest=digest(settings.text)
        )
        self._write("settings.toml", settings.text.encode())
        self._write("revision.json", msgspec.json.encode(about))

    def close(self) -> None:
        """Let another agent have the folder."""
        os.close(self._lock)

    def _read(self, name: str, kind: type[_T]) -> _T | None:
        with suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode((self._folder / name).read_bytes(), type=kind)
        return None

    def _write(self, name: str, data: bytes) -> None:
        path, new = self._folder / name, self._folder / f"{name}.new"
        with suppress(OSError):
            if path.read_bytes() == data:
                return
        try:
            with suppress(FileNotFoundError):
                new.unlink()
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:  # noqa: PTH123  (a descriptor has no path)
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            new.replace(path)
        except OSError as error:
            with suppress(OSError):
                new.unlink()
            raise ToaError(f"{path} can't be written: {error.strerror}") from None
