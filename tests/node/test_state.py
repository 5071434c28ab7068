# SPDX-License-Identifier: Apache-2.0
"""state.py: who runs here, by a lock that ends with the process; what a killed one leaves."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from cloud_toa.errors import ToaError
from cloud_toa.isolation import Namespace
from cloud_toa.node import state
from cloud_toa.node.state import State, directory, running

SHOWN = {"pid": 4711, "datapath": "queue", "workers": []}
OTHER = """
import os, sys
from pathlib import Path
from cloud_toa.node import state
state.RUN = Path(sys.argv[1])
claim = state.State()
claim.write({"pid": os.getpid()})
claim.counters(8)
print(os.getpid(), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(state, "RUN", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def claim() -> Iterator[State]:
    claimed = State()
    yield claimed
    claimed.close()


@pytest.fixture
def other(place: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that is the edge here, and lives until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{process.pid}\n"
        yield process
        process.kill()


def test_nothing_is_there_before_and_after(place: Path) -> None:
    assert running() is None
    assert not place.exists()
    claim = State()
    claim.write(SHOWN)
    claim.counters(8)
    claim.close()
    assert running() is None
    assert list(place.iterdir()) == []


def test_only_root_may_look(claim: State) -> None:
    claim.write(SHOWN)
    assert directory().stat().st_mode & 0o777 == 0o700


def test_what_runs_is_shown(claim: State) -> None:
    assert running() is None
    claim.write(SHOWN)
    assert running() == (SHOWN, None)
    descriptor, memory = claim.counters(16)
    memory[:3] = b"abc"
    found = running()
    assert found is not None
    shown, counters = found
    assert shown == SHOWN
    assert counters is not None
    assert bytes(counters) == b"abc" + bytes(13)
    with pytest.raises(TypeError):
        counters[0] = 1  # others may read
    claim.write({**SHOWN, "pid": 4712})
    assert running() is not None
    assert claim.left_over() == {**SHOWN, "pid": 4712}
    os.close(descriptor)


def test_counters_begin_at_zero_even_over_left_overs(claim: State) -> None:
    for _ in range(2):
        descriptor, memory = claim.counters(64)
        assert bytes(memory) == bytes(64)
        memory[:] = b"\xff" * 64
        os.close(descriptor)
    assert (directory() / "counters").stat().st_mode & 0o777 == 0o600


def test_a_second_process_is_refused_with_the_firsts_pid(other: "subprocess.Popen[str]") -> None:
    for _ in range(2):
        with pytest.raises(ToaError) as refused:
            State()
        assert str(refused.value) == (
            f"cloud-toa run (process {other.pid}) is at work here already: stop that first"
        )
    found = running()
    assert found is not None
    assert found[0] == {"pid": other.pid}


def test_a_second_one_before_the_first_has_said_who_it_is(claim: State) -> None:
    (directory() / "who").unlink()
    with pytest.raises(ToaError, match=r"^another cloud-toa is at work here already: stop that"):
        State()


def test_who_it_is_is_not_who_it_was(other: "subprocess.Popen[str]") -> None:
    """Also before it has said what it does."""
    other.kill()
    other.wait()
    claim = State("cloud-toa edge run")
    assert claim.left_over() == {"pid": other.pid}
    with pytest.raises(ToaError) as refused:
        State()
    assert str(refused.value) == (
        f"cloud-toa edge run (process {os.getpid()}) is at work here already: stop that first"
    )
    claim.close()


def test_nobody_but_root_knows_whether_something_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setattr(state, "RUN", Path(folder))
        claim = State()
        claim.write(SHOWN)
        os.seteuid(65534)
        try:
            with pytest.raises(ToaError, match=r"only root can see: run as root$"):
                running()
        finally:
            os.seteuid(0)
            claim.close()


def test_a_killed_one_leaves_what_it_said_and_no_lock(other: "subprocess.Popen[str]") -> None:
    other.kill()
    other.wait()
    assert running() is None
    assert (directory() / "state.json").exists()
    claim = State()
    assert claim.left_over() == {"pid": other.pid}
    claim.close()
    assert not directory().exists()


@pytest.mark.parametrize("content", ["", "{", "[1]", "\xff", '{"pid": '])
def test_a_state_that_cannot_be_read_is_none(claim: State, content: str) -> None:
    (directory() / "state.json").write_text(content, encoding="latin-1")
    assert claim.left_over() == {}
    assert running() is None


def test_another_network_namespaces_is_not_ours(claim: State) -> None:
    claim.write(SHOWN)
    other = Namespace("state-other")
    with other.entered():
        assert running() is None
        second = State()
        assert second.left_over() == {}
        second.close()
    other.remove()
    assert running() == (SHOWN, None)


def test_who_comes_while_another_leaves_has_the_place_alone() -> None:
    """The lock's file goes with its owner; nobody is left with a lock of a file that is gone."""
    holders: list[int] = []
    most: list[int] = []

    def come_and_go() -> None:
        for _ in range(300):
            try:
                claim = State()
            except ToaError:
                continue
            holders.append(1)
            most.append(len(holders))
            holders.pop()
            claim.close()

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
    assert not directory().exists()


def test_a_place_that_cannot_be_made(place: Path) -> None:
    place.write_text("a file")
    with pytest.raises(ToaError, match=r"/run/.*: Not a directory: see what is there, and remove"):
        State()


@pytest.mark.parametrize("name", ["lock", "state.json", "state.json.new", "counters"])
def test_a_folder_where_a_file_shall_be_is_named(name: str) -> None:
    (directory() / name).mkdir(parents=True)
    with pytest.raises(ToaError, match=rf"/{name}.*: Is a directory: see what is there, and "):
        _use_all()
    (directory() / name).rmdir()
    _use_all()
    assert not directory().exists()


def _use_all() -> None:
    claim = State()
    try:
        claim.write(SHOWN)
        os.close(claim.counters(8)[0])
    finally:
        claim.close()
