# SPDX-License-Identifier: Apache-2.0
"""The eBPF sender: attach it to load balancers' cgroups, detach it, see how it does.

What the programs do is told in ``edge.bpf.c``; how they are held, in `attachment`.
"""

import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cloud_toa.bpf import cgroup, libbpf, records, trie
from cloud_toa.bpf.attachment import Attachments, Datapath, Hook, Outcome
from cloud_toa.bpf.libbpf import ProgramInfo
from cloud_toa.bpf.object import Object
from cloud_toa.bpf.pinned import Removed
from cloud_toa.config import EdgeSettings, NoPort, Where
from cloud_toa.option import USER_TIMEOUT
from cloud_toa.origins import Destination, Origins
from cloud_toa.ports import ENTRY, PORTS, SIZE

# Until the first of a socket's calls is rewritten, none is: edge_setopt comes last.
DATAPATH = Datapath(
    name="edge",
    hooks=(
        Hook("edge_sockops", "sockops", 3, "5.10"),
        Hook("edge_bind4", "cgroup/bind4", 8, "4.17"),
        Hook("edge_bind6", "cgroup/bind6", 9, "4.17"),
        Hook("edge_setopt", "cgroup/setsockopt", 22, "5.3"),
    ),
    kept=("senders", "counters", "ports", "occupants", "records"),
    filled=("origins",),
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
    "elsewhere",
    "late",
    "not_stored",
    "records_lost",
    "local",
    "listeners",
    "refused",
    "shared_port",
    "flag_cleared",
)
"""Names of ``struct counters`` in edge_maps.h, which says what each counts."""

_KEY_SIZE = 24
_PORT_BITS = 32  # of a struct origin_key, before the address's


@dataclass(frozen=True)
class EdgeStatus:
    """The sender as the kernel runs it. ``cgroups`` shows a removed one as None."""

    settings: EdgeSettings
    cgroups: tuple[Path | None, ...]
    counters: dict[str, int]
    programs: tuple[ProgramInfo, ...]
    removed: tuple[Removed, ...] = ()


def attach(cgroups: Sequence[Path], settings: EdgeSettings) -> Outcome:
    """Let load balancers in these cgroups write the option; the settings hold for all.

    A cgroup holds a load balancer, but the root holds every program of the host. Of these, who
    binds to a client and connects to another than a listed origin is not ours to serve, and is
    refused (``refuse_elsewhere``) in place of being connected from this host's own address.

    Raises:
        ToaError: see `Attachments.attach`.
    """

    def fill(loaded: Object) -> None:
        with loaded.map("origins") as origins:
            for destination in settings.origins.destinations:
                libbpf.update(origins, _origin_key(destination), b"\1")

    if cgroup.root() in cgroups and not settings.origins.everywhere:
        settings = replace(settings, refuse_elsewhere=True)
    sizes = {"ports": PORTS} if settings.control else {}
    sizes |= {"records": records.SIZE} if settings.tell else {}
    return Attachments(DATAPATH).attach(cgroups, _pack(settings), fill, sizes)


def detach(cgroups: Sequence[Path] | None = None) -> list[Path | None]:
    """Take the sender off these cgroups, or off all; answer which had it."""
    return Attachments(DATAPATH).detach(cgroups)


def status() -> EdgeStatus | None:
    """The sender's state, or None where it is not attached."""
    attachments = Attachments(DATAPATH)
    rodata = attachments.map(".rodata")
    if rodata is None:
        return None
    packed = libbpf.lookup(rodata, bytes(4), libbpf.map_info(rodata).value_size)
    running = attachments.running()
    return EdgeStatus(
        _unpack(packed, attachments.map("origins")),
        tuple(attached.path for attached in running),
        attachments.counters(COUNTERS),
        tuple(attachments.programs()),
        attachments.removed(running),
    )


def ports() -> mmap.mmap | None:
    """The running sender's table of clients by local port; None where it does not read one.

    The memory of a `cloud_toa.ports.PortTable`, mapped writable and shared. An exchange of
    programs keeps the table as long as the settings' ``control`` stays on.
    """
    table = ports_map()
    return None if table is None else mmap.mmap(table.number, SIZE)


def ports_map() -> libbpf.Fd | None:
    """The map that `ports` maps into memory."""
    table = Attachments(DATAPATH).map("ports")
    if table is None:
        return None
    about = libbpf.map_info(table)
    # Without `control`, or of another version with another layout, it is no table of ours.
    if (about.value_size, about.max_entries) != (ENTRY.size, PORTS):
        return None
    return table


def told() -> records.Records | None:
    """What the running sender tells of connections; None where it tells nothing.

    An exchange of programs keeps what was not read yet, as long as the settings' ``tell``
    stays on.
    """
    ring = Attachments(DATAPATH).map("records")
    if ring is None or libbpf.map_info(ring).max_entries != records.SIZE:
        return None
    return records.Records(ring)


def _pack(settings: EdgeSettings) -> bytes:
    return bytes(
        (
            settings.option_type_v4,
            settings.option_type_v6,
            settings.where,
            not settings.origins.everywhere,
            settings.control,
            settings.tell,
            list(NoPort).index(settings.no_port),
            USER_TIMEOUT,
            settings.refuse_elsewhere,
            settings.only_named,
        )
    )


def _unpack(packed: bytes, origins: libbpf.Fd | None) -> EdgeSettings:
    v4, v6, where, listed, control, tell, no_port, _, refuse, only = packed.ljust(10, b"\0")[:10]
    destinations: list[Destination] = []
    if listed and origins is not None:
        destinations += map(_destination, libbpf.keys(origins, _KEY_SIZE))
    destinations.sort(key=lambda each: (each.network.version, each.network, each.port or 0))
    return EdgeSettings(
        v4,
        v6,
        Where(where),
        Origins(tuple(destinations), not listed),
        bool(control),
        bool(tell),
        list(NoPort)[no_port],
        bool(refuse),
        bool(only),
    )


def _origin_key(destination: Destination) -> bytes:
    """A ``struct origin_key``: prefix length in host order, 4 bytes of port, 16 of address."""
    length, address = trie.pack(destination.network)
    port = struct.pack("!I", destination.port or 0)
    return struct.pack("=I", _PORT_BITS + length) + port + address


def _destination(key: bytes) -> Destination:
    (length,) = struct.unpack("=I", key[:4])
    (port,) = struct.unpack("!I", key[4:8])
    return Destination(trie.unpack(length - _PORT_BITS, key[8:]), port or None)
