# SPDX-License-Identifier: Apache-2.0
"""The queue datapath's rules, tried by setting them up as ``cloud-toa run`` does.

A kernel's version says little, as with the hooks. So the very table, policy rules and
routes go to the kernel, in a network namespace that ends with the question: no packet
meets them. The kernel may load its modules for it, as it would for the edge's own.
"""

import shutil
import subprocess
from dataclasses import dataclass
from enum import Enum

from cloud_toa.doctor import remedies
from cloud_toa.doctor.empty_network import in_empty_network
from cloud_toa.doctor.finding import Finding, absent, there
from cloud_toa.errors import ToaError
from cloud_toa.nfqueue import rules, setup, xtables
from cloud_toa.nfqueue.rules import Queues
from cloud_toa.origins import Origins

_ORIGINS = Origins.parse(["192.0.2.7", "192.0.2.0/24:443", "2001:db8::7", "[2001:db8::7]:443"])
_QUEUES = Queues(1, 2)
_FILTER = "chain part {{ type filter hook output priority 0\n {}\n }}"
_NAT = "chain part {{ type nat hook postrouting priority 0\n {}\n }}"

# What the table is made of that a kernel may lack, by its module.
_PARTS = {
    "nf_tables": "",
    "nft_ct": _FILTER.format("ct mark set 1"),
    "nft_ct's timeouts (CONFIG_NF_CONNTRACK_TIMEOUT)": (
        "ct timeout part { protocol tcp; l3proto ip; policy = { close : 2 }\n }"
    ),
    "nft_fib_inet": _FILTER.format("fib saddr type local accept"),
    "nft_chain_nat": _NAT.format(""),
    "nft_masq": _NAT.format("masquerade"),
}
_QUEUE_PARTS = "nft_queue (or nft_compat with xt_NFQUEUE)"


class Way(Enum):
    """How packets get from the table to a worker."""

    NFT = "nft's queue statement"
    XTABLES = "the NFQUEUE target, as the kernel has no nft_queue"


@dataclass(frozen=True)
class Trial:
    """The way that works; None, and the reason, where the kernel refuses both."""

    way: Way | None
    reason: str = ""


def attempt() -> Trial | None:
    """Which way the kernel takes; None when it can't be tried."""
    if shutil.which("nft") is None or shutil.which("ip") is None:
        return None
    try:
        return in_empty_network(_attempt)
    except OSError:
        return None


def choose() -> Way:
    """The way for an edge. Where none was seen to work it is nft's, whose refusal says why."""
    trial = attempt()
    return trial.way if trial and trial.way else Way.NFT


def finding(trial: Trial | None, *, needed: bool) -> Finding:
    """What the trial says of the kernel."""
    if trial is None:
        return absent(
            "NFQUEUE", "not tried: needs root, nft and ip", remedies.NFQUEUE, needed=needed
        )
    if trial.way is None:
        return absent("NFQUEUE", trial.reason, remedies.NFQUEUE, needed=needed)
    return there("NFQUEUE", f"the kernel takes the rules, by {trial.way.value}")


def _attempt() -> Trial:
    subprocess.run(["ip", "link", "set", "lo", "up"], capture_output=True, check=False)
    refused = []
    for way in Way:
        try:
            setup.install(_ORIGINS, True, _QUEUES, by_nft=way is Way.NFT)
        except ToaError as error:
            refused.append(str(error).removesuffix(" (see cloud-toa doctor edge)"))
        else:
            return Trial(way)
    lacks = _lacks()
    return Trial(None, f"the kernel lacks {', '.join(lacks)}" if lacks else refused[0])


def _lacks() -> list[str]:
    lacks = []
    for module, part in _PARTS.items():
        if not _takes(part):
            lacks.append(module)
            if module == "nf_tables":
                return lacks
    if not _takes(f"chain {rules.TO_QUEUE} {{\n {_QUEUES}\n }}"):
        try:
            _takes(f"chain {rules.TO_QUEUE} {{ }}")
            xtables.add_queue_rule(_QUEUES)
        except ToaError:
            lacks.append(_QUEUE_PARTS)
    return lacks


def _takes(part: str) -> bool:
    """Whether the kernel takes our table with this alone in it."""
    text = f"{rules.delete()}table {rules.TABLE} {{\n{part}\n}}\n"
    return subprocess.run(
        ["nft", "-f", "-"], input=text, capture_output=True, text=True, check=False
    ).returncode == 0  # fmt: skip
