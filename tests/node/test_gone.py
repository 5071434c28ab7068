# SPDX-License-Identifier: Apache-2.0
"""gone.py: what is left of network namespaces that are gone, and whose number others have."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_toa import capabilities, namespaces
from cloud_toa.bpf import cgroup, edge
from cloud_toa.config import EdgeSettings
from cloud_toa.isolation import Namespace
from cloud_toa.node import gone, state
from cloud_toa.node.state import State, directory
from tests.bpf.conftest import MakeCgroup, make_cgroup
from tests.node.processes import all_shown

__all__ = ["all_shown", "make_cgroup"]

NOBODYS = "4294967295"
"""An inode number that no namespace gets before a hundred million others are there."""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(state, "RUN", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def home() -> Iterator[Path]:
    """A cgroup as an `edge run` has for its HAProxy."""
    path = cgroup.root() / f"cloud-toa-haproxy-test-{os.getpid()}"
    path.mkdir()
    yield path
    if path.exists():
        path.rmdir()


@pytest.fixture
def same_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all network namespaces one inode number, as the kernel gives it one after another."""
    monkeypatch.setattr(namespaces, "inode", lambda: 4026532999)


def killed(shown: dict[str, object], folder: str = "haproxy") -> Path:
    """What an edge leaves that is killed here; answers where."""
    claim = State()
    (claim.folder / folder).mkdir()
    (claim.folder / folder / "master.sock").touch()
    claim.write(shown)
    os.close(claim._lock)
    return claim.folder


@pytest.mark.usefixtures("same_number")
def test_who_gets_the_number_of_one_that_is_gone_finds_nothing_of_it(
    place: Path, home: Path
) -> None:
    former = Namespace("gone-former")
    with former.entered():
        folder = killed({"pid": 1, "edge": {"cgroup": str(home)}, "auto_setup": True})
    former.remove()
    claim = State()
    assert claim.folder == folder == directory()
    assert claim.left_over() == {}
    assert sorted(file.name for file in folder.iterdir()) == ["lock", "who"]
    assert len(list(place.iterdir())) == 2
    assert gone.clean()
    assert [file.name for file in place.iterdir()] == [folder.name]
    assert not home.exists()
    assert not gone.clean()
    claim.close()
    assert list(place.iterdir()) == []


@pytest.mark.usefixtures("same_number")
@pytest.mark.parametrize("cookie", ["this one's", "none"])
def test_a_killed_ones_in_this_namespace_are_found(
    cookie: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if cookie == "none":  # an option that no kernel has, as Linux before 5.14
        monkeypatch.setattr(namespaces, "SO_NETNS_COOKIE", 9999)
    with caplog.at_level(logging.WARNING):
        folder = killed({"pid": 1})
        assert caplog.messages == []
        claim = State()
    assert claim.left_over() == {"pid": 1}
    assert (folder / "haproxy" / "master.sock").exists()
    assert not gone.clean()
    warned = [f"{folder} was left by an edge that was killed here, or by one in a network"]
    assert [message[: len(warned[0])] for message in caplog.messages] == (
        warned if cookie == "none" else []
    )
    os.close(claim._lock)


def test_what_an_earlier_version_left_is_this_namespaces() -> None:
    """It wrote no cookie, and an upgrade must find the HAProxy that goes on."""
    folder = killed({"pid": 1})
    (folder / "lock").write_bytes(b"")
    claim = State()
    assert claim.left_over() == {"pid": 1}
    claim.close()


@pytest.mark.usefixtures("all_shown")
def test_a_namespace_that_is_gone_is_cleaned_by_others(
    place: Path, home: Path, make_cgroup: MakeCgroup
) -> None:
    """With its programs, but not where another namespace's edge has them as well."""
    mine, shared, by_hand = (make_cgroup(name) for name in ("mine", "shared", "by-hand"))
    edge.attach([mine, shared, by_hand, home], EdgeSettings())
    former, other = Namespace("gone-former"), Namespace("gone-other")
    with former.entered():
        left = killed(
            {
                "auto_setup": True,
                "cgroups": [str(mine), str(shared), str(home)],
                "edge": {"cgroup": str(home)},
            }
        )
    with other.entered():
        kept = killed({"auto_setup": True, "cgroups": [str(shared)]})
    assert not gone.clean()  # both namespaces are there
    former.remove()
    # Its number may be another's by now, of the many that tests make.
    left.rename(place / NOBODYS)
    assert gone.clean()
    assert list(place.iterdir()) == [kept]
    found = edge.status()
    assert found is not None
    assert set(found.cgroups) == {shared, by_hand}
    assert not home.exists()
    other.remove()
    edge.detach()


@pytest.mark.usefixtures("all_shown")
def test_one_that_is_held_open_lives() -> None:
    """By an open file alone, and no mount."""
    held = Namespace("gone-held")
    with held.entered():
        killed({"pid": 1})
    with held.path.open():
        held.remove()
        assert not gone.clean()


@pytest.mark.usefixtures("all_shown")
@pytest.mark.parametrize("hidden", ["processes", "by a PID namespace"])
def test_where_not_all_is_seen_nothing_is_removed(
    place: Path, hidden: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = Namespace("gone-former")
    with former.entered():
        left = killed({"pid": 1})
    former.remove()
    if hidden == "processes":  # as in a unit's sandbox
        without = capabilities.effective() & ~capabilities.SYS_PTRACE
        monkeypatch.setattr(capabilities, "effective", lambda: without)
    else:
        monkeypatch.setattr(namespaces, "_ALL_PROCESSES", "pid:[1]")
    assert namespaces.living() is None
    assert not gone.clean()
    assert list(place.iterdir()) == [left]
