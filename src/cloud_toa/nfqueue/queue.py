# SPDX-License-Identifier: Apache-2.0
"""One netfilter queue: packets from the kernel, and what shall become of them.

libnetfilter_queue (by ctypes) opens and configures the queue. The packets themselves are
read from its socket here: a call into C for each, and back for its callback, would cost
more than all the rest (docs/architecture.md, "Reading the queue").

Sources: libnetfilter_queue 1.0 (``libnetfilter_queue.h``); linux/netlink.h, linux/
netfilter/nfnetlink_queue.h. Netlink's own fields are in the host's byte order, those of
the queue in network byte order.
"""

import ctypes
import errno
import os
import socket
from struct import Struct

from cloud_toa.errors import ToaError
from cloud_toa.nfqueue.library import library

MAX_LENGTH = 4096
"""Packets that may wait; more than these pass as they are."""

_COPY_PACKET = 2
_COPY_RANGE = 0xFFFF
_FAIL_OPEN = 1

_SOL_NETLINK, _NO_ENOBUFS = 270, 5
_SO_RCVBUFFORCE = 33
_RECEIVE_BUFFER = 8 << 20
_DATAGRAM = 0xFFFF + 4096
"""Bytes: the largest packet, and what the kernel says beside it."""

_LENGTH_AND_TYPE = Struct("=IH")
_ERROR = Struct("=i")
_ID = Struct("!I")
_ATTRIBUTE = Struct("=HH")
_HEADERS = 20
"""Bytes of struct nlmsghdr and struct nfgenmsg."""

# The kernel puts NFQA_PACKET_HDR first: 4 bytes of attribute, the id, protocol, hook, padding.
_ID_AT, _ATTRIBUTES_AT = 24, 32
_NLMSG_ERROR = 2
_VERDICT_MESSAGE = 3 << 8 | 1
_REQUEST = 1
_VERDICT_HDR, _MARK, _PAYLOAD = 2, 3, 10
_ACCEPT = 1

# nlmsghdr, nfgenmsg (family, version; the queue's number follows in network byte order).
_VERDICT = Struct("=IHHIIBB")
# The number, NFQA_VERDICT_HDR in host order, verdict and id in network order.
_VERDICT_LENGTH = 32
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


class Queue:
    """A queue of this network namespace, until it is closed or the process ends.

    Raises:
        ToaError: the library is missing, another program has this queue, or no privilege.
    """

    def __init__(self, number: int) -> None:
        lib = library()
        self._handle = lib.nfq_open()
        if not self._handle:
            raise ToaError(_refusal(number, ctypes.get_errno()))
        queue = lib.nfq_create_queue(self._handle, number, None, None)
        if not queue:
            code = ctypes.get_errno()
            lib.nfq_close(self._handle)
            raise ToaError(_refusal(number, code))
        for done in (
            lib.nfq_set_mode(queue, _COPY_PACKET, _COPY_RANGE),
            lib.nfq_set_queue_maxlen(queue, MAX_LENGTH),
            lib.nfq_set_queue_flags(queue, _FAIL_OPEN, _FAIL_OPEN),
        ):
            if done < 0:
                raise ToaError(_refusal(number, ctypes.get_errno()))
        self._socket = socket.socket(fileno=os.dup(lib.nfq_fd(self._handle)))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        # What does not fit passes as it is (fail open): that is no error of a later call.
        self._socket.setsockopt(_SOL_NETLINK, _NO_ENOBUFS, 1)
        self._queue_and_attribute = number.to_bytes(2, "big") + _ATTRIBUTE.pack(12, _VERDICT_HDR)

    def fileno(self) -> int:
        """The socket's file descriptor."""
        return self._socket.fileno()

    def receive(self, flags: int = 0) -> bytes:
        """A datagram; waits for one unless ``flags`` is MSG_DONTWAIT."""
        return self._socket.recv(_DATAGRAM, flags)

    def answer(self, verdicts: bytes) -> None:
        """Tell the kernel what shall become of packets: `verdict`s, one behind the other."""
        self._socket.send(verdicts)

    def verdict(self, packet: int, payload: bytes = b"") -> bytes:
        """Let a packet go on; with a payload, that instead of what it was."""
        if not payload:
            head = _VERDICT.pack(_VERDICT_LENGTH, _VERDICT_MESSAGE, _REQUEST, 0, 0, 0, 0)
            return head + self._queue_and_attribute + _ID.pack(_ACCEPT) + _ID.pack(packet)
        length = len(payload)
        padding = _PADDING[length & 3]
        total = _VERDICT_LENGTH + 4 + length + len(padding)
        return (
            _VERDICT.pack(total, _VERDICT_MESSAGE, _REQUEST, 0, 0, 0, 0)
            + self._queue_and_attribute
            + _ACCEPTED
            + _ID.pack(packet)
            + _ATTRIBUTE.pack(4 + length, _PAYLOAD)
            + payload
            + padding
        )

    def close(self) -> None:
        """Let the queue go; the kernel drops what waits in it."""
        self._socket.close()
        library().nfq_close(self._handle)


_ACCEPTED = _ID.pack(_ACCEPT)


def parse(datagram: bytes, at: int) -> tuple[int, int, int, int, int]:
    """The message at an offset: where the next begins, the packet's id, mark, start and end.

    Instead of an id, a negative errno where the kernel refused a verdict.
    """
    length, kind = _LENGTH_AND_TYPE.unpack_from(datagram, at)
    following = at + (length + 3 & ~3)
    if kind == _NLMSG_ERROR:
        (code,) = _ERROR.unpack_from(datagram, at + 16)
        return following, code, 0, at, at
    (number,) = _ID.unpack_from(datagram, at + _ID_AT)
    mark, attribute = 0, at + _ATTRIBUTES_AT
    while True:
        size, name = _ATTRIBUTE.unpack_from(datagram, attribute)
        if name == _PAYLOAD:
            return following, number, mark, attribute + 4, attribute + size
        if name == _MARK:
            (mark,) = _ID.unpack_from(datagram, attribute + 4)
        attribute += size + 3 & ~3


def _refusal(number: int, code: int) -> str:
    if code == errno.EPERM:
        # The kernel says the same when another socket has the queue.
        return (
            f"queue {number} can't be had: another program has it (choose others with "
            "-min-queue-id and -max-queue-id), or CAP_NET_ADMIN is missing (run as root)"
        )
    return f"queue {number} can't be had: {os.strerror(code)} (see cloud-toa doctor edge)"
