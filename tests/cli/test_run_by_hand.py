# SPDX-License-Identifier: Apache-2.0
"""``run -print-rules``: a script that does what ``-auto-setup`` does, and prints how to undo it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cloud_toa.bpf import edge
from cloud_toa.doctor.table import Way, choose
from cloud_toa.node.state import directory
from tests.bpf.conftest import MakeCgroup, make_cgroup
from tests.cli.command import call, spawn
from tests.cli.running import QUEUE, running, status
from tests.nfqueue.conftest import network
from tests.nfqueue.kernel import Kernel, kernel

__all__ = ["make_cgroup", "network"]

pytestmark = pytest.mark.usefixtures("network")

BY_NFT = choose() is Way.NFT
MANY = ("-origin=192.0.2.0/24,198.51.100.7:443", "-origin=[2001:db8::]/32:443")


def script(*arguments: str) -> str:
    """What is printed, and nothing is done by it."""
    before = kernel()
    said = spawn("run", "-print-rules", *arguments)
    assert (said.code, said.err) == (0, "")
    assert kernel() == before
    assert not directory().exists()
    return said.out


def execute(text: str) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(["sh"], input=text, text=True, check=True, env={**os.environ, "PATH": path})


def undo(text: str) -> str:
    """The commands behind the last comment."""
    _, _, commands = text.partition("# To undo:")
    return "\n".join(line.lstrip("# ") for line in commands.splitlines())


def _without_queue(text: str) -> str:
    """What this kernel takes, all but nft's queue statement: its rule, or the target's."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not line.strip().startswith("queue "))


def _set_up(before: Kernel) -> Kernel:
    return (before[0] if BY_NFT else _without_queue(before[0]), *before[1:])


@pytest.mark.parametrize("sock", [False, True], ids=["", "sock"])
@pytest.mark.parametrize("origins", [("-origin=any",), MANY], ids=["any", "some"])
@pytest.mark.parametrize("queues", ["-max-queue-id=1", "-max-queue-id=4"])
def test_it_does_what_auto_setup_does(
    tmp_path: Path, origins: tuple[str, ...], queues: str, sock: bool
) -> None:
    arguments = ["-datapath=queue", queues, *origins]
    if sock:
        arguments.append(f"-sock={tmp_path / 'toa.sock'}")
    text = script(*arguments)
    assert text.startswith("#!/bin/sh\n# datapath: queue, as asked for by -datapath queue\n")
    assert text.count("    queue flags bypass") == 1
    assert text.count("no nft_queue: nft refuses the queue statement") == (not BY_NFT)
    before = kernel()
    with running("-auto-setup", *arguments):
        by_itself = _set_up(kernel())
    execute(text if BY_NFT else _without_queue(text))
    # Nobody watches over this: what is right only for now is left to the operator.
    spare = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#   nft add")]
    assert bool(spare) == (origins == MANY)
    execute("\n".join(spare))
    assert _set_up(kernel()) == by_itself
    execute(undo(text))
    assert kernel() == before


def test_a_run_without_auto_setup_finds_what_was_set_up_by_hand() -> None:
    text = script(*QUEUE)
    execute(text if BY_NFT else _without_queue(text))
    by_hand = kernel()
    with running(*QUEUE, "-max-queue-id=1") as edge:
        assert not edge.said("nothing is queued")
        assert status()["counters"]["queued"] == 0
        assert edge.end().code == 0
    assert kernel() == by_hand
    execute(undo(text))


def test_auto_setup_takes_over_what_was_set_up_by_hand() -> None:
    before = kernel()
    text = script(*QUEUE)
    execute(text if BY_NFT else _without_queue(text))
    with running("-auto-setup", *QUEUE, "-max-queue-id=1"):
        taken = kernel()
    assert kernel() == before
    with running("-auto-setup", *QUEUE, "-max-queue-id=1"):
        assert kernel() == taken


def test_ebpf(make_cgroup: MakeCgroup) -> None:
    place = str(make_cgroup("by-hand"))
    arguments = ("-origin=192.0.2.7:443", "-option-type-v4=200", f"-cgroup={place}", "-sock=/x")
    text = script("-datapath=auto", *arguments)
    assert "# datapath: bpf, as the kernel takes the eBPF programs\n" in text
    assert edge.status() is None
    execute(text)
    shown = status()
    assert (shown["datapath"], shown["cgroups"]) == ("bpf", [place])
    assert shown["settings"] == {
        "option_type_v4": 200,
        "option_type_v6": 254,
        "where": "syn,ack,data",
        "no_port": "connection",
        "refuse_elsewhere": False,
        "origins": ["192.0.2.7:443"],
        "control": True,
    }
    execute(undo(text))
    assert edge.status() is None


def test_ebpf_of_the_whole_host() -> None:
    execute(script("-origin=any"))
    try:
        assert status()["datapath"] == "bpf"
    finally:
        assert call("edge", "detach").code == 0


def test_nothing_is_printed_that_could_not_run() -> None:
    for arguments in ((), ("-origin=any", "-option-type-v4=8"), ("-origin=x.example",)):
        said = spawn("run", "-print-rules", *arguments)
        assert (said.code, said.out) == (2, "")
