# SPDX-License-Identifier: Apache-2.0
"""libbpf.so.1 by ctypes: no more of it than the datapaths need.

Everything is a file descriptor in an `Fd`, closed with its `with` block or by the
garbage collector. Calls that fail raise `OSError` with the kernel's errno.

Source: libbpf 1.0 and later (``bpf/libbpf.h``, ``bpf/bpf.h``), ``linux/bpf.h``.
"""

import ctypes
import os
from collections.abc import Iterator
from ctypes import POINTER, byref, c_bool, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cloud_toa.errors import ToaError

NAME = "libbpf.so.1"


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


@dataclass(frozen=True)
class LinkInfo:
    """A program's attachment; ``cgroup_id`` is 0 once the cgroup was removed."""

    prog_id: int
    cgroup_id: int


def link_cgroup(program: Fd, cgroup: int, attach_type: int) -> Fd:
    """Attach a program to a cgroup (an open directory), beside others'. Linux 5.7."""
    return Fd(check(library().bpf_link_create(program.number, cgroup, attach_type, None)))


def link_update(link: Fd, program: Fd) -> None:
    """Put another program in a link's place; no packet or call goes without. Linux 5.7."""
    check(library().bpf_link_update(link.number, program.number, None))


def link_detach(link: Fd) -> None:
    """Take a link's program off now, whoever still holds the link. Linux 5.9."""
    check(library().bpf_link_detach(link.number))


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
    return MapInfo(info.id, info.name.decode(), info.type, info.key_size, info.value_size)


def link_info(link: Fd) -> LinkInfo:
    """What the kernel says of a cgroup link."""
    info = _info(link, _LinkInfo())
    return LinkInfo(info.prog_id, info.cgroup_id)


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


@cache
def library() -> Any:
    """libbpf.so.1, its messages kept for errors instead of on standard error.

    Raises:
        ToaError: it is not installed.
    """
    try:
        lib = ctypes.CDLL(NAME, use_errno=True)
    except OSError:
        raise ToaError(
            f"{NAME} is missing: apt-get install libbpf1 (Debian, Ubuntu) "
            "or dnf install libbpf (RHEL, Rocky)"
        ) from None
    for name, result, arguments in _SIGNATURES:
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    lib.libbpf_set_print(_print)
    return lib


def _info(fd: Fd, info: Any) -> Any:
    size = c_uint32(ctypes.sizeof(info))
    check(library().bpf_obj_get_info_by_fd(fd.number, byref(info), byref(size)))
    return info


def check(result: int) -> int:
    """The result of a call; libbpf 1.x answers -errno where it failed.

    Raises:
        OSError: it failed.
    """
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


messages: list[str] = []
"""What libbpf had to say since it was last cleared; the verifier's words among it."""

_libc = ctypes.CDLL(None)


def _keep(level: int, text: bytes, arguments: int) -> int:
    # A va_list is passed like a pointer on the processors that Linux runs eBPF on.
    buffer = ctypes.create_string_buffer(16384)
    if level < 2:
        _libc.vsnprintf(buffer, c_size_t(len(buffer)), text, c_void_p(arguments))
        messages.append(buffer.value.decode(errors="replace"))
    return 0


_print = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)(_keep)

_SIGNATURES: tuple[tuple[str, Any, list[Any]], ...] = (
    ("libbpf_set_print", c_void_p, [c_void_p]),
    ("libbpf_num_possible_cpus", c_int, []),
    ("bpf_object__open_file", c_void_p, [c_char_p, c_void_p]),
    ("bpf_object__load", c_int, [c_void_p]),
    ("bpf_object__close", None, [c_void_p]),
    ("bpf_object__next_program", c_void_p, [c_void_p, c_void_p]),
    ("bpf_object__find_program_by_name", c_void_p, [c_void_p, c_char_p]),
    ("bpf_object__find_map_by_name", c_void_p, [c_void_p, c_char_p]),
    ("bpf_program__fd", c_int, [c_void_p]),
    ("bpf_program__set_autoload", c_int, [c_void_p, c_bool]),
    ("bpf_map__fd", c_int, [c_void_p]),
    ("bpf_map__type", c_uint32, [c_void_p]),
    ("bpf_map__key_size", c_uint32, [c_void_p]),
    ("bpf_map__value_size", c_uint32, [c_void_p]),
    ("bpf_map__reuse_fd", c_int, [c_void_p, c_int]),
    ("bpf_map__initial_value", c_void_p, [c_void_p, POINTER(c_size_t)]),
    ("bpf_map__set_initial_value", c_int, [c_void_p, c_char_p, c_size_t]),
    ("bpf_link_create", c_int, [c_int, c_int, c_uint32, c_void_p]),
    ("bpf_link_update", c_int, [c_int, c_int, c_void_p]),
    ("bpf_link_detach", c_int, [c_int]),
    ("bpf_obj_pin", c_int, [c_int, c_char_p]),
    ("bpf_obj_get", c_int, [c_char_p]),
    ("bpf_prog_get_fd_by_id", c_int, [c_uint32]),
    ("bpf_map_get_fd_by_id", c_int, [c_uint32]),
    ("bpf_obj_get_info_by_fd", c_int, [c_int, c_void_p, POINTER(c_uint32)]),
    ("bpf_map_lookup_elem", c_int, [c_int, c_char_p, c_void_p]),
    ("bpf_map_update_elem", c_int, [c_int, c_char_p, c_char_p, c_uint64]),
    ("bpf_map_get_next_key", c_int, [c_int, c_char_p, c_void_p]),
)
