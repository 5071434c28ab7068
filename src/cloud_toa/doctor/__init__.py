# SPDX-License-Identifier: Apache-2.0
"""What a host has and lacks of what cloud-toa needs, and the command that mends each lack.

Each check has two halves: one asks the kernel or the disk, the other decides and is
pure. The eBPF datapaths are what every host should run. Only a kernel that was seen to
refuse their programs needs the ways around: the queue datapath on an edge, toa.ko on an
origin. On every other host their prerequisites are named, and never called missing.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from cloud_toa import foreign_modules, kmod
from cloud_toa.bpf import edge, origin
from cloud_toa.doctor import (
    balancer,
    cluster_packages,
    conntrack,
    ebpf,
    hooks,
    module,
    nginx,
    others,
    queue,
    remedies,
    table,
)
from cloud_toa.doctor.finding import Finding, State
from cloud_toa.doctor.hooks import Trial
from cloud_toa.doctor.profile import BOTH, PROFILES, Profile
from cloud_toa.doctor.verdict import Verdict, verdict

__all__ = ["BOTH", "PROFILES", "Diagnosis", "Finding", "State", "diagnose", "lacks_ebpf"]

_NETFILTER = Path("/proc/sys/net/netfilter")
_JIT = Path("/proc/sys/net/core/bpf_jit_enable")
_MODULES = Path("/proc/modules")


@dataclass(frozen=True)
class Diagnosis:
    """What was found of a host.

    Attributes:
        profile: what it is to be.
        findings: every prerequisite, each once.
        ebpf_lacks: what eBPF lacks, where the queue takes its place.
    """

    profile: Profile
    findings: list[Finding]
    ebpf_lacks: Sequence[Finding] = ()

    @cached_property
    def verdict(self) -> Verdict:
        """What they come to."""
        return verdict(self.profile, self.findings, self.ebpf_lacks)


def diagnose(profile: Profile = BOTH) -> Diagnosis:
    """Look for every prerequisite of a profile.

    What it tries leaves nothing behind: no program, no rule, no setting.

    Raises:
        ToaError: the shipped programs are not there to be tried.
    """
    host, release = remedies.os_release(), os.uname().release
    own = ebpf.Privileges.own()
    newer, libbpf_1 = remedies.kernel(host), remedies.libbpf(host)
    tried = {
        datapath.name: hooks.attempt(datapath, privileged=own.suffice)
        for datapath in profile.datapaths
    }
    trials = [trial for of_one in tried.values() for trial in of_one]
    found = [
        ebpf.linux(release, newer, has_hooks=_all_loaded(trials)),
        *hooks.findings(trials, newer, libbpf_1, own.remedy),
        others.programs(profile.datapaths, BOTH.datapaths),
        ebpf.cgroup2(),
        ebpf.bpffs(),
        ebpf.capabilities(own),
        ebpf.libbpf_1(libbpf_1),
        ebpf.jit(_read(_JIT)),
    ]
    ebpf_lacks: list[Finding] = []
    if edge.DATAPATH in profile.datapaths:
        lacking = lacks_ebpf(tried[edge.DATAPATH.name], release)
        if profile.runs:
            found, ebpf_lacks, by_queue = _either(found, profile, refused=lacking)
        else:
            by_queue = _queue(needed=lacking)
        found += [*_balancers(profile), *by_queue]
    if origin.DATAPATH in profile.datapaths:
        found.append(
            module.toa(
                _read(_MODULES),
                foreign_modules.find(ours=kmod.ours()),
                newer,
                receiver=module.receiver_attached(),
                needed=lacks_ebpf(tried[origin.DATAPATH.name], release),
            )
        )
    return Diagnosis(profile, found, ebpf_lacks)


def _either(
    found: list[Finding], profile: Profile, *, refused: bool
) -> tuple[list[Finding], list[Finding], list[Finding]]:
    """The findings, what eBPF lacks, and the queue's findings, where either datapath serves.

    A host where the queue has all that it needs lacks nothing. HAProxy's cgroup needs cgroup2 in
    either. Where both lack something, only a kernel without the hooks calls for the queue.
    """
    lacks = [
        each
        for each in found
        if each.state is State.MISSING and not (profile.haproxy and each.name == "cgroup2")
    ]
    by_queue = _queue(needed=bool(lacks))
    # A table of connections that is too small for a busy edge keeps no edge from its work.
    if any(each.state is State.MISSING and each.name != conntrack.NAME for each in by_queue):
        return found, [], _queue(needed=refused)
    mended = [replace(each, state=State.NOT_NEEDED) if each in lacks else each for each in found]
    return mended, lacks, by_queue


def _balancers(profile: Profile) -> list[Finding]:
    if not profile.haproxy:
        return [balancer.haproxy(), balancer.nginx(), *nginx.findings(nginx.found())]
    if not profile.cluster:
        return [balancer.haproxy_inside()]
    return [balancer.haproxy_inside(), cluster_packages.cluster_packages()]


def _queue(*, needed: bool) -> list[Finding]:
    maximum = _read(_NETFILTER / "nf_conntrack_max")
    return [
        queue.libnetfilter_queue(needed=needed),
        queue.nft(needed=needed),
        queue.ip(needed=needed),
        table.finding(table.attempt(), needed=needed),
        conntrack.finding(
            int(maximum) if maximum else None,
            int(_read(_NETFILTER / "nf_conntrack_count") or 0),
            int(
                _read(_NETFILTER / "nf_conntrack_tcp_timeout_time_wait")
                or conntrack.DEFAULT_TIME_WAIT
            ),
            needed=needed,
        ),
    ]


def lacks_ebpf(trials: Sequence[Trial], release: str) -> bool:
    """Whether the kernel is what stands in the way, and not something that a command mends.

    Hooks that could not be tried count as there from Linux 5.10 on.
    """
    if any(trial.verdict is hooks.Verdict.REFUSED for trial in trials):
        return True
    return not _all_loaded(trials) and ebpf.version(release) < ebpf.OLDEST


def _all_loaded(trials: Sequence[Trial]) -> bool:
    return all(trial.verdict is hooks.Verdict.LOADED for trial in trials)


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
