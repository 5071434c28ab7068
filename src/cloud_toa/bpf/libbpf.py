# SPDX-License-Identifier: Apache-2.0
"""Programs, maps and links in the kernel: no more of libbpf than the datapaths need.

Everything is a file descriptor in an `Fd`, closed with its `with` block or by the
garbage collector. Calls that fail raise `OSError` with the kernel's errno.

Source: libbpf 1.0 and later (``bpf/libbpf.h``, ``bpf/bpf.h``), ``linux/bpf.h``.
"""

import ctypes
import errno
import os
from collections.abc import Iterator
from ctypes import byref, c_uint32, c_uint64
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cloud_toa.bpf.library import check, library

__all__ = [
    "LINK_CGROUP",
    "Fd",
    "LinkInfo",
    "MapInfo",
    "ProgramInfo",
    "attach_to_map",
    "attach_to_tracepoint",
    "attached",
    "keys",
    "library",
    "link_by_id",
    "link_cgroup",
    "link_detach",
    "link_info",
    "link_update",
    "links",
    "lookup",
    "map_by_id",
    "map_info",
    "pin",
    "pinned",
    "possible_cpus",
    "program_by_id",
    "program_info",
    "update",
]


class Fd:
    """A kernel object of BPF (program, map or link), owned."""

    def __init__(self, number: int) -> None:
        self.number = number

    def fileno(self) -> int:
        """The file descriptor's number."""
        return self.number

    def close(self) -> None:
        """Let go of the object; the kernel frees it with its last holder."""
        if self.number >= 0:
            os.close(self.number)
            self.number = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class _ProgramInfo(ctypes.Structure):
    # struct bpf_prog_info, linux/bpf.h; a kernel that knows more leaves the rest out.
    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("tag", ctypes.c_ubyte * 8),
        ("jited_prog_len", c_uint32),
        ("xlated_prog_len", c_uint32),
        ("jited_prog_insns", c_uint64),
        ("xlated_prog_insns", c_uint64),
        ("load_time", c_uint64),
        ("created_by_uid", c_uint32),
        ("nr_map_ids", c_uint32),
        ("map_ids", c_uint64),
        ("name", ctypes.c_char * 16),
        ("ifindex", c_uint32),
        ("gpl_compatible", c_uint32),
        ("netns_dev", c_uint64),
        ("netns_ino", c_uint64),
        ("unused", c_uint64 * 11),
        ("run_time_ns", c_uint64),
        ("run_cnt", c_uint64),
    )


class _MapInfo(ctypes.Structure):
    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("key_size", c_uint32),
        ("value_size", c_uint32),
        ("max_entries", c_uint32),
        ("map_flags", c_uint32),
        ("name", ctypes.c_char * 16),
    )


class _LinkInfo(ctypes.Structure):
    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("prog_id", c_uint32),
        ("cgroup_id", c_uint64),
        ("attach_type", c_uint32),
    )


@dataclass(frozen=True)
class ProgramInfo:
    """A loaded program. ``run_time_ns`` counts while kernel.bpf_stats_enabled is 1."""

    id: int
    name: str
    tag: str
    map_ids: tuple[int, ...]
    run_time_ns: int
    run_cnt: int


@dataclass(frozen=True)
class MapInfo:
    """A map. Sizes in bytes."""

    id: int
    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int


@dataclass(frozen=True)
class LinkInfo:
    """A program's attachment.

    ``type`` as in ``enum bpf_link_type``; the last two are a cgroup link's, and ``cgroup_id``
    is 0 once the cgroup was removed.
    """

    type: int
    prog_id: int
    cgroup_id: int
    attach_type: int


LINK_CGROUP = 3
"""BPF_LINK_TYPE_CGROUP."""

_QUERY_EFFECTIVE = 1  # BPF_F_QUERY_EFFECTIVE


def link_cgroup(program: Fd, cgroup: int, attach_type: int) -> Fd:
    """Attach a program to a cgroup (an open directory), beside others'. Linux 5.7."""
    return Fd(check(library().bpf_link_create(program.number, cgroup, attach_type, None)))


def link_update(link: Fd, program: Fd) -> None:
    """Put another program in a link's place; no packet or call goes without. Linux 5.7."""
    check(library().bpf_link_update(link.number, program.number, None))


def link_detach(link: Fd) -> None:
    """Take a link's program off now, whoever still holds the link. Linux 5.9."""
    check(library().bpf_link_detach(link.number))


def links() -> Iterator[int]:
    """The ids of all links, of all kinds. Linux 5.8."""
    number = c_uint32()
    while library().bpf_link_get_next_id(number, byref(number)) == 0:
        yield number.value


def link_by_id(number: int) -> Fd:
    """Open a link by its id. Linux 5.8."""
    return Fd(check(library().bpf_link_get_fd_by_id(number)))


def attached(cgroup: Fd, attach_type: int, *, effective: bool = False) -> list[int]:
    """Ids of the programs of a cgroup (an open directory), in the order in which they run.

    ``effective``: with those of the cgroups above, which run for its sockets as well.
    """
    flags = _QUERY_EFFECTIVE if effective else 0
    count = c_uint32()
    while True:
        ids = (c_uint32 * count.value)()
        room = c_uint32(len(ids))
        result = library().bpf_prog_query(
            cgroup.number, attach_type, flags, None, ids if len(ids) else None, byref(room)
        )
        if result != -errno.ENOSPC:
            check(result)
            if room.value <= len(ids):
                return list(ids[: room.value])
        count = room


def attach_to_map(program: Fd, sockets: Fd, attach_type: int) -> None:
    """Have a program see what comes to the sockets in a map; it ends with the map. Linux 4.14."""
    check(library().bpf_prog_attach(program.number, sockets.number, attach_type, 0))


def attach_to_tracepoint(program: Fd) -> Fd:
    """Run a program where its section says, until what is answered is closed. Linux 5.5."""
    return Fd(check(library().bpf_raw_tracepoint_open(None, program.number)))


def pin(fd: Fd, path: Path) -> None:
    """Give an object a name in bpffs, which keeps it when its process ends."""
    check(library().bpf_obj_pin(fd.number, os.fsencode(path)))


def pinned(path: Path) -> Fd:
    """Open a pinned object."""
    return Fd(check(library().bpf_obj_get(os.fsencode(path))))


def program_by_id(number: int) -> Fd:
    """Open a program by its id."""
    return Fd(check(library().bpf_prog_get_fd_by_id(number)))


def map_by_id(number: int) -> Fd:
    """Open a map by its id."""
    return Fd(check(library().bpf_map_get_fd_by_id(number)))


def program_info(program: Fd) -> ProgramInfo:
    """What the kernel says of a program."""
    first = _info(program, _ProgramInfo())
    ids = (c_uint32 * first.nr_map_ids)()
    wanted = _ProgramInfo(nr_map_ids=len(ids), map_ids=ctypes.addressof(ids))
    info = _info(program, wanted)
    return ProgramInfo(
        info.id, info.name.decode(), bytes(info.tag).hex(), tuple(ids), info.run_time_ns,
        info.run_cnt,
    )  # fmt: skip


def map_info(fd: Fd) -> MapInfo:
    """What the kernel says of a map."""
    info = _info(fd, _MapInfo())
    return MapInfo(
        info.id, info.name.decode(), info.type, info.key_size, info.value_size, info.max_entries
    )


def link_info(link: Fd) -> LinkInfo:
    """What the kernel says of a cgroup link."""
    info = _info(link, _LinkInfo())
    return LinkInfo(info.type, info.prog_id, info.cgroup_id, info.attach_type)


def lookup(fd: Fd, key: bytes, size: int) -> bytes:
    """A map's value for a key; ``size`` in bytes (all CPUs' together in a per-CPU map)."""
    value = ctypes.create_string_buffer(size)
    check(library().bpf_map_lookup_elem(fd.number, key, value))
    return value.raw


def update(fd: Fd, key: bytes, value: bytes) -> None:
    """Set a map's value for a key."""
    check(library().bpf_map_update_elem(fd.number, key, value, 0))


def keys(fd: Fd, size: int) -> Iterator[bytes]:
    """A map's keys, of ``size`` bytes each."""
    following = ctypes.create_string_buffer(size)
    previous: bytes | None = None
    while library().bpf_map_get_next_key(fd.number, previous, following) == 0:
        previous = following.raw
        yield previous


def possible_cpus() -> int:
    """How many values a per-CPU map has per key."""
    return check(library().libbpf_num_possible_cpus())


def _info(fd: Fd, info: Any) -> Any:
    size = c_uint32(ctypes.sizeof(info))
    check(library().bpf_obj_get_info_by_fd(fd.number, byref(info), byref(size)))
    return info
