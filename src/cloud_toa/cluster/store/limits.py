# SPDX-License-Identifier: Apache-2.0
"""What a store takes, the same for every backend. Pure.

Sources: etcd refuses a transaction of more than 128 operations (``--max-txn-ops``) and a request
of more than 1.5 MiB (``--max-request-bytes``), and two changes of one key in a transaction.
"""

from collections.abc import Iterator, Sequence

from cloud_toa.cluster.store import Change, ConflictError, Put
from cloud_toa.errors import ToaError

MAX_CHANGES = 128
"""In one call."""
MAX_BYTES = 1 << 20
"""Of all values in one call together."""
HISTORY_SECONDS = 300
"""So long changes are kept for watches, at least."""

END = "\U0010ffff"
"""Behind every character that a key may have."""


def check(changes: Sequence[Change]) -> None:
    """See whether one call may have these changes.

    Raises:
        ToaError: they are too large, for one call or at all.
        ValueError: no store can have them; the caller is wrong.
    """
    keys = {change.key for change in changes}
    if not changes or len(keys) < len(changes):
        raise ValueError("a call changes one key at least, and each once")
    for key in keys:
        if not key or "\0" in key or END in key or any("\ud800" <= c <= "\udfff" for c in key):
            raise ValueError(f"{key!r} can't be a key")
    if any(isinstance(change, Put) and (change.seconds or 1) <= 0 for change in changes):
        raise ValueError("a key expires after a time, not before")
    if len(changes) > MAX_CHANGES:
        raise ToaError(
            f"{len(changes)} changes in one call are too many for a store: {MAX_CHANGES} at most"
        )
    total = sum(len(change.value) for change in changes if isinstance(change, Put))
    if total > MAX_BYTES:
        raise ToaError(
            f"{total} bytes are too many for one change of a store: keep {MAX_BYTES} at most"
        )


def batches(changes: Sequence[Change]) -> Iterator[list[Change]]:
    """As many calls as it takes for all of these, in order."""
    batch: list[Change] = []
    size = 0
    for change in changes:
        more = len(change.value) if isinstance(change, Put) else 0
        if batch and (len(batch) == MAX_CHANGES or size + more > MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(change)
        size += more
    if batch:
        yield batch


def not_empty(key: str) -> ConflictError:
    """What `Store.fill` says of a store that has this key."""
    return ConflictError(
        f"the store is not empty (it has {key}): name an empty one, or --replace all that it has"
    )
