# SPDX-License-Identifier: Apache-2.0
"""Both backends, for what holds for either."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from cloud_toa.cluster.store import Store, sqlite_tables
from cloud_toa.cluster.store.opening import open_store
from cloud_toa.cluster.store.sqlite_file import opened
from tests.cluster.store.etcd_members import Etcd


class Backend(Protocol):
    """Somewhere a store can be, empty at first."""

    url: str

    async def open(self) -> Store:
        """One more that is open."""

    def compact(self, revision: int) -> None:
        """Forget what was changed up to a revision."""


class SqliteBackend:
    def __init__(self, directory: Path) -> None:
        self.path = directory / "cluster.db"
        self.url = f"sqlite://{self.path}"

    async def open(self) -> Store:
        return await open_store(self.url)

    def compact(self, revision: int) -> None:
        db = opened(self.path)
        sqlite_tables.compact(db, time.time() + 3600)
        assert db.execute("SELECT compacted FROM state").fetchone() >= (revision,)
        db.close()


class EtcdBackend:
    def __init__(self, etcd: Etcd) -> None:
        self._etcd = etcd
        self.url = etcd.url

    async def open(self) -> Store:
        return await open_store(self.url)

    def compact(self, revision: int) -> None:
        self._etcd.ctl("compaction", str(revision))


@pytest.fixture(scope="session")
def etcd() -> Iterator[Etcd]:
    """Three members, all of them well."""
    members = Etcd()
    try:
        members.wait()
        yield members
    finally:
        members.close()


@pytest.fixture(params=["sqlite", "etcd"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "sqlite":
        return SqliteBackend(tmp_path)
    etcd: Etcd = request.getfixturevalue("etcd")
    etcd.ctl("del", "", "--from-key=true")
    return EtcdBackend(etcd)
