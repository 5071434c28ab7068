# SPDX-License-Identifier: Apache-2.0
"""What others attached, or a killed run has left: the next one must not take it for its own."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_toa.bpf import cgroup, edge
from cloud_toa.config import EdgeSettings
from cloud_toa.node.state import directory
from tests.bpf.conftest import MakeCgroup, make_cgroup
from tests.cli.command import spawn
from tests.cli.running import PATIENCE, clean_up, running, status
from tests.nfqueue.conftest import network

__all__ = ["make_cgroup", "network"]

BPF = ("run", "-datapath=bpf", "-origin=192.0.2.7")


@pytest.fixture
def place(network: object, make_cgroup: MakeCgroup) -> Iterator[Path]:
    yield make_cgroup("run")
    edge.detach()


def test_attached_by_hand_stays_so(place: Path) -> None:
    edge.attach([place], EdgeSettings())
    with running(*BPF[1:], "-auto-setup", f"-cgroup={place}") as run:
        assert run.said(f"{place} was attached by hand")
        assert status()["settings"]["origins"] == ["192.0.2.7"]
        assert run.end().code == 0
    assert status()["cgroups"] == [str(place)]


def test_attached_by_a_run_that_was_killed_does_not(place: Path) -> None:
    for by in (signal.SIGKILL, signal.SIGTERM):
        with running(*BPF[1:], "-auto-setup", f"-cgroup={place}") as run:
            assert not run.said("by hand")
            run.end(by)
    assert status() == {"attached": False}


def test_a_run_that_touches_nothing_does_not_forget_what_was_left(place: Path) -> None:
    with running(*BPF[1:], "-auto-setup", f"-cgroup={place}") as run:
        run.end(signal.SIGKILL)
    refused = spawn(*BPF, f"-cgroup={place}")
    assert refused.code == 2
    assert "cloud-toa run -cleanup removes it" in refused.err
    assert clean_up() == "removed what a killed run had left\n"
    assert status() == {"attached": False}


def test_a_run_that_fails_does_not_forget_what_was_left(place: Path, tmp_path: Path) -> None:
    with running(*BPF[1:], "-auto-setup", f"-cgroup={place}") as run:
        run.end(signal.SIGKILL)
    taken = tmp_path / "file"
    taken.touch()
    failed = spawn(*BPF, "-auto-setup", f"-cgroup={place}", f"-sock={taken}")
    assert failed.code == 2
    assert "is not a socket" in failed.err
    assert status() == {"attached": False}


@pytest.mark.parametrize("cleanup", [True, False])
def test_an_edge_run_that_was_killed_before_it_said_what_runs(place: Path, cleanup: bool) -> None:
    """Only its HAProxy's folder is there, and somebody in the cgroup that it had made."""
    files = directory() / "haproxy"
    files.mkdir(parents=True)
    (files / "haproxy.cfg").touch()
    home = cgroup.root() / f"cloud-toa-haproxy-{directory().name}"
    home.mkdir()
    with subprocess.Popen(["sleep", "infinity"]) as somebody:
        (home / "cgroup.procs").write_text(str(somebody.pid))
        if cleanup:
            assert clean_up() == "removed what a killed run had left\n"
        else:
            with running(*BPF[1:], "-auto-setup", f"-cgroup={place}") as run:
                assert run.end().code == 0
        assert somebody.wait(PATIENCE) == -signal.SIGKILL
    assert not home.exists()
    assert not directory().exists()
    assert clean_up() == "nothing was left\n"
