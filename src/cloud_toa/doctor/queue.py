# SPDX-License-Identifier: Apache-2.0
"""What the queue datapath needs: the way for a sender whose kernel lacks the eBPF hooks."""

import ctypes
import shutil
import subprocess

from cloud_toa.doctor import remedies
from cloud_toa.doctor.finding import Finding, absent, there

RATE = 10_000
"""Connections/s that conntrack's table should hold; a busy load balancer's."""

_TIMEOUT = 10.0
_QUEUE_RULE = """
add table inet cloud_toa_doctor
add chain inet cloud_toa_doctor out { type filter hook output priority 0; }
add rule inet cloud_toa_doctor out tcp dport 80 queue flags bypass to 1
"""


def libnetfilter_queue(*, needed: bool) -> Finding:
    """The library that brings packets to user space."""
    name = "libnetfilter_queue.so.1"
    try:
        ctypes.CDLL(name)
    except OSError:
        return absent(name, "not found", remedies.LIBNETFILTER_QUEUE, needed=needed)
    return there(name, "found")


def nft(*, needed: bool) -> Finding:
    """The program that installs the rules."""
    if shutil.which("nft") is None:
        return absent("nft", "not in PATH", remedies.NFT, needed=needed)
    done = subprocess.run(
        ["nft", "--version"], capture_output=True, text=True, timeout=_TIMEOUT, check=False
    )
    return there("nft", done.stdout.strip().removeprefix("nftables "))


def try_nft() -> bool | None:
    """Whether ``nft ... queue`` works; None when it can't be tried.

    Asked of the kernel with ``--check``, which takes nothing over, in a network
    namespace that ends with the question. The kernel may load its queue module for it,
    as it would for the rule.
    """
    return _in_empty_namespace(["nft", "--check", "--file", "-"], _QUEUE_RULE)


def try_iptables() -> bool | None:
    """Whether ``iptables -j NFQUEUE`` works; None when it can't be tried. In a namespace too."""
    rule = "-w -A OUTPUT -p tcp -j NFQUEUE --queue-num 1 --queue-bypass"
    return _in_empty_namespace(["iptables", *rule.split()])


def _in_empty_namespace(command: list[str], rules: str = "") -> bool | None:
    if shutil.which(command[0]) is None or shutil.which("unshare") is None:
        return None
    if _run(["unshare", "--net", "true"]) != 0:
        return None
    return _run(["unshare", "--net", *command], rules) == 0


def _run(command: list[str], rules: str = "") -> int:
    return subprocess.run(
        command, input=rules, capture_output=True, text=True, timeout=_TIMEOUT, check=False
    ).returncode


def nfqueue(by_nft: bool | None, by_iptables: bool | None, *, needed: bool) -> Finding:
    """What the trials say of the kernel."""
    ways = {"nft": by_nft, "iptables": by_iptables}
    works = [name for name, way in ways.items() if way]
    fails = [name for name, way in ways.items() if way is False]
    if works:
        but = f", not by {fails[0]}" if fails else ""
        return there("NFQUEUE", f"works by {' and '.join(works)}{but}")
    detail = (
        f"the kernel refuses it by {' and by '.join(fails)}"
        if fails
        else "not tried: needs root, unshare, and nft or iptables"
    )
    return absent("NFQUEUE", detail, remedies.NFQUEUE, needed=needed)


def conntrack(maximum: int | None, count: int, time_wait: int, *, needed: bool) -> Finding:
    """Whether its table holds the connections that linger.

    Args:
        maximum: nf_conntrack_max, entries; None while conntrack is not loaded.
        count: nf_conntrack_count, entries.
        time_wait: nf_conntrack_tcp_timeout_time_wait, seconds that a closed connection stays.
        needed: whether the queue datapath is.
    """
    wanted = RATE * time_wait
    # Chains of four entries a bucket are what the kernel itself long made by default.
    enlarge = (
        f"sysctl -w net.netfilter.nf_conntrack_max={wanted} "
        f"net.netfilter.nf_conntrack_buckets={wanted // 4}"
    )
    if maximum is None:
        load = remedies.both(f"modprobe nf_conntrack && {enlarge}")
        return absent("conntrack", "not loaded", load, needed=needed)
    holds = f"{count} of {maximum} entries, {maximum // max(time_wait, 1)} connections/s"
    if maximum < wanted:
        detail = f"{holds}: {RATE} need {wanted}"
        return absent("conntrack", detail, remedies.both(enlarge), needed=needed)
    return there("conntrack", holds)
