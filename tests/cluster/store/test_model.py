# SPDX-License-Identifier: Apache-2.0
"""Any sequence of calls has the same outcome as on a dictionary, and watches tell it all."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_toa.cluster.store import Change, ConflictError, Delete, Event, Put, Store
from tests.cluster.store.conftest import Backend
from tests.cluster.store.watching import Watching

KEYS = st.sampled_from(["a", "a/", "a/1", "a/10", "a/2", "a/é", "a0", "b/😀"])
PREFIXES = st.sampled_from(["", "a", "a/", "a/1", "b", "c"])
EXPECTED = st.sampled_from(["right", "right", "wrong", "none", None])
CHANGES = st.lists(
    st.tuples(KEYS, EXPECTED, st.none() | st.binary(max_size=8)),
    min_size=1,
    max_size=4,
    unique_by=lambda change: change[0],
)
LISTS = st.fixed_dictionaries(
    {
        "after": st.just("") | KEYS,
        "limit": st.none() | st.integers(0, 4),
        "backwards": st.booleans(),
    }
)
CALLS = st.lists(CHANGES | st.tuples(PREFIXES, LISTS), max_size=20)


class Model:
    """How it should be: values with their revisions, and what watches should have been told."""

    def __init__(self, revision: int) -> None:
        self.revision = revision
        self.entries: dict[str, tuple[bytes, int]] = {}
        self.events: list[list[Event]] = []

    def expected(self, key: str, kind: str | None) -> int | None:
        found = self.entries[key][1] if key in self.entries else 0
        return {"right": found, "wrong": found + 1, "none": 0, None: None}[kind]

    def change(self, changes: list[Change], revision: int) -> None:
        events = []
        for change in changes:
            if isinstance(change, Put):
                self.entries[change.key] = change.value, revision
                events.append(Event(change.key, change.value, revision))
            elif self.entries.pop(change.key, None):
                events.append(Event(change.key, None, revision))
        if events:
            assert revision > self.revision
            self.events.append(events)
        assert revision == self.revision or events
        self.revision = revision

    def listed(
        self, prefix: str, after: str, limit: int | None, backwards: bool
    ) -> list[tuple[str, bytes, int]]:
        keys = sorted(key for key in self.entries if key.startswith(prefix))
        if backwards:
            keys = [key for key in reversed(keys) if not after or key < after]
        else:
            keys = [key for key in keys if key > after]
        return [(key, *self.entries[key]) for key in keys[:limit]]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(calls=CALLS)
def test_sqlite_is_like_a_dictionary(backend: Backend, calls: list[Any]) -> None:
    asyncio.run(_compare(backend, calls))


@pytest.mark.parametrize("backend", ["etcd"], indirect=True)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(calls=CALLS)
def test_etcd_is_like_a_dictionary(backend: Backend, calls: list[Any]) -> None:
    asyncio.run(_compare(backend, calls))


async def _compare(backend: Backend, calls: list[Any]) -> None:
    store = await backend.open()
    try:
        entries, _ = await store.list("")
        if entries:  # of the example before
            await store.change(*(Delete(entry.key) for entry in entries))
        _, start = await store.list("")
        model = Model(start)
        async with Watching(store, "", start) as watching:
            for call in calls:
                await _call(store, model, call)
            model.change([Put("end", b"")], await store.change(Put("end", b"")))
            await watching.until_key("end")
        assert watching.told == model.events
        async with Watching(store, "a/", start) as later:
            wanted = [e for some in model.events for e in some if e.key.startswith("a/")]
            assert await later.until(lambda events: len(events) >= len(wanted)) == wanted
    finally:
        await store.close()


async def _call(store: Store, model: Model, call: Any) -> None:
    if isinstance(call, tuple):
        prefix, options = call
        entries, revision = await store.list(prefix, **options)
        assert revision == model.revision
        assert [(e.key, e.value, e.revision) for e in entries] == model.listed(prefix, **options)
        for entry in entries:
            assert await store.get(entry.key) == entry
        return
    changes: list[Change] = []
    conflict = False
    for key, kind, value in call:
        expected = model.expected(key, kind)
        conflict |= expected is not None and expected != model.expected(key, "right")
        changes.append(Delete(key, expected) if value is None else Put(key, value, expected))
    if conflict:
        with pytest.raises(ConflictError):
            await store.change(*changes)
    else:
        model.change(changes, await store.change(*changes))
