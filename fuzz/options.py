# SPDX-License-Identifier: Apache-2.0
"""A TCP header's options: the Python decoder says what the kernel's parser says."""

import ctypes
import itertools
import os
from ipaddress import ip_address

from cloud_toa.option import MAX_OPTIONS, Client, Decoded, Kinds, decode, encode, plain
from cloud_toa.trust import Trust

KINDS = Kinds(v4=(254, 253), v6=(254, 253), client_ip=(28, 253))
"""As parser.c: layouts."""

EDGES = Trust.parse(["203.0.0.0/8"])
"""As parser.c: is_edge."""


class _Answer(ctypes.Structure):
    _fields_ = (
        ("ip", ctypes.c_ubyte * 16),
        ("port", ctypes.c_ubyte * 2),
        ("found", ctypes.c_uint32),
        ("malformed", ctypes.c_uint64),
        ("duplicates", ctypes.c_uint64),
        ("unusable", ctypes.c_uint64),
        ("local", ctypes.c_uint64),
        ("chained", ctypes.c_uint64),
    )


_library = ctypes.CDLL(os.environ["TOA_PARSER"])


def kernels(options: bytes, *, loopback: bool, chain: bool) -> Decoded:
    """What the parser of eBPF receiver and module says."""
    answer = _Answer()
    _library.decode(options, len(options), loopback, chain, ctypes.byref(answer))
    client = None
    if answer.found:
        port = int.from_bytes(bytes(answer.port), "big")
        client = Client(plain(ip_address(bytes(answer.ip))), port or None)
    return Decoded(
        client,
        answer.malformed,
        answer.unusable,
        answer.duplicates,
        answer.local,
        answer.chained,
    )


def one(data: bytes) -> None:
    """Both read the same, and a client that was found can be written and found again."""
    options = data[:MAX_OPTIONS]
    for loopback, chain in itertools.product((False, True), repeat=2):
        decoded = decode(
            options, KINDS, loopback=loopback, is_edge=EDGES.__contains__ if chain else None
        )
        again = kernels(options, loopback=loopback, chain=chain)
        assert decoded == again, (decoded, again)
    if decoded.client is not None and decoded.client.port is not None:
        again = decode(encode(decoded.client), KINDS, loopback=True)
        assert again == Decoded(decoded.client), again
