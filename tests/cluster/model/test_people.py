# SPDX-License-Identifier: Apache-2.0
"""people.py, passwords.py, attempts.py and audit.py on a real store."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import argon2
import msgspec
import pytest

from cloud_toa.cluster.model import attempts, audit, passwords, people, sessions
from cloud_toa.cluster.model.people import User
from cloud_toa.cluster.model.values import By, RefusedError, put, read
from cloud_toa.cluster.store import ConflictError, Store
from cloud_toa.cluster.store.sqlite import SqliteStore

BY = By("ann", "192.0.2.1")
PASSWORD = "correct horse battery"


def with_store(path: Path, test: Callable[[Store], Awaitable[None]]) -> None:
    async def main() -> None:
        store = await SqliteStore.open(path / "cluster.db")
        try:
            await test(store)
        finally:
            await store.close()

    asyncio.run(main())


def test_two_administrators_who_demote_each_other(tmp_path: Path) -> None:
    async def test(store: Store) -> None:
        for name in ("ann", "bob"):
            await people.create(store, name, PASSWORD, "admin", BY)
        done = await asyncio.gather(
            people.set_role(store, "ann", "viewer", BY),
            people.remove(store, "bob", BY),
            return_exceptions=True,
        )
        assert sum(isinstance(each, ConflictError) for each in done) == 1
        admins = [each for each in await people.all(store) if each.role == "admin"]
        assert len(admins) == 1
        with pytest.raises(RefusedError, match="last administrator"):
            await people.remove(store, admins[0].name, BY)

    with_store(tmp_path, test)


def test_names_are_the_same_in_small_and_capital_letters(tmp_path: Path) -> None:
    async def test(store: Store) -> None:
        await people.create(store, "Ann", PASSWORD, "viewer", BY)
        with pytest.raises(ConflictError, match="there is a user ann already"):
            await people.create(store, "ann", PASSWORD, "viewer", BY)
        user = await people.verified(store, "ANN", PASSWORD)
        assert user is not None
        assert user.name == "Ann"

    with_store(tmp_path, test)


def test_a_hash_with_other_parameters_is_made_anew_at_login(tmp_path: Path) -> None:
    async def test(store: Store) -> None:
        await people.create(store, "ann", PASSWORD, "viewer", BY)
        entry = await store.get("users/ann")
        assert entry is not None
        weak = argon2.PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1)
        before = msgspec.structs.replace(read(entry, User), password_hash=weak.hash(PASSWORD))
        await store.change(put("users/ann", before))
        token = await sessions.begin(store, before)
        after = await people.verified(store, "ann", PASSWORD)
        assert after is not None
        assert after.password_hash != before.password_hash
        assert not passwords.outdated(after.password_hash)
        assert await people.verified(store, "ann", PASSWORD) == after
        assert await sessions.of(store, token) == after
        assert await people.verified(store, "ann", "another horse") is None

    with_store(tmp_path, test)


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("short", "12 characters at least"),
        ("x" * 257, "256 characters at most"),
        ("annannannann", "not one's name"),
        ("abababababababab", "four different"),
    ],
)
def test_passwords_that_nobody_should_have(password: str, why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        passwords.check(password, "ann")


def test_password_of_a_mile_is_not_computed(tmp_path: Path) -> None:
    async def test(store: Store) -> None:
        await people.create(store, "ann", PASSWORD, "viewer", BY)
        assert await people.verified(store, "ann", "x" * 10_000_000) is None
        assert await people.verified(store, "ann\x00", PASSWORD) is None

    with_store(tmp_path, test)


def test_attempts_at_the_same_moment_are_all_counted(tmp_path: Path) -> None:
    async def test(store: Store) -> None:
        done = await asyncio.gather(
            *(attempts.take(store, "ann", "192.0.2.1") for _ in range(attempts.BY_ACCOUNT + 5)),
            return_exceptions=True,
        )
        refused = [each for each in done if isinstance(each, attempts.TooManyError)]
        assert len(refused) == 5
        await attempts.give_back(store, "ann", "192.0.2.1")
        await attempts.take(store, "ANN", "192.0.2.1")

    with_store(tmp_path, test)


def test_attempts_of_one_address_at_many_accounts(tmp_path: Path) -> None:
    async def test(store: Store) -> None:
        for at in range(attempts.BY_ADDRESS):
            await attempts.take(store, f"user{at}", f"2001:db8:1:2::{at:x}")
        with pytest.raises(attempts.TooManyError, match="try again in"):
            await attempts.take(store, "another", "2001:db8:1:2:ffff::1")
        await attempts.take(store, "another", "2001:db8:1:3::1")

    with_store(tmp_path, test)


def test_audit_says_from_what_to_what(tmp_path: Path) -> None:
    async def test(store: Store) -> None:
        await people.create(store, "bob", PASSWORD, "viewer", BY)
        await people.set_role(store, "bob", "operator", BY)
        await people.set_password(store, "bob", "another horse battery", BY)
        records = await audit.latest(store)
        assert [(each.what, each.before, each.after) for each in records] == [
            ("user.password", "", ""),
            ("user.role", "viewer", "operator"),
            ("user.create", "", "viewer"),
        ]
        assert {(each.who, each.address, each.subject) for each in records} == {
            ("ann", "192.0.2.1", "bob")
        }
        assert await audit.latest(store, before=records[1].time) == records[2:]
        assert "horse" not in str(records)

    with_store(tmp_path, test)
