# SPDX-License-Identifier: Apache-2.0
"""What a host has and lacks of what cloud-toa needs, and the command that mends each lack.

Each check has two halves: one asks the kernel or the disk, the other decides and is
pure. The eBPF datapaths are what every host should run. Only a kernel that was seen to
refuse their programs needs the ways around: the queue datapath on an edge, toa.ko on an
origin. On every other host their prerequisites are named, and never called missing.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from cloud_toa.bpf import edge, origin
from cloud_toa.bpf.attachment import Datapath
from cloud_toa.doctor import (
    balancer,
    conntrack,
    ebpf,
    hooks,
    module,
    others,
    queue,
    remedies,
    table,
)
from cloud_toa.doctor.finding import Finding, State
from cloud_toa.doctor.hooks import Trial, Verdict

__all__ = ["BOTH", "Finding", "State", "diagnose", "lacks_ebpf"]

BOTH = (edge.DATAPATH, origin.DATAPATH)

_NETFILTER = Path("/proc/sys/net/netfilter")
_JIT = Path("/proc/sys/net/core/bpf_jit_enable")
_MODULES = Path("/proc/modules")


def diagnose(datapaths: Sequence[Datapath] = BOTH) -> list[Finding]:
    """Every prerequisite of these datapaths, each once.

    What it tries leaves nothing behind: no program, no rule, no setting.

    Raises:
        ToaError: the shipped programs are not there to be tried.
    """
    host, release = remedies.os_release(), os.uname().release
    own = ebpf.Privileges.own()
    newer, libbpf_1 = remedies.kernel(host), remedies.libbpf(host)
    tried = {
        datapath.name: hooks.attempt(datapath, privileged=own.suffice) for datapath in datapaths
    }
    trials = [trial for of_one in tried.values() for trial in of_one]
    found = [
        ebpf.linux(release, newer, has_hooks=_all_loaded(trials)),
        *hooks.findings(trials, newer, libbpf_1),
        others.programs(datapaths, BOTH),
        ebpf.cgroup2(),
        ebpf.bpffs(),
        ebpf.capabilities(own),
        ebpf.libbpf_1(libbpf_1),
        ebpf.jit(_read(_JIT)),
    ]
    if edge.DATAPATH in datapaths:
        lacking = lacks_ebpf(tried[edge.DATAPATH.name], release)
        maximum = _read(_NETFILTER / "nf_conntrack_max")
        found += [
            balancer.haproxy(),
            balancer.nginx(),
            queue.libnetfilter_queue(needed=lacking),
            queue.nft(needed=lacking),
            queue.ip(needed=lacking),
            table.finding(table.attempt(), needed=lacking),
            conntrack.finding(
                int(maximum) if maximum else None,
                int(_read(_NETFILTER / "nf_conntrack_count") or 0),
                int(
                    _read(_NETFILTER / "nf_conntrack_tcp_timeout_time_wait")
                    or conntrack.DEFAULT_TIME_WAIT
                ),
                needed=lacking,
            ),
        ]
    if origin.DATAPATH in datapaths:
        found.append(
            module.toa(
                _read(_MODULES),
                newer,
                receiver=module.receiver_attached(),
                needed=lacks_ebpf(tried[origin.DATAPATH.name], release),
            )
        )
    return found


def lacks_ebpf(trials: Sequence[Trial], release: str) -> bool:
    """Whether the kernel is what stands in the way, and not something that a command mends.

    Hooks that could not be tried count as there from Linux 5.10 on.
    """
    if any(trial.verdict is Verdict.REFUSED for trial in trials):
        return True
    return not _all_loaded(trials) and ebpf.version(release) < ebpf.OLDEST


def _all_loaded(trials: Sequence[Trial]) -> bool:
    return all(trial.verdict is Verdict.LOADED for trial in trials)


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
