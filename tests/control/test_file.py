# SPDX-License-Identifier: Apache-2.0
"""file.py: made, replaced, refused and removed."""

import asyncio
import errno
import grp
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_toa.errors import ToaError
from tests.control.desk import running
from tests.control.talk import NOBODY


def mode(path: Path) -> tuple[str, int, int]:
    found = path.lstat()
    return stat.filemode(found.st_mode), found.st_uid, found.st_gid


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_file(path: Path, umask: int) -> None:
    group = grp.getgrgid(NOBODY)

    async def main() -> None:
        async with running(path, group.gr_name):
            assert mode(path) == ("srw-rw----", 0, NOBODY)
        assert not path.exists()
        async with running(path):
            assert mode(path) == ("srw-rw----", 0, 0)

    before = os.umask(umask)
    try:
        asyncio.run(main())
    finally:
        os.umask(before)
    assert list(path.parent.iterdir()) == []


def test_without_a_group_the_directorys_does_not_count(path: Path) -> None:
    os.chown(path.parent, -1, NOBODY)
    path.parent.chmod(0o2755)

    async def main() -> None:
        async with running(path):
            assert mode(path) == ("srw-rw----", 0, 0)

    asyncio.run(main())


def test_nobody_can_connect_before_owner_and_mode_are_set(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def probed(real: Callable[..., None]) -> Callable[..., None]:
        def probe(*arguments: object, **more: object) -> None:
            with socket.socket(socket.AF_UNIX) as peer:
                tried.append(peer.connect_ex(str(path)))
            real(*arguments, **more)

        return probe

    monkeypatch.setattr(os, "chown", probed(os.chown))
    monkeypatch.setattr(os, "chmod", probed(os.chmod))

    async def main() -> None:
        async with running(path) as desk:
            assert await desk.say(b"hello:2\n") == b"ok\n"

    asyncio.run(main())
    assert tried == [errno.ECONNREFUSED] * 2


def refusal(path: Path, group: str | None = None) -> str:
    async def main() -> None:
        async with running(path, group):
            pass

    with pytest.raises(ToaError) as refused:
        asyncio.run(main())
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_the_socket_of_a_dead_process_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()

    async def main() -> None:
        async with running(path) as desk:
            assert await desk.say(b"hello:2\n") == b"ok\n"

    asyncio.run(main())


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_live_socket_is_left_alone(path: Path, kind: socket.SocketKind) -> None:
    in_use = f"{path} is in use: end the process that has it, or use another path"
    with socket.socket(socket.AF_UNIX, kind) as live:
        live.bind(str(path))
        if kind == socket.SOCK_STREAM:
            live.listen(0)
        for _ in range(3):  # until its backlog is full, which must not hold us up
            assert refusal(path) == in_use
        assert path.is_socket()


def test_two_servers_at_one_path(path: Path) -> None:
    async def main() -> None:
        async with running(path) as desk:
            with pytest.raises(ToaError, match="is in use"):
                async with running(path):
                    pass
            assert await desk.say(b"hello:2\n") == b"ok\n"

    asyncio.run(main())


def test_what_is_no_socket_is_left_alone(path: Path) -> None:
    reason = f"{path} is not a socket: remove it, or use another path"
    path.write_text("kept")
    assert refusal(path) == reason
    assert path.read_text() == "kept"
    path.unlink()
    path.symlink_to("elsewhere")
    assert refusal(path) == reason
    assert path.is_symlink()
    path.unlink()
    path.mkdir()
    assert refusal(path) == reason


def test_no_directory(path: Path) -> None:
    missing = path.parent / "missing"
    reason = f"{missing} is no directory: make it, or use another path"
    assert refusal(missing / "control.sock") == reason
    missing.touch()
    assert refusal(missing / "control.sock") == reason


def test_a_directory_that_anybody_may_write_to(path: Path) -> None:
    path.parent.chmod(0o777)
    replace = f"anybody may put another socket in {path}'s place: chmod +t {path.parent}"
    assert refusal(path) == f"{replace}, or use another path"
    assert not path.exists()
    path.parent.chmod(0o1777)

    async def main() -> None:
        async with running(path) as desk:
            assert mode(path) == ("srw-rw----", 0, 0)
            assert await desk.say(b"hello:2\n") == b"ok\n"

    asyncio.run(main())
    reason = f"{path} is there already, of user {NOBODY}: remove it, or use another path"
    for what in ("file", "link", "socket"):
        lay(path, what)
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        before = Path("/etc/passwd").stat()
        assert refusal(path) == reason
        assert os.path.lexists(path)
        assert Path("/etc/passwd").stat() == before
        path.unlink()


def lay(path: Path, what: str) -> None:
    if what == "file":
        path.touch()
    elif what == "link":
        path.symlink_to("/etc/passwd")
    else:
        dead(path)


def dead(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def test_long_path(path: Path) -> None:
    room = 107 - len(os.fsencode(path.parent)) - 1

    async def main() -> None:
        async with running(path.with_name("é" * (room // 2) + "x" * (room % 2))) as desk:
            assert await desk.say(b"hello:2\n") == b"ok\n"

    asyncio.run(main())
    longer = path.with_name("é" * (room // 2) + "x" * (room % 2 + 1))
    assert refusal(longer) == f"{longer} is too long for a socket: use a path of 107 bytes at most"


def test_unknown_group(path: Path) -> None:
    assert refusal(path, "no-such") == "group 'no-such' does not exist: name one that does"
    assert not path.exists()


def test_nothing_stays_of_a_start_that_the_kernel_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chown(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", chown)
    reason = "can't be made a socket: Operation not permitted: use another path or group"
    assert refusal(path) == f"{path} {reason}"
    assert not path.exists()


def test_close_leaves_what_others_put_there(path: Path) -> None:
    async def main() -> None:
        async with running(path) as desk:
            path.unlink()
            path.write_text("kept")
        await desk.server.close()
        assert path.read_text() == "kept"
        path.unlink()
        async with running(path):
            path.unlink()
        async with running(path) as desk:
            pass
        await desk.server.start()  # and again
        assert await desk.say(b"hello:2\n") == b"ok\n"
        await desk.server.close()

    asyncio.run(main())
