# SPDX-License-Identifier: Apache-2.0
"""How structs are read from a store and written to it, and what can be wrong with a wish."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec
from msgspec import Struct

from cloud_toa.cluster.store import Entry, Put
from cloud_toa.errors import ToaError

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode


class MissingError(ToaError):
    """What is asked for is not there."""


class Mistake(Struct, frozen=True, kw_only=True):
    """What is wrong in something that somebody wrote."""

    message: str
    field: str = ""
    """Its place, such as ``toa.option_type_v4`` or ``service.0.listen``; empty: no single one."""
    line: int | None = None
    """In the TOML text."""


class RefusedError(ToaError):
    """What somebody wrote can't be; nothing was changed."""

    def __init__(self, *mistakes: Mistake) -> None:
        super().__init__("; ".join(mistake.message for mistake in mistakes))
        self.mistakes: Sequence[Mistake] = mistakes


class By(Struct, frozen=True):
    """Who changes something."""

    name: str
    """A user's, or ``token:`` and a token's; for the audit log."""
    address: str = ""
    """Where the call came from."""


def read(entry: Entry, kind: type[T]) -> T:
    """What an entry says."""
    return msgspec.json.decode(entry.value, type=kind)


def put(key: str, value: object, expected: int | None = None, seconds: float | None = None) -> Put:
    """A change that keeps a struct."""
    return Put(key, _encode(value), expected, seconds)
