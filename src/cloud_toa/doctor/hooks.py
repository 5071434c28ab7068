# SPDX-License-Identifier: Apache-2.0
"""The kernel's eBPF hooks, tried by loading the very programs that will run there.

A kernel's version says little: distributions carry hooks back to older kernels, and
build others without. So each program is loaded alone and dropped at once. Nothing is
attached, and no connection meets it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from cloud_toa.bpf import libbpf
from cloud_toa.bpf.datapath import Datapath, Hook
from cloud_toa.bpf.object import LoadError, Object
from cloud_toa.doctor import remedies
from cloud_toa.doctor.finding import Finding, Remedy, absent, there
from cloud_toa.errors import ToaError

PREFIX = "hook "
"""Of a finding's name; the hook's own follows."""


class Verdict(Enum):
    """What became of one program."""

    LOADED = auto()
    REFUSED = auto()
    NOT_ALLOWED = auto()
    NO_LIBBPF = auto()


@dataclass(frozen=True)
class Trial:
    """One program's trial; ``reason`` is why the kernel refused it."""

    hook: Hook
    verdict: Verdict
    reason: str = ""


def attempt(datapath: Datapath, *, privileged: bool) -> list[Trial]:
    """Try each of a datapath's hooks.

    Args:
        datapath: the sender or the receiver.
        privileged: whether the kernel would let us; else its refusal says nothing of
            the hook.

    Raises:
        ToaError: the shipped object can't be opened.
    """
    return [_attempt(datapath, hook, privileged) for hook in datapath.hooks]


def _attempt(datapath: Datapath, hook: Hook, privileged: bool) -> Trial:
    try:
        libbpf.library()
    except ToaError:
        return Trial(hook, Verdict.NO_LIBBPF)
    try:
        with Object(datapath.object) as loading:
            loading.only(hook.program)
            # With a setting off, the verifier skips what it governs: here it shall see all.
            loading.set_settings(b"\xff" * loading.map_sizes(".rodata")[2])
            loading.load()
    except LoadError as error:
        if not privileged:
            return Trial(hook, Verdict.NOT_ALLOWED)
        return Trial(hook, Verdict.REFUSED, reason(error.log) or str(error))
    return Trial(hook, Verdict.LOADED)


def reason(log: str) -> str:
    """The one line in libbpf's messages that tells why; empty when there is none.

    That is the verifier's last word, or the system call's error when it was not asked.
    """
    said = re.search(r"-- BEGIN PROG LOAD LOG --\n(.*)-- END PROG LOAD LOG --", log, re.DOTALL)
    for line in reversed(said[1].splitlines() if said else []):
        if not line.startswith("processed ") and not line.endswith(" --"):
            return line.strip()
    failed = re.search(r"load failed: (.*)", log)
    return failed[1].strip() if failed else ""


def findings(
    trials: Sequence[Trial],
    newer_kernel: Remedy,
    libbpf_1: Remedy,
    privilege: Remedy = remedies.SUDO,
) -> list[Finding]:
    """One line for each hook, also when sender and receiver share it."""
    by_hook: dict[str, list[Trial]] = {}
    for trial in trials:
        by_hook.setdefault(trial.hook.name, []).append(trial)
    return [
        _finding(f"{PREFIX}{name}", tried, newer_kernel, libbpf_1, privilege)
        for name, tried in by_hook.items()
    ]


def _finding(
    name: str,
    trials: Sequence[Trial],
    newer_kernel: Remedy,
    libbpf_1: Remedy,
    privilege: Remedy,
) -> Finding:
    worst = next((trial for trial in trials if trial.verdict is not Verdict.LOADED), trials[0])
    match worst.verdict:
        case Verdict.LOADED:
            loaded = ", ".join(trial.hook.program for trial in trials)
            return there(name, f"the kernel takes {loaded}")
        case Verdict.REFUSED:
            return absent(
                name,
                f"the kernel refuses {worst.hook.program} ({worst.reason}): "
                f"Linux {worst.hook.since} or later, built with CONFIG_CGROUP_BPF, has this hook",
                newer_kernel,
            )
        case Verdict.NOT_ALLOWED:
            how = "run with sudo to try" if privilege is remedies.SUDO else "see capabilities"
            return absent(name, f"not tried: {how}", privilege)
        case Verdict.NO_LIBBPF:
            return absent(name, "not tried: libbpf.so.1 is missing", libbpf_1)
