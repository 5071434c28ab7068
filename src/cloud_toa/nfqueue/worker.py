# SPDX-License-Identifier: Apache-2.0
"""A worker: one process, one queue. Writes the option into what comes, and lets it go on.

Every packet gets its verdict, whatever happens. Those that are there together are
answered together, in one call. Started by `workers`, which it does not outlive.
"""

import argparse
import mmap
import os
import signal
import sys
import traceback
import zlib
from time import monotonic_ns

from cloud_toa.errors import ToaError
from cloud_toa.nfqueue import privileges, segment
from cloud_toa.nfqueue.counters import Row
from cloud_toa.nfqueue.path_mtu import path_mtu
from cloud_toa.nfqueue.queue import STRIDE, Queue, parse
from cloud_toa.nfqueue.rules import MARK_MASK, NAMED
from cloud_toa.nfqueue.segment import LeftAloneError, LocalClientError, NoRoomError, PathMtu
from cloud_toa.nfqueue.usual import Usual
from cloud_toa.packet import SYN, Packet
from cloud_toa.ports import SIZE, PortTable

READY = b"ready\n"
"""What a worker says on its standard output when it has its queue; else it says why not."""


def serve(
    queue: Queue, kinds: tuple[int, int], path_mtu: PathMtu, table: PortTable | None, row: Row
) -> None:
    """Answer packets for ever.

    Args:
        queue: where they come from.
        kinds: the option's for an IPv4 and an IPv6 client.
        path_mtu: asked about large packets.
        table: clients that the control socket names, where there is one.
        row: where packets are counted.
    """
    memory, usual = queue.memory, Usual(queue.number, *kinds, path_mtu).verdict
    while True:
        count = queue.receive()
        written = no_room = passed = errors = local = strange = 0
        verdicts: list[bytes] = []
        for at in range(0, count * STRIDE, STRIDE):
            try:
                verdict = usual(memory, at)
                if verdict:
                    verdicts.append(verdict)
                    written += 1
                    continue
                packet, mark, start, end = parse(memory, at)
                if not packet:
                    strange += 1
                    continue
                parsed = segment.parse(bytes(memory[start:end]))
                option = b""
                if table and mark & MARK_MASK == NAMED:
                    option = _named(table, parsed)
                whole = segment.write(parsed, kinds, path_mtu, option)
                verdicts.append(queue.replace(packet, whole))
                written += 1
                continue
            except NoRoomError:
                no_room += 1
            except LocalClientError:
                local += 1
            except LeftAloneError:
                passed += 1
            except Exception:
                # A fault of ours must not keep a packet.
                errors += 1
                traceback.print_exc()
            verdicts.append(queue.verdict(parse(memory, at)[0]))
        if verdicts:
            queue.answer(verdicts)
        row.add((count - strange, written, no_room, passed, errors + strange, local))


def _named(table: PortTable, packet: Packet) -> bytes:
    """The option of the client that the control socket named for this connection.

    Raises:
        LeftAloneError: none.
        LocalClientError: one that means another host or link to the destination.
    """
    ip, port = packet.destination
    at = packet.tcp + 4
    isn = int.from_bytes(packet.data[at : at + 4], "big") if packet.flags & SYN else None
    peer = zlib.crc32(ip.packed + port.to_bytes(2, "big"))
    option = table.take(packet.source[1], peer, isn, monotonic_ns())
    if not option:
        raise LeftAloneError("nobody named a client for this connection")
    segment.require_same_meaning(option, ip)
    return option


def _stay(worker: int, workers: int) -> None:
    """Run where this queue's packets come from: ``fanout`` goes by the processor's number.

    It finds them in the processor's cache there, and need not be woken up from another one.
    Where the queue gets no packets, or gets all, nothing is changed.
    """
    near = {cpu for cpu in os.sched_getaffinity(0) if cpu % workers == worker}
    if near:
        os.sched_setaffinity(0, near)


def main() -> int:
    """Serve a queue until the parent ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("queue", "row", "rows", "kind_v4", "kind_v6", "counters", "table", "parent"):
        parser.add_argument(name, type=int)
    asked = parser.parse_args()
    # Ctrl-C reaches the whole terminal; the parent decides when a worker ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    row = Row(_shared(asked.counters), asked.row)
    table = PortTable(mmap.mmap(asked.table, SIZE)) if asked.table >= 0 else None
    try:
        queue = Queue(asked.queue)
    except ToaError as error:
        print(error)
        return 2
    _stay(asked.row, asked.rows)
    privileges.keep_net_admin()
    privileges.end_with(asked.parent)
    os.write(sys.stdout.fileno(), READY)
    serve(queue, (asked.kind_v4, asked.kind_v6), path_mtu, table, row)
    return 0


def _shared(descriptor: int) -> mmap.mmap:
    return mmap.mmap(descriptor, 0)


if __name__ == "__main__":
    sys.exit(main())
