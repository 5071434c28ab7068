# SPDX-License-Identifier: Apache-2.0
"""choice.py on this host, from which one thing at a time is really taken away."""

import subprocess
import sys
from pathlib import Path

import pytest

from cloud_toa.bpf import edge
from cloud_toa.node.choice import Chosen, choose
from tests.cli.test_doctor import NO_BPFFS, UNPRIVILEGED, emptied, refused

__all__ = ["refused"]

ASK = "from cloud_toa.node.choice import choose; c = choose('auto'); print(c.datapath, c.why)"


def asked(without: str = ":", before: tuple[str, ...] = ()) -> str:
    """What is chosen where a shell has taken something away first."""
    shell = ["unshare", "--mount", "sh", "-ec", f'{without}; exec "$@"', "sh"]
    command = [*shell, *before, sys.executable, "-c", ASK]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_what_is_asked_for_is_taken() -> None:
    assert choose("bpf") == Chosen("bpf", "asked for by -datapath bpf")
    assert choose("queue") == Chosen("queue", "asked for by -datapath queue")


def test_ebpf_where_the_kernel_takes_it() -> None:
    assert choose("auto") == Chosen("bpf", "the kernel takes the eBPF programs")
    assert edge.status() is None


@pytest.mark.parametrize(
    ("without", "why"),
    [
        (NO_BPFFS, "bpffs is not mounted: mount -t bpf bpf /sys/fs/bpf"),
        ("awk '$3 == \"cgroup2\" { print $2 }' /proc/self/mounts | xargs umount -l", "cgroup2"),
    ],
    ids=["bpffs", "cgroup2"],
)
def test_the_queue_where_a_mount_is_missing(without: str, why: str) -> None:
    said = asked(without)
    assert said.startswith("queue eBPF is not to be had: ")
    assert why in said


def test_the_queue_where_libbpf_is_missing(tmp_path: Path) -> None:
    said = asked(emptied("libbpf.so.1", tmp_path / "empty"))
    assert said == "queue eBPF is not to be had: libbpf.so.1 is missing"


def test_the_queue_where_the_kernel_refuses_a_program(refused: str) -> None:
    said = asked(refused)
    assert said.startswith("queue eBPF is not to be had: the kernel refuses edge_sockops (invalid")


def test_the_queue_without_privilege_for_ebpf() -> None:
    said = asked(before=UNPRIVILEGED)
    assert said == "queue eBPF is not to be had: no privilege to load edge_sockops"
