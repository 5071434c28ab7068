# SPDX-License-Identifier: Apache-2.0
"""A store as a file, and back, whatever the backend: a copy, or the way from one to the other.

The file has a line of JSON for what it is, one for each key in order, and one with their number
and a checksum of all before it; without this last line it is not whole. Values are base64.
"""

import hashlib
from collections.abc import Iterable
from typing import BinaryIO, TypeVar

import msgspec
from msgspec import Struct

from cloud_toa.cluster.store import Put, Store
from cloud_toa.errors import ToaError

_FORMAT = "cloud-toa cluster"
_VERSION = 1

T = TypeVar("T")


class _Head(Struct, frozen=True):
    format: str
    version: int


class _Line(Struct, frozen=True, omit_defaults=True):
    key: str
    value: bytes
    expires: float | None = None
    """Seconds since 1970. A time, and not what is left of it: a session of last week is over."""


class _Foot(Struct, frozen=True):
    entries: int
    sha256: str


async def export(store: Store, file: BinaryIO, now: float) -> int:
    """Write all that a store has, of one revision; answer how many keys.

    Raises:
        UnavailableError: the store does not answer.
        OSError: the file can't be written.
    """
    digest = hashlib.sha256()
    entries = 0

    def write(line: Struct) -> None:
        text = msgspec.json.encode(line) + b"\n"
        digest.update(text)
        file.write(text)

    write(_Head(_FORMAT, _VERSION))
    async for put in store.everything():
        write(_Line(put.key, put.value, None if put.seconds is None else now + put.seconds))
        entries += 1
    write(_Foot(entries, digest.hexdigest()))
    return entries


def read(lines: Iterable[bytes], name: str, now: float) -> list[Put]:
    """What such a file has, all of it checked; keys whose time is over are left out.

    Raises:
        ToaError: it is none, of a newer version, cut off or changed.
    """
    digest = hashlib.sha256()
    found: list[_Line] = []
    last = b""
    for number, line in enumerate(lines):
        if number == 0:
            head = _decoded(line, _Head, f"{name} is no export of a cluster")
            if head.format != _FORMAT:
                raise ToaError(f"{name} is no export of a cluster: name one")
            if head.version != _VERSION:
                raise ToaError(
                    f"{name} has version {head.version}, and this cloud-toa reads {_VERSION}: "
                    "use the cloud-toa that wrote it, or a newer one"
                )
        elif number > 1:
            found.append(_decoded(last, _Line, f"{name}, line {number}, is no key"))
        if number:
            digest.update(last)
        last = line
    cut = f"{name} is not whole"
    foot = _decoded(last, _Foot, cut)
    if foot != _Foot(len(found), digest.hexdigest()):
        raise ToaError(f"{cut}: export again, or take another copy")
    return [
        Put(line.key, line.value, seconds=None if line.expires is None else line.expires - now)
        for line in found
        if line.expires is None or line.expires > now
    ]


def _decoded(line: bytes, kind: type[T], wrong: str) -> T:
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.MsgspecError as error:
        raise ToaError(f"{wrong}: {error}") from None
