# SPDX-License-Identifier: Apache-2.0
"""What the queue datapath needs: the rules as the kernel takes them, and room in conntrack."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from cloud_toa import packages
from cloud_toa.doctor import conntrack, queue, remedies, table
from cloud_toa.doctor.empty_network import in_empty_network
from cloud_toa.doctor.finding import Remedy, State
from cloud_toa.doctor.table import Trial, Way

# Refuses text with a word in it, as a kernel without the module does; of the rest the kernel says.
NFT = """#!/bin/sh
text=$(cat)
case "$text" in *"{word}"*) echo "{said}" >&2; exit 1;; esac
printf '%s\\n' "$text" | {nft} "$@"
"""
NO_RULE = "/dev/stdin:7:5-9: Error: Could not process rule: No such file or directory"


@pytest.fixture
def front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of programs that are found before the host's."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def lack(front: Path, word: str) -> None:
    nft = NFT.format(word=word, said=NO_RULE, nft=shutil.which("nft"))
    (front / "nft").write_text(nft)
    (front / "nft").chmod(0o755)


def said(command: str) -> str:
    return subprocess.run(command.split(), capture_output=True, text=True, check=True).stdout


def network() -> list[str]:
    """What the trial could leave behind."""
    return [said(what) for what in ("nft list ruleset", "ip rule", "ip route show table all")]


def test_the_kernel_is_tried_and_nothing_stays() -> None:
    before = network()
    trial = table.attempt()
    assert trial in (Trial(Way.NFT), Trial(Way.XTABLES))
    assert table.choose() is trial.way
    assert table.finding(trial, needed=True).state is State.OK
    assert network() == before


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("table inet", "the kernel lacks nf_tables"),
        ("ct mark", "the kernel lacks nft_ct"),
        ("ct timeout", "the kernel lacks nft_ct's timeouts (CONFIG_NF_CONNTRACK_TIMEOUT)"),
        ("fib saddr", "the kernel lacks nft_fib_inet"),
        ("masquerade", "the kernel lacks nft_masq"),
        ("type nat", "the kernel lacks nft_chain_nat, nft_masq"),
        # What nobody thought of is said in nft's words.
        ("flags interval", f"nft refused our table: {NO_RULE}"),
    ],
)
def test_what_is_missing_is_named(front: Path, word: str, reason: str) -> None:
    lack(front, word)
    trial = table.attempt()
    assert trial == Trial(None, reason)
    assert table.choose() is Way.NFT
    missing, unneeded = (table.finding(trial, needed=needed) for needed in (True, False))
    assert (missing.state, unneeded.state) == (State.MISSING, State.NOT_NEEDED)
    assert missing.detail == unneeded.detail == reason
    assert str(missing.remedy_debian).startswith("modprobe -a nft_ct ")
    assert unneeded.remedy_debian is None


def test_a_kernel_without_policy_rules(front: Path) -> None:
    real = shutil.which("ip")
    refusal = 'echo "RTNETLINK answers: Operation not supported" >&2; exit 2'
    (front / "ip").write_text(
        f'#!/bin/sh\ncase "$*" in *"rule add"*) {refusal};; esac\nexec {real} "$@"\n'
    )
    (front / "ip").chmod(0o755)
    trial = table.attempt()
    assert trial is not None
    assert trial.way is None
    assert trial.reason.startswith("ip -4 rule add priority ")
    assert trial.reason.endswith("failed: RTNETLINK answers: Operation not supported")


def test_without_programs_nothing_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("nft", "ip"):
        (tmp_path / program).symlink_to(str(shutil.which(program)))
    monkeypatch.setenv("PATH", str(tmp_path))
    for program in ("nft", "ip"):
        (tmp_path / program).rename(tmp_path / "away")
        assert table.attempt() is None
        (tmp_path / "away").rename(tmp_path / program)
    found = table.finding(None, needed=False)
    assert (found.state, found.detail) == (
        State.NOT_NEEDED,
        "not tried: needs root, nft and ip",
    )


def test_an_empty_network_is_this_question_s_alone() -> None:
    own = Path("/proc/thread-self/ns/net").readlink()

    def look() -> tuple[list[str], Path]:
        names = [name for _, name in socket.if_nameindex()]
        return names, Path("/proc/thread-self/ns/net").readlink()

    devices, other = in_empty_network(look)
    assert set(devices) >= {"lo"}
    assert "to-origin" not in devices
    assert other != own
    assert Path("/proc/thread-self/ns/net").readlink() == own


def test_programs_and_their_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert queue.ip(needed=True).detail in said("ip -Version")
    assert queue.nft(needed=True).state is State.OK
    monkeypatch.setenv("PATH", str(tmp_path))
    for check, package in ((queue.ip, packages.IP), (queue.nft, packages.NFT)):
        missing = check(needed=True)
        assert (missing.state, missing.detail) == (State.MISSING, "not in PATH")
        remedy = remedies.package(package)
        assert (missing.remedy_debian, missing.remedy_rhel) == (remedy.debian, remedy.rhel)
        assert check(needed=False).state is State.NOT_NEEDED
    assert remedies.package(packages.IP) == Remedy(
        "apt-get install iproute2", "dnf install iproute"
    )


@pytest.mark.parametrize(
    ("maximum", "needed", "state"),
    [
        (1_250_000, True, State.OK),
        (1_249_999, True, State.MISSING),
        (262_144, False, State.NOT_NEEDED),
        (None, True, State.MISSING),
        (None, False, State.NOT_NEEDED),
    ],
)
def test_conntrack_must_hold_ten_thousand_connections_a_second(
    maximum: int | None, needed: bool, state: State
) -> None:
    found = conntrack.finding(maximum, 17, 120, needed=needed)
    assert found.state is state
    if state is State.MISSING:
        assert conntrack.enlarge() in str(found.remedy_debian)
        assert "nf_conntrack_max=1250000 " in str(found.remedy_debian)


def test_conntrack_counts_both_entries_of_a_connection() -> None:
    # 30 s for the client's, as the host says here, and 5 s for the origin's.
    assert conntrack.finding(350_000, 0, 30, needed=True).state is State.OK
    assert conntrack.finding(349_999, 0, 30, needed=True).state is State.MISSING
    assert conntrack.finding(262_144, 17, 120, needed=True).detail == (
        "17 of 262144 entries, 2097 connections/s: 10000 need 1250000"
    )
    assert conntrack.finding(10, 0, 0, needed=False).detail.startswith("0 of 10 entries, 2 ")
