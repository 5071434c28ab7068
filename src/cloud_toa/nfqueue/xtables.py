# SPDX-License-Identifier: Apache-2.0
"""The queue statement for kernels without one: the NFQUEUE target of iptables.

Some kernels have ``xt_NFQUEUE`` and not ``nft_queue``. nftables can hold the targets of
iptables, only the ``nft`` program can't write them; so this one rule goes to the kernel
in a message of our own. It stands in our table all the same, and not in one that is
shared with iptables.

Sources: linux/netfilter/nf_tables.h, nf_tables_compat.h, xt_NFQUEUE.h (revision 3,
Linux 3.10); netlink(7).
"""

import os
import socket
import struct

from cloud_toa.errors import ToaError
from cloud_toa.nfqueue import rules
from cloud_toa.nfqueue.rules import Queues

_NETLINK_NETFILTER = 12
_NFPROTO_INET = 1
_NFTABLES = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEWRULE = _NFTABLES << 8 | 6
_COMPAT_GET = 11 << 8 | 0
_REQUEST, _ACK, _CREATE, _APPEND = 0x1, 0x4, 0x400, 0x800
_NLMSG_ERROR = 2

_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 4
_LIST_ELEMENT = 1
_EXPRESSION_NAME, _EXPRESSION_DATA = 1, 2
_TARGET_NAME, _TARGET_REVISION, _TARGET_INFO = 1, 2, 3
_NESTED = 0x8000
_COMPAT_NAME, _COMPAT_REVISION, _COMPAT_TYPE = 1, 2, 3
_COMPAT_TARGET = 1

_REVISION = 3
_BYPASS, _CPU_FANOUT = 1, 2


def add_queue_rule(queues: Queues) -> None:
    """End the table's `rules.TO_QUEUE` chain with the target.

    Raises:
        ToaError: the kernel refused; it has no NFQUEUE at all.
    """
    _load()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
        netlink.send(
            _message(_BATCH_BEGIN, _REQUEST, 0, _NFTABLES, b"")
            + _message(
                _NEWRULE, _REQUEST | _ACK | _CREATE | _APPEND, _NFPROTO_INET, 0, _rule(queues)
            )
            + _message(_BATCH_END, _REQUEST, 0, _NFTABLES, b"")
        )
        answer = netlink.recv(65536)
    _, kind, _, _, _, error = struct.unpack_from("=IHHIIi", answer)
    if kind != _NLMSG_ERROR or error:
        raise ToaError(
            f"the kernel has neither nft's queue statement nor the NFQUEUE target "
            f"({os.strerror(-error)}): see cloud-toa doctor edge"
        )


def _load() -> None:
    """Have the kernel load the target's module, by asking for its revision as iptables does.

    For a rule of both families it would not: it knows the module under the name of each.
    """
    about = (
        _attribute(_COMPAT_NAME, b"NFQUEUE\0")
        + _attribute(_COMPAT_REVISION, struct.pack("!I", _REVISION))
        + _attribute(_COMPAT_TYPE, struct.pack("!I", _COMPAT_TARGET))
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
        netlink.send(_message(_COMPAT_GET, _REQUEST | _ACK, socket.AF_INET, 0, about))
        netlink.recv(65536)  # whatever it says, the rule itself will tell


def _rule(queues: Queues) -> bytes:
    # struct xt_NFQ_info_v3, padded to 8 bytes.
    flags = _BYPASS | (_CPU_FANOUT if queues.count > 1 else 0)
    info = struct.pack("=HHHxx", queues.first, queues.count, flags)
    target = (
        _attribute(_TARGET_NAME, b"NFQUEUE\0")
        + _attribute(_TARGET_REVISION, struct.pack("!I", _REVISION))
        + _attribute(_TARGET_INFO, info)
    )
    expression = _attribute(_EXPRESSION_NAME, b"target\0") + _attribute(
        _EXPRESSION_DATA | _NESTED, target
    )
    return (
        _attribute(_RULE_TABLE, rules.NAME.encode() + b"\0")
        + _attribute(_RULE_CHAIN, rules.TO_QUEUE.encode() + b"\0")
        + _attribute(_RULE_EXPRESSIONS | _NESTED, _attribute(_LIST_ELEMENT | _NESTED, expression))
    )


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _message(kind: int, flags: int, family: int, subsystem: int, body: bytes) -> bytes:
    """A netlink message with nfnetlink's header: family, version 0, res_id in network order."""
    return (
        struct.pack("=IHHII", 20 + len(body), kind, flags, 0, 0)
        + struct.pack("!BBH", family, 0, subsystem)
        + body
    )
