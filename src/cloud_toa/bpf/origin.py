# SPDX-License-Identifier: Apache-2.0
"""The eBPF receiver: attach it to an origin, detach it, see how it does.

What the programs do is told in ``origin.bpf.c``; how they are held, in `attachment`.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cloud_toa.bpf import libbpf, trie
from cloud_toa.bpf.attachment import Attachments, Datapath, Hook, Outcome
from cloud_toa.bpf.libbpf import ProgramInfo
from cloud_toa.bpf.object import Object
from cloud_toa.bpf.pinned import Removed
from cloud_toa.config import OriginSettings
from cloud_toa.networks import IPNetwork
from cloud_toa.option import Kinds
from cloud_toa.trust import Trust

# Sockets must be remembered before anybody can ask for them: origin_sockops comes first.
DATAPATH = Datapath(
    name="origin",
    hooks=(
        Hook("origin_sockops", "sockops", 3, "5.10"),
        Hook("origin_peer4", "cgroup/getpeername4", 29, "5.8"),
        Hook("origin_peer6", "cgroup/getpeername6", 30, "5.8"),
        Hook("origin_getopt", "cgroup/getsockopt", 21, "5.3"),
    ),
    kept=("clients", "counters", "waiting"),
    filled=("trust",),
)

COUNTERS = (
    "found",
    "absent",
    "untrusted",
    "malformed",
    "duplicate",
    "unusable",
    "local",
    "chained",
    "late",
    "saved_syn",
    "no_memory",
    "flag_cleared",
)
"""Names of ``struct counters`` in origin_maps.h, which says what each counts."""

_V4, _V6, _CLIENT_IP = 1, 2, 4


@dataclass(frozen=True)
class OriginStatus:
    """The receiver as the kernel runs it. ``cgroups`` shows a removed one as None."""

    settings: OriginSettings
    cgroups: tuple[Path | None, ...]
    counters: dict[str, int]
    programs: tuple[ProgramInfo, ...]
    removed: tuple[Removed, ...] = ()


def attach(cgroups: Sequence[Path], settings: OriginSettings) -> Outcome:
    """Let servers in these cgroups see the clients; the settings hold for all.

    Raises:
        ToaError: see `Attachments.attach`.
    """

    def fill(loaded: Object) -> None:
        with loaded.map("trust") as trust:
            for network in settings.trust.networks:
                libbpf.update(trust, _trust_key(network), b"\1")

    return Attachments(DATAPATH).attach(cgroups, _pack(settings), fill)


def detach(cgroups: Sequence[Path] | None = None) -> list[Path | None]:
    """Take the receiver off these cgroups, or off all; answer which had it."""
    return Attachments(DATAPATH).detach(cgroups)


def status() -> OriginStatus | None:
    """The receiver's state, or None where it is not attached."""
    attachments = Attachments(DATAPATH)
    rodata, trust = attachments.map(".rodata"), attachments.map("trust")
    if rodata is None or trust is None:
        return None
    packed = libbpf.lookup(rodata, bytes(4), libbpf.map_info(rodata).value_size)
    networks = tuple(_network(key) for key in libbpf.keys(trust, 20))
    running = attachments.running()
    return OriginStatus(
        OriginSettings(
            Trust(
                tuple(sorted(networks, key=lambda network: (network.version, network))),
                bool(packed[256]),
            ),
            Kinds(_kinds(packed, _V4), _kinds(packed, _V6), _kinds(packed, _CLIENT_IP)),
            bool(packed[257]),
            # Programs of a version that had no chains have a byte less.
            packed[258:259] == b"\1",
        ),
        tuple(attached.path for attached in running),
        attachments.counters(COUNTERS),
        tuple(attachments.programs()),
        attachments.removed(running),
    )


def _pack(settings: OriginSettings) -> bytes:
    layouts = bytearray(256)
    for kinds, layout in (
        (settings.kinds.v4, _V4),
        (settings.kinds.v6, _V6),
        (settings.kinds.client_ip, _CLIENT_IP),
    ):
        for kind in kinds:
            layouts[kind] |= layout
    return bytes(layouts) + bytes((settings.trust.everyone, settings.save_syn, settings.chain))


def _kinds(packed: bytes, layout: int) -> tuple[int, ...]:
    return tuple(kind for kind in range(255, -1, -1) if packed[kind] & layout)


def _trust_key(network: IPNetwork) -> bytes:
    """A ``struct trust_key``: prefix length in host order, 16 bytes of address."""
    length, address = trie.pack(network)
    return struct.pack("=I", length) + address


def _network(key: bytes) -> IPNetwork:
    (length,) = struct.unpack("=I", key[:4])
    return trie.unpack(length, key[4:])
