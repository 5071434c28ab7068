# SPDX-License-Identifier: Apache-2.0
"""Who changed what, from what to what. Never a secret.

An entry is kept in the same change as what it tells of, so neither is there without the other.
"""

import secrets
import time

from msgspec import Struct

from cloud_toa.cluster.model.values import By, put, read
from cloud_toa.cluster.store import Put, Store

_YEAR = 366 * 86400.0


class Record(Struct, frozen=True, kw_only=True):
    """One change."""

    time: float
    who: str
    address: str
    what: str
    """Such as ``user.role``."""
    subject: str = ""
    """Whom or what it was done to: a user's name, a node's."""
    before: str = ""
    after: str = ""


def record(by: By, what: str, subject: str = "", before: object = "", after: object = "") -> Put:
    """The change that keeps a record; to be made with what it tells of."""
    now = time.time()
    said = Record(
        time=now,
        who=by.name,
        address=by.address,
        what=what,
        subject=subject,
        before=str(before),
        after=str(after),
    )
    # Two servers may be as fast as each other: the end keeps their records apart.
    key = f"audit/{int(now * 1e9):020d}{secrets.token_hex(4)}"
    return put(key, said, 0, _YEAR)


async def latest(store: Store, *, before: float | None = None, limit: int = 100) -> list[Record]:
    """The last records, newest first; only older ones than ``before``, if given."""
    after = "" if before is None else f"audit/{int(before * 1e9):020d}"
    entries, _ = await store.list("audit/", after=after, limit=limit, backwards=True)
    return [read(entry, Record) for entry in entries]
