# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa run`` with eBPF, and which datapath it takes by itself."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_toa.bpf import edge
from cloud_toa.config import EdgeSettings
from cloud_toa.nfqueue import setup
from cloud_toa.node.state import directory
from cloud_toa.origins import Origins
from tests.bpf.conftest import MakeCgroup, make_cgroup
from tests.cli.command import spawn
from tests.cli.running import clean_up, running, status, without
from tests.cli.test_doctor import NO_BPFFS, emptied
from tests.nfqueue.conftest import network
from tests.nfqueue.kernel import kernel

__all__ = ["make_cgroup", "network"]

ORIGIN = "-origin=192.0.2.7:443"


@pytest.fixture(autouse=True)
def nothing_stays(network: object) -> Iterator[None]:
    before = kernel()
    yield
    assert kernel() == before
    assert not directory().exists()


@pytest.fixture
def place(make_cgroup: MakeCgroup) -> str:
    return str(make_cgroup("run"))


def test_it_attaches_and_detaches(place: str) -> None:
    before = kernel()
    with running("-datapath=bpf", "-auto-setup", ORIGIN, f"-cgroup={place}") as run:
        assert run.said("[TOA]datapath: bpf, as asked for by -datapath bpf")
        assert run.said(f"[TOA]eBPF programs are attached to {place}")
        shown = status()
        assert (shown["attached"], shown["datapath"], shown["cgroups"]) == (True, "bpf", [place])
        assert shown["settings"]["origins"] == ["192.0.2.7:443"]
        assert kernel() == before
        said = run.end()
    assert said.code == 0
    assert "[TOA]eBPF programs are detached" in said.err
    assert status() == {"attached": False}


def test_the_whole_host_is_the_default() -> None:
    with running("-datapath=bpf", "-auto-setup", ORIGIN) as run:
        assert len(status()["cgroups"]) == 1
        assert run.end().code == 0
    assert edge.status() is None


def test_without_auto_setup_it_names_the_command(place: str) -> None:
    said = spawn("run", "-datapath=bpf", ORIGIN, f"-cgroup={place}")
    assert (said.code, said.out) == (2, "")
    last = said.err.splitlines()[-1]
    for words in ("not attached", "add -auto-setup", "cloud-toa run -print-rules"):
        assert words in last
    assert edge.status() is None


def test_without_auto_setup_it_leaves_what_is_attached(place: str) -> None:
    edge.attach([Path(place)], EdgeSettings(origins=Origins.parse(["192.0.2.7"])))
    with running("-datapath=bpf", ORIGIN, f"-cgroup={place}") as run:
        assert run.end().code == 0
    found = edge.status()
    assert found is not None
    assert str(found.settings.origins) == "192.0.2.7"


def test_a_control_socket_needs_programs_that_ask_it(place: str, tmp_path: Path) -> None:
    edge.attach([Path(place)], EdgeSettings())
    said = spawn("run", "-datapath=bpf", ORIGIN, f"-cgroup={place}", f"-sock={tmp_path / 's'}")
    assert said.code == 2
    assert "cloud-toa edge attach --control" in said.err.splitlines()[-1]
    assert not (tmp_path / "s").exists()


def test_a_start_that_fails_late_detaches(place: str) -> None:
    arguments = ("-datapath=bpf", "-auto-setup", ORIGIN, f"-cgroup={place}")
    said = spawn("run", *arguments, "-sock=/no/such/directory/toa.sock")
    assert said.code == 2
    assert edge.status() is None


def test_what_a_killed_run_leaves_goes_on_until_it_is_cleaned_up(place: str) -> None:
    with running("-datapath=bpf", "-auto-setup", ORIGIN, f"-cgroup={place}") as run:
        run.process.kill()
        run.process.wait()
    assert edge.status() is not None
    assert clean_up() == "removed what a killed run had left\n"
    assert edge.status() is None
    assert clean_up() == "nothing was left\n"


def test_what_a_killed_run_leaves_elsewhere_is_removed_by_the_next(
    place: str, make_cgroup: MakeCgroup
) -> None:
    other = str(make_cgroup("other"))
    both = [f"-cgroup={other}", f"-cgroup={place}"]
    with running("-datapath=bpf", "-auto-setup", ORIGIN, *both) as run:
        run.process.kill()
        run.process.wait()
    with running("-datapath=bpf", "-auto-setup", ORIGIN, f"-cgroup={place}") as run:
        assert status()["cgroups"] == [place]
        assert run.end().code == 0
    assert edge.status() is None


@pytest.mark.parametrize("left", ["bpf", "queue"])
def test_what_the_other_datapath_left_is_removed_at_the_start(place: str, left: str) -> None:
    common = ("-auto-setup", ORIGIN, "-max-queue-id=1", f"-cgroup={place}")
    with running(f"-datapath={left}", *common) as run:
        run.process.kill()
        run.process.wait()
    other = {"bpf": "queue", "queue": "bpf"}[left]
    with running(f"-datapath={other}", *common) as run:
        assert run.said("[TOA]removed what a former run had left")
        assert setup.is_there() == (other == "queue")
        assert (edge.status() is not None) == (other == "bpf")


def test_auto_takes_ebpf_here_and_says_why(place: str) -> None:
    with running("-auto-setup", ORIGIN, f"-cgroup={place}") as run:
        assert run.said("[TOA]datapath: bpf, as the kernel takes the eBPF programs")
        assert status()["datapath"] == "bpf"


def test_auto_takes_the_queue_without_bpffs() -> None:
    with running("-auto-setup", ORIGIN, "-max-queue-id=1", before=without(NO_BPFFS)) as run:
        assert run.said(
            "[TOA]datapath: queue, as eBPF is not to be had: "
            "bpffs is not mounted: mount -t bpf bpf /sys/fs/bpf"
        )
        shown = status()
        assert shown["datapath"] == "queue"
        assert "bpffs is not mounted" in shown["why"]
        assert run.end().code == 0


def test_auto_takes_the_queue_without_libbpf(tmp_path: Path) -> None:
    hidden = without(emptied("libbpf.so.1", tmp_path / "empty"))
    # Without -auto-setup, as Debian's ip needs libbpf too.
    with running(ORIGIN, "-max-queue-id=1", before=hidden) as run:
        why = "eBPF is not to be had: libbpf.so.1 is missing"
        assert run.said(f"[TOA]datapath: queue, as {why}")
        assert status()["why"] == why
        assert run.end().code == 0


def test_auto_without_either_names_what_the_queue_lacks(tmp_path: Path) -> None:
    queue = emptied("libnetfilter_queue.so.1", tmp_path / "empty")
    said = spawn("run", "-auto-setup", ORIGIN, before=without(f"{NO_BPFFS}; {queue}"))
    assert said.code == 2
    assert "libnetfilter_queue.so.1 is missing: apt-get install" in said.err.splitlines()[-1]
