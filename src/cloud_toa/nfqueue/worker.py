# SPDX-License-Identifier: Apache-2.0
"""A worker: one process, one queue. Writes the option into what comes, and lets it go on.

Every packet gets its verdict, whatever happens. Those that are there together are
answered together, in one call. Started by `workers`, which it does not outlive.
"""

import argparse
import mmap
import os
import signal
import socket
import sys
import traceback
import zlib
from time import monotonic_ns

from cloud_toa.errors import ToaError
from cloud_toa.nfqueue import counters, privileges
from cloud_toa.nfqueue.counters import Row
from cloud_toa.nfqueue.path_mtu import path_mtu
from cloud_toa.nfqueue.queue import Queue, parse
from cloud_toa.nfqueue.rules import MARK_MASK, NAMED
from cloud_toa.nfqueue.segment import LeftAloneError, NoRoomError, Writer
from cloud_toa.packet import SYN, Packet
from cloud_toa.ports import PortTable

READY = b"ready\n"
"""What a worker says on its standard output when it has its queue; else it says why not."""

_BATCH = 64
"""Packets that are answered together at most, so that none waits for many."""

_PACKETS, _WRITTEN, _NO_ROOM, _PASSED, _ERRORS = range(len(counters.NAMES))


def serve(queue: Queue, writer: Writer, table: PortTable | None, row: Row) -> None:
    """Answer packets for ever."""
    while True:
        datagram = queue.receive()
        counts = [0] * len(counters.NAMES)
        verdicts: list[bytes] = []
        while True:
            at = 0
            while at < len(datagram):
                at, number, mark, start, end = parse(datagram, at)
                if number < 0:
                    counts[_ERRORS] += 1
                    continue
                payload = b""
                try:
                    named = b""
                    if table and mark & MARK_MASK == NAMED:
                        named = _named(table, datagram[start:end])
                    payload = writer.write(datagram, start, end, named)
                    counts[_WRITTEN] += 1
                except NoRoomError:
                    counts[_NO_ROOM] += 1
                except LeftAloneError:
                    counts[_PASSED] += 1
                except Exception:
                    # A fault of ours must not keep a packet.
                    counts[_ERRORS] += 1
                    traceback.print_exc()
                counts[_PACKETS] += 1
                verdicts.append(queue.verdict(number, payload))
            if len(verdicts) >= _BATCH:
                break
            try:
                datagram = queue.receive(socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
        if verdicts:
            queue.answer(b"".join(verdicts))
        row.add(counts)


def _named(table: PortTable, data: bytes) -> bytes:
    """The option of the client that the control socket named for this connection.

    Raises:
        LeftAloneError: none.
    """
    packet = Packet.parse(data)
    ip, port = packet.destination
    syn = packet.flags & SYN
    isn = int.from_bytes(data[packet.tcp + 4 : packet.tcp + 8], "big") if syn else None
    peer = zlib.crc32(ip.packed + port.to_bytes(2, "big"))
    option = table.take(packet.source[1], peer, isn, monotonic_ns())
    if not option:
        raise LeftAloneError("nobody named a client for this connection")
    return option


def main() -> int:
    """Serve a queue until the parent ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("queue", "row", "kind_v4", "kind_v6", "counters", "table", "parent"):
        parser.add_argument(name, type=int)
    asked = parser.parse_args()
    # Ctrl-C reaches the whole terminal; the parent decides when a worker ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    row = Row(_shared(asked.counters), asked.row)
    table = PortTable(_shared(asked.table)) if asked.table >= 0 else None
    try:
        queue = Queue(asked.queue)
    except ToaError as error:
        print(error)
        return 2
    privileges.keep_net_admin()
    privileges.end_with(asked.parent)
    os.write(sys.stdout.fileno(), READY)
    serve(queue, Writer(asked.kind_v4, asked.kind_v6, path_mtu), table, row)
    return 0


def _shared(descriptor: int) -> mmap.mmap:
    return mmap.mmap(descriptor, 0)


if __name__ == "__main__":
    sys.exit(main())
