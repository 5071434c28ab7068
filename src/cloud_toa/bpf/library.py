# SPDX-License-Identifier: Apache-2.0
"""libbpf.so.1 itself, by ctypes: opened once, with the functions that `libbpf` and `object` call.

Source: libbpf 1.0 and later (``bpf/libbpf.h``, ``bpf/bpf.h``).
"""

import ctypes
import os
from ctypes import POINTER, c_bool, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache
from typing import Any

from cloud_toa import packages, shared_library
from cloud_toa.shared_library import Signature

NAME = "libbpf.so.1"


@cache
def library() -> Any:
    """libbpf.so.1, its messages kept for errors instead of on standard error.

    Raises:
        ToaError: it is not installed.
    """
    lib = shared_library.load(NAME, packages.LIBBPF, _SIGNATURES)
    lib.libbpf_set_print(_print)
    return lib


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

_SIGNATURES: tuple[Signature, ...] = (
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
    ("bpf_map__max_entries", c_uint32, [c_void_p]),
    ("bpf_map__set_max_entries", c_int, [c_void_p, c_uint32]),
    ("bpf_map__reuse_fd", c_int, [c_void_p, c_int]),
    ("bpf_map__initial_value", c_void_p, [c_void_p, POINTER(c_size_t)]),
    ("bpf_map__set_initial_value", c_int, [c_void_p, c_char_p, c_size_t]),
    ("ring_buffer__new", c_void_p, [c_int, c_void_p, c_void_p, c_void_p]),
    ("ring_buffer__consume", c_int, [c_void_p]),
    ("ring_buffer__free", None, [c_void_p]),
    ("bpf_link_create", c_int, [c_int, c_int, c_uint32, c_void_p]),
    ("bpf_link_update", c_int, [c_int, c_int, c_void_p]),
    ("bpf_link_detach", c_int, [c_int]),
    ("bpf_raw_tracepoint_open", c_int, [c_char_p, c_int]),
    ("bpf_prog_attach", c_int, [c_int, c_int, c_int, c_uint32]),
    ("bpf_obj_pin", c_int, [c_int, c_char_p]),
    ("bpf_obj_get", c_int, [c_char_p]),
    ("bpf_link_get_next_id", c_int, [c_uint32, POINTER(c_uint32)]),
    ("bpf_link_get_fd_by_id", c_int, [c_uint32]),
    ("bpf_prog_query", c_int, [c_int, c_uint32, c_uint32, c_void_p, c_void_p, POINTER(c_uint32)]),
    ("bpf_prog_get_fd_by_id", c_int, [c_uint32]),
    ("bpf_map_get_fd_by_id", c_int, [c_uint32]),
    ("bpf_obj_get_info_by_fd", c_int, [c_int, c_void_p, POINTER(c_uint32)]),
    ("bpf_map_lookup_elem", c_int, [c_int, c_char_p, c_void_p]),
    ("bpf_map_update_elem", c_int, [c_int, c_char_p, c_char_p, c_uint64]),
    ("bpf_map_get_next_key", c_int, [c_int, c_char_p, c_void_p]),
)
