# SPDX-License-Identifier: Apache-2.0
"""What etcd answers, as JSON: numbers of 64 bits are text there, and bytes are base64. Pure.

Source: https://etcd.io/docs/v3.4/dev-guide/api_reference_v3/
"""

from typing import TypeVar

import msgspec
from msgspec import Struct

T = TypeVar("T")


class Header(Struct, frozen=True):
    """Of every answer."""

    revision: int = 0


class KeyValue(Struct, frozen=True):
    """A key; of one that was deleted, ``mod_revision`` is when."""

    key: bytes
    mod_revision: int
    value: bytes = b""
    lease: int = 0


class Range(Struct, frozen=True):
    """``/v3/kv/range``."""

    header: Header
    kvs: list[KeyValue] = []
    more: bool = False


class Response(Struct, frozen=True):
    """One of a transaction's operations; those that wrote are of no interest."""

    response_range: Range | None = None


class Txn(Struct, frozen=True):
    """``/v3/kv/txn``."""

    header: Header
    succeeded: bool = False
    responses: list[Response] = []


class Lease(Struct, frozen=True):
    """``/v3/lease/grant`` and ``/v3/lease/timetolive``; TTL is -1 where it is over."""

    ID: int
    TTL: int = 0


class Token(Struct, frozen=True):
    """``/v3/auth/authenticate``."""

    token: str


class Nothing(Struct, frozen=True):
    """An answer of which nothing is needed."""


class WatchEvent(Struct, frozen=True):
    """``type`` is PUT or DELETE."""

    kv: KeyValue
    type: str = "PUT"


class WatchResult(Struct, frozen=True):
    """One message of ``/v3/watch``."""

    header: Header = Header()
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    cancel_reason: str = ""
    events: list[WatchEvent] = []


class Failure(Struct, frozen=True):
    """Why not; a watch says it with other names of the same fields."""

    message: str = ""
    code: int = 0
    grpc_code: int = 0


class Watched(Struct, frozen=True):
    """One line of ``/v3/watch``."""

    result: WatchResult | None = None
    error: Failure | None = None


def decoded(text: bytes, kind: type[T]) -> T:
    """One of these, from JSON.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    return msgspec.json.decode(text, type=kind, strict=False)
