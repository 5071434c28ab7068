# SPDX-License-Identifier: Apache-2.0
"""cgroup2 and bpffs where they are hidden, not mounted, or not to be mounted."""

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_toa.isolation import Namespace
from tests.cli.command import CLI, spawn

NO_BPFFS = "while umount -l /sys/fs/bpf 2>/dev/null; do :; done"
BPFFS = "grep ' bpf ' /proc/self/mounts"
# A first process of its own among mounts of its own, as in a container.
CONTAINER = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c")
# The same, taken for the host: what tells them apart is the kernel's number of the first PID
# namespace, which no test can be in with a first process of its own.
HOST = (
    "import sys; from pathlib import Path; from cloud_toa.bpf import mounts; "
    "mounts._FIRST_PIDS = str(Path('/proc/self/ns/pid').readlink()); "
    "from cloud_toa.cli import main; sys.exit(main(sys.argv[1:]))"
)


@pytest.fixture
def hidden() -> Iterator[Namespace]:
    network = Namespace("hidden")
    yield network
    network.remove()


def shell(script: str, *command: str) -> "subprocess.CompletedProcess[str]":
    """Run a script without bpffs, in which ``toa`` is our command."""
    text = f'{NO_BPFFS}; toa() {{ {shlex.join(command)} "$@"; }}; {script}'
    return subprocess.run([*CONTAINER, text], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "command",
    [
        ("edge", "attach", "--cgroup", "/"),
        ("origin", "attach", "--trust", "any"),
        ("edge", "run", "--listen", "127.0.0.1:8080", "--origin", "192.0.2.7:80"),
        ("run", "-datapath", "bpf", "-auto-setup", "-origin", "any"),
    ],
    ids=" ".join,
)
def test_what_ip_netns_exec_hides_is_named_in_one_go(
    hidden: Namespace, command: tuple[str, ...]
) -> None:
    said = spawn(*command, before=("ip", "netns", "exec", hidden.name))
    assert (said.code, said.out) == (2, "")
    line = said.err.splitlines()[-1]
    assert line == (
        "cloud-toa: cgroup2 and bpffs are out of reach, as 'ip netns exec' puts a /sys of its own "
        "in place: use nsenter --net=/run/netns/hidden instead of ip netns exec hidden"
    )


def test_the_way_around_reaches_both(hidden: Namespace, balancers: Path) -> None:
    before = ("nsenter", f"--net={hidden.path}")
    attach = ("edge", "attach", "--cgroup", str(balancers))
    assert spawn(*attach, before=before).code == 0
    assert spawn("edge", "detach", before=before).code == 0


def test_status_and_detach_where_bpffs_is_hidden(hidden: Namespace) -> None:
    """Nobody can tell what is attached."""
    for action in ("status", "detach"):
        said = spawn("edge", action, before=("ip", "netns", "exec", hidden.name))
        assert said.code == 2
        assert "bpffs is out of reach" in said.err


def test_a_host_s_bpffs_is_mounted_by_who_attaches(balancers: Path) -> None:
    script = f"""
        toa edge status; toa edge detach; {BPFFS}
        toa edge attach --cgroup {balancers}; {BPFFS}
        toa edge status | head -n 1; toa edge detach
    """
    done = shell(script, sys.executable, "-c", HOST)
    status, detached, attached, mounted, shown, gone = done.stdout.splitlines()
    assert done.stderr == ""
    assert status == "edge: not attached"
    assert detached == "edge: was not attached, nothing changed"
    assert attached == f"edge: attached to {balancers}"
    assert mounted == "bpf /sys/fs/bpf bpf rw,nosuid,nodev,noexec,relatime,mode=700 0 0"
    assert shown == "edge: attached"
    assert gone == f"edge: detached from {balancers}"


def test_a_container_s_bpffs_would_end_with_it(balancers: Path) -> None:
    done = shell(f"toa edge attach --cgroup {balancers}; {BPFFS}", *CLI)
    assert done.stdout == ""
    assert done.stderr == "cloud-toa: bpffs is not mounted: mount -t bpf bpf /sys/fs/bpf\n"


def test_both_are_named_where_neither_is_mounted() -> None:
    gone = "awk '$3 == \"cgroup2\" { print $2 }' /proc/self/mounts | xargs umount -l"
    done = shell(f"{gone}; toa edge attach --cgroup /; {BPFFS}", *CLI)
    assert done.stdout == ""
    assert "cgroup2 is not mounted: mount" in done.stderr
    assert "; bpffs is not mounted: mount -t bpf bpf /sys/fs/bpf" in done.stderr
