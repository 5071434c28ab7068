# SPDX-License-Identifier: Apache-2.0
"""server.py: who a peer is, as the kernel says, and what it may."""

import asyncio
import grp
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.control.desk import running
from tests.control.talk import NOBODY

# The interpreter may lie where only root can start it: it gives up root by itself.
PEER = """
import os, socket, sys
uid, gid = map(int, sys.argv[2:])
os.setgroups([])
os.setresgid(gid, gid, gid)
os.setresuid(uid, uid, uid)
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
peer.sendall(b"hello:2\\nquit:0\\n")
peer.shutdown(socket.SHUT_WR)
print(b"".join(iter(lambda: peer.recv(1000), b"")).decode(), end="")
"""


def ask_to_quit(path: Path, uid: int, gid: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PEER, str(path), str(uid), str(gid)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_quit_is_for_root(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with running(path, grp.getgrgid(NOBODY).gr_name) as desk:
            peer = await asyncio.to_thread(ask_to_quit, path, 1234, NOBODY)
            reason = "quit:0 is not for user 1234: send it as user 0"
            assert peer.stdout == f"ok\nerror: {reason}\n", peer.stderr
            assert [text.partition(": ")[2] for text in caplog.messages] == [reason]
            assert not desk.quit.is_set()

            peer = await asyncio.to_thread(ask_to_quit, path, 1234, 1234)
            assert "PermissionError" in peer.stderr  # not in the group

            peer = await asyncio.to_thread(ask_to_quit, path, 0, 0)
            assert peer.stdout == "ok\nok\n", peer.stderr
            await asyncio.wait_for(desk.quit.wait(), 10)

    asyncio.run(main())


def test_a_peer_is_named_by_its_process(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with running(path) as desk:
            await desk.say(b"add:1:192.0.2.1:56")
            await desk.until(lambda: bool(caplog.messages))

    asyncio.run(main())
    reason = "b'add:1:192.0.2.1:56' has no newline: it was not executed"
    assert caplog.messages == [f"pid {os.getpid()}: {reason}"]
