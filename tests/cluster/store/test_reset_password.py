# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa cluster reset-password``: who has the store gets in again."""

import asyncio
import os
import pty
import subprocess
from pathlib import Path

from cloud_toa.cluster.model import audit, people, sessions
from cloud_toa.cluster.model.audit import Record
from cloud_toa.cluster.model.values import By
from tests.cli.command import CLI
from tests.cluster.store.conftest import Backend, SqliteBackend

BY = By("ann", "192.0.2.1")
FORMER = "correct horse battery"
NEW = "another horse, battery"


async def prepare(backend: Backend) -> str:
    """An administrator and a viewer; answer a session of the administrator."""
    store = await backend.open()
    await people.create(store, "Ann", FORMER, "admin", BY)
    await people.create(store, "bob", FORMER, "viewer", BY)
    session = await sessions.begin(store, await people.one(store, "ann"))
    await store.close()
    return session


def reset(url: str, name: str, said: bytes) -> tuple[int, str]:
    done = subprocess.run(
        [*CLI, "cluster", "reset-password", name, "--store", url],
        input=said,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == b""
    return done.returncode, done.stderr.decode()


def test_password_and_sessions(backend: Backend) -> None:
    session = asyncio.run(prepare(backend))
    code, said = reset(backend.url, "ann", f"{NEW}\nnot this\n".encode())
    assert (code, said) == (0, "Ann has another password now, and is logged out everywhere\n")

    async def look() -> Record:
        store = await backend.open()
        assert await people.verified(store, "ann", FORMER) is None
        assert await people.verified(store, "ann", NEW) is not None
        assert await people.verified(store, "bob", FORMER) is not None
        assert await sessions.of(store, session) is None
        (record,) = await audit.latest(store, limit=1)
        await store.close()
        return record

    record = asyncio.run(look())
    assert (record.who, record.what, record.subject) == (
        "the command line",
        "user.password",
        "Ann",
    )
    assert "horse" not in str(record)


def test_what_is_refused_changes_nothing(backend: Backend, tmp_path: Path) -> None:
    asyncio.run(prepare(backend))
    code, said = reset(backend.url, "eve", f"{NEW}\n".encode())
    assert (code, said) == (
        2,
        "cloud-toa: there is no user 'eve' in this store; administrators are Ann\n",
    )
    for password, why in (
        (b"", "12 characters at least"),
        (b"short\n", "12 characters at least"),
        (b"x" * 100_000, "256 characters at most"),
        (b"\xff" * 20, "is no text"),
    ):
        code, said = reset(backend.url, "ann", password)
        assert code == 2
        assert why in said
        assert "Traceback" not in said

    async def look() -> None:
        store = await backend.open()
        assert await people.verified(store, "ann", FORMER) is not None
        await store.close()

    asyncio.run(look())


def test_a_store_without_anybody(tmp_path: Path) -> None:
    code, said = reset(f"sqlite://{tmp_path}/none.db", "ann", b"")
    assert code == 2
    assert f"there is no {tmp_path}/none.db" in said
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "new.db").touch()
    code, said = reset(f"sqlite://{tmp_path}/new.db", "ann", b"")
    assert code == 2
    assert "'cloud-toa console' prints a link" in said


def at_a_terminal(url: str, *lines: str) -> tuple[int, str]:
    """How it ends when somebody types these, and all that was to be seen."""
    ours, its = pty.openpty()
    with subprocess.Popen(
        ["setsid", "--ctty", "--wait", *CLI, "cluster", "reset-password", "ann", "--store", url],
        stdin=its,
        stdout=its,
        stderr=its,
    ) as process:
        os.close(its)
        shown, waiting = b"", list(lines)
        while True:
            try:
                data = os.read(ours, 1024)
            except OSError:  # its end is closed
                break
            shown += data
            if waiting and shown.endswith(b": "):
                os.write(ours, f"{waiting.pop(0)}\n".encode())
        os.close(ours)
        return process.wait(60), shown.decode()


def test_at_a_terminal_it_is_typed_twice_and_not_seen(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path)
    asyncio.run(prepare(backend))
    code, shown = at_a_terminal(backend.url, NEW, FORMER)
    assert code == 2
    assert "the two passwords differ" in shown
    code, shown = at_a_terminal(backend.url, NEW, NEW)
    assert code == 0
    assert "Ann has another password now" in shown
    assert "horse" not in shown
