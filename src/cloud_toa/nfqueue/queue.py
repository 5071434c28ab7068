# SPDX-License-Identifier: Apache-2.0
"""One netfilter queue: packets from the kernel, and what shall become of them.

libnetfilter_queue (by ctypes) writes the message that configures the queue. The packets
themselves are read here, many in one call, and answered in one call: a call into C for
each, and back for its callback, would cost more than all the rest (docs/architecture.md,
"Reading the queue").

Sources: linux/netlink.h, linux/netfilter/nfnetlink_queue.h; recvmmsg(2). Netlink's own
fields are in the host's byte order, those of the queue in network byte order.
"""

import ctypes
import errno
import os
import socket
from ctypes import c_int, c_size_t, c_uint, c_void_p
from struct import Struct

from cloud_toa import libc
from cloud_toa.errors import ToaError
from cloud_toa.nfqueue.library import library

MAX_LENGTH = 4096
"""Packets that may wait; more than these pass as they are."""

BATCH = 32
"""Packets that are read and answered together at most, so that none waits for many."""

STRIDE = 0xFFFF + 4097
"""Bytes from one packet to the next in `Queue.memory`: the largest, and what is said of it."""

_COPY_PACKET = 2
_COPY_RANGE = 0xFFFF
_FAIL_OPEN = 1

_NETLINK_NETFILTER = 12
_CONFIGURATION = 4096
"""Bytes; more than the message takes."""
_NFQNL_CONFIG = 2
_BIND = 1
_CFG_MASK, _CFG_FLAGS = 4, 5
_HEAD, _FLAGS, _FLAGS_AT = Struct("=IHH"), Struct("=H"), 6
_ACK = 4

_SOL_NETLINK, _NO_ENOBUFS = 270, 5
_SO_RCVBUFFORCE = 33
_RECEIVE_BUFFER = 8 << 20
_MSG_WAITFORONE = 0x10000

# A message: its length and type, the packet's id; and an attribute where the payload usually is,
# as in the output hook the kernel says nothing before but NFQA_PACKET_HDR (12 bytes, with the id
# behind its head) and NFQA_IFINDEX_OUTDEV (8 bytes).
_USUAL = Struct("=IH18x4s12xHH")
_ERROR = Struct("=i")
_MARK_VALUE = Struct("!I")
_ATTRIBUTE = Struct("=HH")
_ERROR_AT, _ATTRIBUTES_AT = 16, 32
_NLMSG_ERROR = 2
_NFQNL_PACKET = 3 << 8
_MARK, _PAYLOAD = 3, 10

# nlmsghdr, nfgenmsg with the queue's number, NFQA_VERDICT_HDR with verdict and id; and the head
# of NFQA_PAYLOAD.
_VERDICT = Struct("=IHHIIBB2sHH4s4s")
_VERDICT_AND_PAYLOAD = Struct(_VERDICT.format + "HH")
_VERDICT_MESSAGE = 3 << 8 | 1
_REQUEST = 1
_VERDICT_HDR, _VERDICT_HDR_LENGTH = 2, 12
_ACCEPT = (1).to_bytes(4, "big")


class _Iovec(ctypes.Structure):
    _fields_ = (("base", c_void_p), ("length", c_size_t))


class _Header(ctypes.Structure):
    # struct msghdr
    _fields_ = (
        ("name", c_void_p),
        ("name_length", c_uint),
        ("vector", ctypes.POINTER(_Iovec)),
        ("vector_length", c_size_t),
        ("control", c_void_p),
        ("control_length", c_size_t),
        ("flags", c_int),
    )


class _Message(ctypes.Structure):
    # struct mmsghdr
    _fields_ = (("header", _Header), ("length", c_uint))


class Queue:
    """A queue of this network namespace, until it is closed.

    ``number`` is the queue's, ``memory`` where `receive` puts datagrams, each `STRIDE` bytes
    behind the other.

    Raises:
        ToaError: the library is missing, another program has this queue, or no privilege.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._number = number.to_bytes(2, "big")
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self._socket.bind((0, 0))
        self.memory = bytearray(BATCH * STRIDE)
        # What does not fit passes as it is (fail open): that is no error of a later call.
        self._socket.setsockopt(_SOL_NETLINK, _NO_ENOBUFS, 1)
        try:
            self._configure(number)
        except BaseException:
            self.close()
            raise
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        first = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self._vectors = (_Iovec * BATCH)(
            *(_Iovec(first + place * STRIDE, STRIDE) for place in range(BATCH))
        )
        self._messages = (_Message * BATCH)()
        for message, vector in zip(self._messages, self._vectors, strict=True):
            message.header.vector = ctypes.pointer(vector)
            message.header.vector_length = 1

    def close(self) -> None:
        """Let the queue go; the kernel drops what waits in it."""
        self._socket.close()

    def _configure(self, number: int) -> None:
        """Take the queue, in one message: packets may come before the kernel's answer to it."""
        lib = library()
        message = ctypes.create_string_buffer(_CONFIGURATION)
        header = lib.nfq_nlmsg_put(message, _NFQNL_CONFIG, number)
        lib.nfq_nlmsg_cfg_put_cmd(header, socket.AF_UNSPEC, _BIND)
        lib.nfq_nlmsg_cfg_put_params(header, _COPY_PACKET, _COPY_RANGE)
        lib.nfq_nlmsg_cfg_put_qmaxlen(header, MAX_LENGTH)
        for attribute in (_CFG_MASK, _CFG_FLAGS):
            lib.mnl_attr_put_u32(header, attribute, socket.htonl(_FAIL_OPEN))
        length, _, flags = _HEAD.unpack_from(message)
        _FLAGS.pack_into(message, _FLAGS_AT, flags | _ACK)
        try:
            self._socket.send(message.raw[:length])
            while True:
                self._socket.recv_into(self.memory)
                packet, code, _, _ = parse(self.memory, 0)
                if not packet:
                    break
                self.answer([self.verdict(packet)])
        except OSError as error:
            raise ToaError(_refusal(number, error.errno or 0)) from None
        if code:
            raise ToaError(_refusal(number, -code))

    def receive(self) -> int:
        """Wait for a packet; answer how many datagrams have come, up to `BATCH`.

        The kernel sends each packet in a datagram of its own.

        Raises:
            OSError: the socket is of no use any more.
        """
        while True:
            try:
                return libc.call(
                    "recvmmsg", self._socket.fileno(), self._messages, BATCH, _MSG_WAITFORONE, None
                )
            except InterruptedError:
                continue

    def verdict(self, packet: bytes) -> bytes:
        """Let a packet go on as it is; named by its id."""
        return _VERDICT.pack(
            _VERDICT.size, _VERDICT_MESSAGE, _REQUEST, 0, 0, 0, 0, self._number,
            _VERDICT_HDR_LENGTH, _VERDICT_HDR, _ACCEPT, packet,
        )  # fmt: skip

    def replace(self, packet: bytes, data: bytes) -> bytes:
        """Let this go on instead of what the packet was."""
        padding = bytes(-len(data) % 4)
        return (
            _VERDICT_AND_PAYLOAD.pack(
                _VERDICT_AND_PAYLOAD.size + len(data) + len(padding),
                _VERDICT_MESSAGE, _REQUEST, 0, 0, 0, 0, self._number,
                _VERDICT_HDR_LENGTH, _VERDICT_HDR, _ACCEPT, packet, 4 + len(data), _PAYLOAD,
            )
            + data
            + padding
        )  # fmt: skip

    def answer(self, verdicts: list[bytes]) -> None:
        """Tell the kernel what shall become of packets: what `verdict` and `replace` gave."""
        self._socket.send(b"".join(verdicts))


def parse(memory: bytearray, at: int) -> tuple[bytes, int, int, int]:
    """The packet in a datagram: its id, its mark, and where it begins and ends.

    It is empty where the queue was not configured yet when it came. Without an id, the
    message is the kernel's answer to one of ours, with a negative errno for a mark.
    """
    length, kind, number, size, name = _USUAL.unpack_from(memory, at)
    if kind == _NFQNL_PACKET and name == _PAYLOAD and length == _USUAL.size + size - 4:
        return number, 0, at + _USUAL.size, at + length
    if kind == _NLMSG_ERROR:
        return b"", _ERROR.unpack_from(memory, at + _ERROR_AT)[0], at, at
    mark, attribute, end = 0, at + _ATTRIBUTES_AT, at + length
    while attribute < end:
        size, name = _ATTRIBUTE.unpack_from(memory, attribute)
        if name == _PAYLOAD:
            return number, mark, attribute + 4, attribute + size
        if name == _MARK:
            (mark,) = _MARK_VALUE.unpack_from(memory, attribute + 4)
        attribute += size + 3 & ~3 or end
    return number, mark, end, end


def _refusal(number: int, code: int) -> str:
    if code == errno.EPERM:
        # The kernel says the same when another socket has the queue.
        return (
            f"queue {number} can't be had: another program has it (choose others with "
            "-min-queue-id and -max-queue-id), or CAP_NET_ADMIN is missing (run as root)"
        )
    return f"queue {number} can't be had: {os.strerror(code)} (see cloud-toa doctor edge)"
