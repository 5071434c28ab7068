# SPDX-License-Identifier: Apache-2.0
"""The eBPF sender: attach it to load balancers' cgroups, detach it, see how it does.

What the programs do is told in ``edge.bpf.c``; how they are held, in `attachment`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cloud_toa.bpf import libbpf
from cloud_toa.bpf.attachment import Attachments, Datapath, Hook, Outcome
from cloud_toa.bpf.libbpf import ProgramInfo
from cloud_toa.config import EdgeSettings, Where

# Until the first of a socket's calls is rewritten, none is: edge_setopt comes last.
DATAPATH = Datapath(
    name="edge",
    hooks=(
        Hook("edge_sockops", "sockops", 3, "5.10"),
        Hook("edge_bind4", "cgroup/bind4", 8, "4.17"),
        Hook("edge_bind6", "cgroup/bind6", 9, "4.17"),
        Hook("edge_setopt", "cgroup/setsockopt", 22, "5.3"),
    ),
    kept=("senders", "counters"),
)

COUNTERS = (
    "clients",
    "connections",
    "syn",
    "ack",
    "data",
    "syn_without",
    "syn_magic",
    "no_room",
    "no_port",
    "wildcard",
    "unusable",
    "no_memory",
)
"""Names of ``struct counters`` in edge_maps.h, which says what each counts."""


@dataclass(frozen=True)
class EdgeStatus:
    """The sender as the kernel runs it. ``cgroups`` shows a removed one as None."""

    settings: EdgeSettings
    cgroups: tuple[Path | None, ...]
    counters: dict[str, int]
    programs: tuple[ProgramInfo, ...]


def attach(cgroups: Sequence[Path], settings: EdgeSettings) -> Outcome:
    """Let load balancers in these cgroups write the option; the settings hold for all.

    Raises:
        ToaError: see `Attachments.attach`.
    """
    packed = bytes((settings.option_type_v4, settings.option_type_v6, settings.where))
    return Attachments(DATAPATH).attach(cgroups, packed)


def detach(cgroups: Sequence[Path] | None = None) -> list[Path | None]:
    """Take the sender off these cgroups, or off all; answer which had it."""
    return Attachments(DATAPATH).detach(cgroups)


def status() -> EdgeStatus | None:
    """The sender's state, or None where it is not attached."""
    attachments = Attachments(DATAPATH)
    rodata = attachments.map(".rodata")
    if rodata is None:
        return None
    v4, v6, where = libbpf.lookup(rodata, bytes(4), libbpf.map_info(rodata).value_size)[:3]
    return EdgeStatus(
        EdgeSettings(v4, v6, Where(where)),
        tuple(attached.path for attached in attachments.running()),
        attachments.counters(COUNTERS),
        tuple(attachments.programs()),
    )
