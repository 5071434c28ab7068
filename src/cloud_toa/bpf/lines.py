# SPDX-License-Identifier: Apache-2.0
"""Lines of the control socket that the kernel executes while their peer is in write().

``control.bpf.c`` says how, and for whom. Nothing is pinned: it ends with its process.
"""

import os
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path

from cloud_toa.bpf import cgroup, libbpf
from cloud_toa.bpf.libbpf import Fd
from cloud_toa.bpf.object import Object
from cloud_toa.errors import ToaError
from cloud_toa.ports import PORTS

OBJECT = Path(__file__).with_name("control.bpf.o")
_STREAM_VERDICT = 5  # BPF_SK_SKB_STREAM_VERDICT, linux/bpf.h
_READ = 4096


class Lines:
    """The program, and the peers whose lines it executes.

    Args:
        kinds: the option's kinds for IPv4 and IPv6 clients.
        ports: the eBPF sender's map, to write entries into; None makes one, for the queue.

    Raises:
        ToaError: the kernel or libbpf has not what it needs: Linux 5.15.
    """

    def __init__(self, kinds: tuple[int, int], ports: Fd | None = None) -> None:
        with Object(OBJECT) as loading:
            inode = Path("/proc/thread-self/ns/net").stat().st_ino
            loading.set_settings(struct.pack("=BBxxI", *kinds, inode & 0xFFFFFFFF))
            if ports is not None:
                loading.only("control_line")
            loading.set_max_entries("ports", PORTS)
            if ports is not None:
                loading.reuse_map("ports", ports)
            with cgroup.at_root():
                loading.load()
            self._program = loading.program("control_line")
            self._end = None if ports is not None else loading.program("control_end")
            self._peers, self._added = loading.map("peers"), loading.map("added")
            self.ports = loading.map("ports")
        self._places = set(range(libbpf.map_info(self._peers).max_entries))
        try:
            libbpf.attach_to_map(self._program, self._peers, _STREAM_VERDICT)
            self._try()
            self._ends = self._end and libbpf.attach_to_tracepoint(self._end)
        except OSError as error:
            raise ToaError(f"kernel {os.uname().release}: {error.strerror}") from None

    @property
    def executed(self) -> int:
        """How many lines the program has executed."""
        return int.from_bytes(libbpf.lookup(self._added, bytes(4), 8), sys.byteorder)

    def join(self, peer: int) -> tuple[int | None, bytes]:
        """Execute what this peer, a non-blocking socket, writes from now on, where it is usual.

        Answers the peer's place, None where there was none, and what it had written before: a
        line that nobody has read would have the program see the one before each time.
        """
        if not self._places:
            return None, b""
        place = self._places.pop()
        try:
            libbpf.update(self._peers, struct.pack("=I", place), struct.pack("=I", peer))
        except OSError:
            self._places.add(place)
            return None, b""
        before = b""
        with suppress(BlockingIOError):
            while data := os.read(peer, _READ):
                before += data
        return place, before

    def leave(self, place: int) -> None:
        """The peer that had this place has been closed, which took it out."""
        self._places.add(place)

    def _try(self) -> None:
        """A kernel before 5.15 refuses sockets of this kind only when they come."""
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with one, other:
            libbpf.update(self._peers, bytes(4), struct.pack("=I", one.fileno()))
