# SPDX-License-Identifier: Apache-2.0
"""Which datapath an edge takes: eBPF where the kernel has the hooks, else the queue."""

from dataclasses import dataclass
from typing import Literal

from cloud_toa.bpf import edge, mounts
from cloud_toa.doctor import ebpf, hooks
from cloud_toa.doctor.hooks import Verdict
from cloud_toa.errors import ToaError
from cloud_toa.node.settings import Choice


@dataclass(frozen=True)
class Chosen:
    """A datapath, and why this one."""

    datapath: Literal["bpf", "queue"]
    why: str


def choose(asked: Choice) -> Chosen:
    """Decide; what is asked for by name is not questioned here."""
    if asked != "auto":
        return Chosen(asked, f"asked for by -datapath {asked}")
    lack = _lack()
    if lack:
        return Chosen("queue", f"eBPF is not to be had: {lack}")
    return Chosen("bpf", "the kernel takes the eBPF programs")


def _lack() -> str:
    """What eBPF lacks here, in doctor's words; empty where nothing is."""
    try:
        trials = hooks.attempt(edge.DATAPATH, privileged=ebpf.Privileges.own().suffice)
    except ToaError as error:
        return str(error)
    if lacks := mounts.lacks():
        return lacks
    for trial in trials:
        match trial.verdict:
            case Verdict.LOADED:
                continue
            case Verdict.REFUSED:
                return f"the kernel refuses {trial.hook.program} ({trial.reason})"
            case Verdict.NOT_ALLOWED:
                return f"no privilege to load {trial.hook.program}"
            case Verdict.NO_LIBBPF:
                return "libbpf.so.1 is missing"
    return ""
