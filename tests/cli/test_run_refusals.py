# SPDX-License-Identifier: Apache-2.0
"""What ``cloud-toa run`` refuses: exit code 2, the value and the remedy, and nothing is set up."""

import grp
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_toa.node.state import directory
from tests.cli.command import Said, spawn
from tests.cli.running import QUEUE, running, without
from tests.cli.test_doctor import emptied
from tests.nfqueue.conftest import network
from tests.nfqueue.kernel import kernel

__all__ = ["network"]

pytestmark = pytest.mark.usefixtures("network")

OTHER = """
import sys
from cloud_toa.nfqueue.queue import Queue
queue = Queue(2)
print(".", end="", flush=True)
sys.stdin.read()
"""
SETUP = ("-auto-setup", "-max-queue-id=2", *QUEUE)


@pytest.fixture(autouse=True)
def nothing_is_set_up(network: object) -> Iterator[None]:
    before = kernel()
    yield
    assert kernel() == before
    assert not directory().exists()


def refused(said: Said, *words: str) -> None:
    assert said.code == 2
    assert said.out == ""
    assert "Traceback" not in said.err
    last = said.err.splitlines()[-1]
    assert last.startswith("cloud-toa")
    for word in words:
        assert word in last


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["no -origin", "-origin any"]),
        (["-origin="], ["list of origins is empty", "any"]),
        (["-origin=origin.example"], ["'origin.example'", "host name", "address"]),
        (["-origin=192.0.2.7/24"], ["'192.0.2.7/24'", "192.0.2.0/24"]),
        (["-origin=any", "-option-type-v4=8"], ["8", "Timestamps", "254"]),
        (["-origin=any", "-option-type-v6=300"], ["300", "0 to 255"]),
        (["-origin=any", "-option-type-v4", "-1"], ["-1", "0 to 255"]),
        (["-origin=any", "-option-type-v4="], ["''", "0 to 255"]),
        (["-origin=any", "-min-queue-id=-1"], ["'-1'", "0 to 65535"]),
        (["-origin=any", "-max-queue-id=65536"], ["65536", "0 to 65535"]),
        (["-origin=any", "-min-queue-id=9", "-max-queue-id=8"], ["9", "8", "swap"]),
        (["-origin=any", "-max-queue-id=500"], ["500 queues", "256 at most"]),
        (["-origin=any", "-datapath=xdp"], ["'xdp'", "auto, bpf or queue"]),
        (["-origin=any", "-metrics=here"], ["'here'", "127.0.0.1:9100"]),
        (["-origin=any", "-metrics=300.0.0.1:9100"], ["'300.0.0.1:9100'", "127.0.0.1:9100"]),
        (["-origin=any", "-sock-group=root"], ["root", "-sock PATH"]),
        (["-origin=any", "-config=/no/such.toml"], ["/no/such.toml", "No such file"]),
        (["-origin=any", "-auto-setup=maybe"], ["'maybe'", "true", "--help"]),
        (["-origin=any", "-speed=1"], ["-speed=1", "--help"]),
        (["-origin"], ["-origin", "--help"]),
    ],
    ids=" ".join,
)
def test_bad_values(arguments: list[str], words: list[str]) -> None:
    refused(spawn("run", "-auto-setup", *arguments), *words)


def test_the_library_is_missing(tmp_path: Path) -> None:
    before = without(emptied("libnetfilter_queue.so.1", tmp_path / "empty"))
    for arguments in (SETUP, SETUP[1:]):
        said = spawn("run", *arguments, before=before)
        refused(
            said,
            "libnetfilter_queue.so.1 is missing",
            "apt-get install libnetfilter-queue1 (Debian, Ubuntu)",
            "dnf install libnetfilter_queue (RHEL, Rocky)",
        )
        assert "workers" not in said.err


@pytest.mark.parametrize(
    ("program", "debian", "rhel"),
    [("nft", "nftables", "nftables"), ("ip", "iproute2", "iproute")],
)
def test_a_program_is_missing(tmp_path: Path, program: str, debian: str, rhel: str) -> None:
    for other in {"nft", "ip"} - {program}:
        (tmp_path / other).symlink_to(str(shutil.which(other)))
    said = spawn("run", *SETUP, before=("env", f"PATH={tmp_path}"))
    remedies = f"apt-get install {debian} (Debian", f"dnf install {rhel} (RHEL"
    refused(said, f"{program} is missing: ", *remedies)
    assert "workers" not in said.err


def test_a_queue_that_another_program_has() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.read(1) == b"."
        said = spawn("run", *SETUP)
    refused(said, "queue 2 can't be had", "another program has it", "-min-queue-id")
    with running(*SETUP) as edge:
        assert edge.end().code == 0


def test_without_privilege() -> None:
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    refused(spawn("run", *SETUP, before=nobody), "run as root")
    refused(spawn("run", "-cleanup", before=nobody), "run as root")


def test_a_root_who_may_not_configure_the_network() -> None:
    before = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-all")
    refused(spawn("run", *SETUP, before=before), "queue ", "CAP_NET_ADMIN", "run as root")


def test_metrics_on_an_address_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        said = spawn("run", *SETUP, f"-metrics={address}")
    refused(said, f"-metrics {address}", "Address already in use", "choose another")


@pytest.mark.parametrize("path", ["/no/such", "/proc", "/" + "x" * 200, "/etc/passwd"])
def test_a_control_socket_that_cannot_be(path: str) -> None:
    refused(spawn("run", *SETUP, f"-sock={path}/toa.sock"), path)


def test_a_group_that_is_not() -> None:
    unknown = "no-such-group"
    assert unknown not in {group.gr_name for group in grp.getgrall()}
    path = f"/run/cloud-toa-{os.getpid()}.sock"
    refused(spawn("run", *SETUP, f"-sock={path}", f"-sock-group={unknown}"), unknown)
    assert not Path(path).exists()


def test_a_cgroup_that_is_not() -> None:
    said = spawn("run", "-origin=any", "-auto-setup", "-datapath=bpf", "-cgroup=no-such.service")
    refused(said, "no-such.service")
