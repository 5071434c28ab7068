# SPDX-License-Identifier: Apache-2.0
"""pipes.py: a line of the access log is whole and there once; no fault of it stops anything."""

import asyncio
import json
import logging
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_toa.balancer import pipes
from cloud_toa.balancer.pipes import AccessLog, Pipe, check_access_log, messages
from cloud_toa.balancer.process import pipe
from cloud_toa.errors import ToaError
from cloud_toa.isolation import run

LOGGER = "cloud_toa.balancer.pipes"


def line(number: int, size: int = 0) -> bytes:
    return json.dumps({"number": number, "fill": "x" * size}).encode() + b"\n"


def numbers(*files: Path) -> list[int]:
    """Of each line, which is to be whole."""
    return [json.loads(each)["number"] for file in files for each in file.read_text().splitlines()]


def files(path: Path) -> list[Path]:
    """The oldest first."""
    old = [each for each in path.parent.iterdir() if each.name.startswith(f"{path.name}.")]
    return [*sorted(old, key=lambda each: -int(each.suffix[1:])), *([path] * path.exists())]


def test_every_line_is_in_one_of_the_files(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(path, 1000, 99)
    for start in range(0, 300, 3):
        log.write(b"".join(line(number, number % 50) for number in range(start, start + 3)))
    assert numbers(*files(path)) == list(range(300))
    assert len(files(path)) > 5
    assert all(each.stat().st_size >= 1000 for each in files(path) if each != path)


def test_the_oldest_are_given_up(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(path, 1, 2)
    for number in range(6):
        log.write(line(number))
    assert [each.name for each in files(path)] == ["access.log.2", "access.log.1"]
    assert numbers(*files(path)) == [4, 5]
    log.write(line(6))
    assert numbers(*files(path)) == [5, 6]


def test_none_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(path, 100, 0)
    log.write(line(1))
    assert numbers(path) == [1]
    log.write(line(2, 100))
    assert files(path) == []
    log.write(line(3))
    assert numbers(path) == [3]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 200), max_size=4), max_size=30), st.integers(1, 400))
def test_however_it_comes(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[list[int]], most: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "access.log"
    log = AccessLog(path, most, 1000)
    written = 0
    for sizes in pieces:
        log.write(b"".join(line(written + at, size) for at, size in enumerate(sizes)))
        written += len(sizes)
    assert numbers(*files(path)) == list(range(written))


def test_a_log_that_others_take_away(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(path, 1 << 20, 3)
    log.write(line(1))
    path.replace(tmp_path / "taken")
    log.write(line(2))
    path.unlink()
    log.write(line(3))
    assert numbers(tmp_path / "taken", path) == [1, 3]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (b"", b""),
        (b"[NOTICE] (1) : x\n", b""),
        (b"Connect from 192.0.2.1\n", b""),
        (b"\n", b""),
        (b"\n\n" + line(1) + b"\n", line(1)),
        (line(1) + b"oh no {\n" + line(2) + b"[ALERT]\n" + line(3), line(1) + line(2) + line(3)),
        (b"\xff\xfe\n" + line(1), line(1)),
    ],
)
def test_what_is_no_json_is_left_out(tmp_path: Path, said: bytes, kept: bytes) -> None:
    path = tmp_path / "access.log"
    AccessLog(path, 1 << 20, 1).write(said)
    assert (path.read_bytes() if path.exists() else b"") == kept


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KB."""
    place = tmp_path / "disk"
    place.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place))
    yield place
    run("umount", str(place))


def test_a_full_disk(
    small: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    path = small / "access.log"
    ballast = small / "ballast"
    ballast.write_bytes(bytes(32 << 10))
    log = AccessLog(path, 1 << 20, 1)
    for start in range(0, 1000, 10):
        # Short ones fit now and then, when long ones don't.
        size = 300 if start % 20 else 0
        log.write(b"".join(line(number, size) for number in range(start, start + 10)))
    kept = numbers(path)
    assert kept == sorted(set(kept))
    assert 50 < len(kept) < 500
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert str(path) in caplog.text
    assert "connections are not logged until that is mended" in caplog.text

    ballast.unlink()
    caplog.clear()
    log.write(line(2000))
    assert not caplog.records  # it may be full again at once
    monkeypatch.setattr(pipes, "_CALM", 0)
    log.write(line(2001))
    log.write(line(2002))
    assert numbers(path) == [*kept, 2000, 2001, 2002]
    assert [record.levelno for record in caplog.records] == [logging.INFO]
    missing = 1000 - len(kept)
    assert f"access log {path}: written again, {missing} lines are missing" in caplog.text


@pytest.mark.parametrize("path", ["/nonexistent/access.log", "/etc/passwd/access.log", "/etc"])
def test_a_place_that_can_t_be_written_to(path: str, caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog(Path(path), 1000, 1)
    log.write(line(1))
    log.write(line(2))
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert f"access log {path}: " in caplog.text


def device(path: Path, kind: int, major: int, minor: int) -> Path:
    """As in /dev, where nothing shall be tried out."""
    os.mknod(path, kind | 0o600, os.makedev(major, minor))
    return path


def test_a_device_is_written_to_and_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, minor in (("null", 3), ("full", 7)):
        path = device(tmp_path / name, stat.S_IFCHR, 1, minor)
        for keep in (0, 2):
            log = AccessLog(path, 1, keep)
            log.write(line(1, 5000))
            log.write(line(2))
        assert stat.S_ISCHR(path.stat().st_mode)
        assert files(path) == [path]
    assert {record.args[1] for record in caplog.records if isinstance(record.args, tuple)} == {
        "No space left on device"
    }


def test_what_a_link_leads_to_is_not_renamed(tmp_path: Path) -> None:
    """As /dev/stdout is one, to whatever standard output is; nor is the link itself."""
    target, path = tmp_path / "target", tmp_path / "access.log"
    path.symlink_to(target)
    for keep in (0, 2):
        log = AccessLog(path, 1, keep)
        log.write(line(keep))
        log.write(line(keep + 1))
    assert path.is_symlink()
    assert files(path) == [path]
    assert files(target) == [target]
    assert numbers(target) == [0, 1, 2, 3]


def test_a_pipe(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody is waited for; who reads gets whole lines."""
    path = tmp_path / "access.log"
    os.mkfifo(path)
    log = AccessLog(path, 1, 2)
    log.write(line(0))
    assert f"access log {path}: nobody reads it: connections are not logged" in caplog.text
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        for start in range(1, 3001, 100):
            log.write(b"".join(line(number, number % 700) for number in range(start, start + 100)))
        said = b"".join(iter(lambda: _read(reader), b""))
        kept = [json.loads(each)["number"] for each in said.splitlines()]
        assert said.endswith(b"\n")
        assert 100 < len(kept) < 3000
        assert kept == sorted(set(kept))
        assert log._lost == 3001 - len(kept)
        log.write(line(4000))
        assert _read(reader) == line(4000)
    finally:
        os.close(reader)
    log.write(line(4001))
    assert files(path) == [path]


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 20)
    except BlockingIOError:
        return b""


def test_what_can_be_an_access_log(tmp_path: Path) -> None:
    folder, disk, sock, link = (tmp_path / name for name in ("folder", "disk", "sock", "link"))
    folder.mkdir()
    device(disk, stat.S_IFBLK, 7, 200)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(sock))
    link.symlink_to(folder)
    for path, why in (
        (folder, "is a folder: name a file in it"),
        (link, "is a folder: name a file in it"),
        (disk, "is a disk: name a file on it"),
        (sock, "is a socket, which can't be opened: name a file, or write syslog instead"),
    ):
        with pytest.raises(ToaError) as refused:
            check_access_log(str(path))
        assert str(refused.value) == f"access_log.file {path} {why}"
    os.mkfifo(tmp_path / "pipe")
    for good in (None, "/dev/null", "/dev/stdout", str(tmp_path / "pipe"), str(tmp_path / "new")):
        check_access_log(good)


def test_nothing_is_lost_while_nobody_reads(tmp_path: Path) -> None:
    async def body() -> bytes:
        found: list[bytes] = []
        reader = Pipe(tmp_path / "pipe", found.append)
        writer = pipe(tmp_path / "pipe")
        for number in range(750):
            assert os.write(writer, line(number, 1000))
        os.close(writer)
        await reader.close()
        assert all(piece.endswith(b"\n") for piece in found)
        return b"".join(found)

    assert asyncio.run(body()) == b"".join(line(number, 1000) for number in range(750))


def test_lines_are_whole_however_they_come(tmp_path: Path) -> None:
    async def body() -> list[bytes]:
        found: list[bytes] = []
        arrived = asyncio.Event()

        def take(lines: bytes) -> None:
            found.append(lines)
            arrived.set()

        reader = Pipe(tmp_path / "pipe", take)
        writer = pipe(tmp_path / "pipe")
        os.write(writer, b"on")
        await asyncio.sleep(0.3)
        assert not found
        os.write(writer, b"e\ntwo\nthr")
        await asyncio.wait_for(arrived.wait(), 20)
        assert found == [b"one\ntwo\n"]
        os.write(writer, b"ee\nnever ended")
        os.close(writer)
        await reader.close()
        return found

    assert asyncio.run(body()) == [b"one\ntwo\n", b"three\n"]


def test_a_fault_costs_no_later_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> list[bytes]:
        found: list[bytes] = []
        arrived = asyncio.Event()

        def take(lines: bytes) -> None:
            arrived.set()
            if lines == b"bad\nworse\n":
                raise ValueError("what nobody thought of")
            found.append(lines)

        reader = Pipe(tmp_path / "pipe", take)
        writer = pipe(tmp_path / "pipe")
        for lines in (b"bad\nworse\n", b"good\n"):
            arrived.clear()
            os.write(writer, lines)
            await asyncio.wait_for(arrived.wait(), 20)
        os.close(writer)
        await reader.close()
        return found

    assert asyncio.run(body()) == [b"good\n"]
    assert "2 lines of HAProxy's are lost" in caplog.text
    assert "what nobody thought of" in caplog.text


def test_what_was_written_before_is_read(tmp_path: Path) -> None:
    async def body() -> bytes:
        writer = pipe(tmp_path / "pipe")
        os.write(writer, b"early\n")
        found: list[bytes] = []
        reader = Pipe(tmp_path / "pipe", found.append)
        os.close(writer)
        await reader.close()
        return b"".join(found)

    assert asyncio.run(body()) == b"early\n"


@pytest.mark.parametrize(
    ("said", "level", "message"),
    [
        (b"[ALERT]    (7) : cannot bind\n", logging.ERROR, "cannot bind"),
        (b"[WARNING]  (7) : Server a/b is DOWN\n", logging.WARNING, "Server a/b is DOWN"),
        (b"[NOTICE]   (7) : New worker (8) forked\n", logging.DEBUG, "New worker (8) forked"),
        (b"[NOTICE]   (7) : something\n", logging.INFO, "something"),
        (b"  anything else \xff\n", logging.INFO, "anything else \ufffd"),
    ],
)
def test_messages(said: bytes, level: int, message: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, LOGGER)
    messages(b"\n" + said)
    assert [(each.levelno, each.getMessage()) for each in caplog.records] == [(level, message)]
