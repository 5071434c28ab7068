# SPDX-License-Identifier: Apache-2.0
"""A client of the control socket as existing nodes have it: run as a program.

One connection to the socket; for each connection to the origin a line ``add:<port>:<client>``,
then at once bind and connect: no hello, no waiting, never ``del``. Ports are used again at
once. Prints what the origin saw, as JSON: connections that were ``right`` (the client, already
at accept), right only after the first ``data``, shown as the ``edge``, ``wrong``, or ``failed``.
"""

import argparse
import json
import queue
import socket
import struct
import threading
import time
from collections import Counter

RESET = struct.pack("=ii", 1, 0)


class OldClient:
    def __init__(self, asked: argparse.Namespace) -> None:
        self._asked = asked
        self._control = socket.socket(socket.AF_UNIX)
        self._control.connect(asked.control)
        self._lock = threading.Lock()
        self._ports: queue.LifoQueue[int] = queue.LifoQueue()
        for port in range(asked.first_port, asked.first_port + asked.at_once):
            self._ports.put(port)
        self._numbers = iter(range(asked.connections))
        self._began = time.monotonic()
        self.seen: Counter[str] = Counter()

    def _next(self) -> int | None:
        with self._lock:
            return next(self._numbers, None)

    def begin(self) -> None:
        """Connect until the kernel executes this peer's lines: its first ones show what it is."""
        port, number = self._ports.get(), 60_000
        while (outcome := self._visit(port, number)) != "right":
            if outcome not in ("edge", "data"):
                self.seen[outcome] += 1
            number += 1
        self._ports.put(port)
        self._began = time.monotonic()

    def work(self) -> None:
        while (number := self._next()) is not None:
            if self._asked.rate:
                due = self._began + number / self._asked.rate
                time.sleep(max(0.0, due - time.monotonic()))
            port = self._ports.get()
            try:
                outcome = self._visit(port, number)
            except OSError as error:
                outcome = f"failed: {error}"
            self._ports.put(port)
            with self._lock:
                self.seen[outcome] += 1

    def _visit(self, port: int, number: int) -> str:
        client = f"198.18.{number >> 8 & 255}.{number & 255}", 1024 + number
        named = f"{client[0]}:{client[1]}"
        if self._asked.six and number % 2:
            client = f"2001:db8::{number + 1:x}", 1024 + number
            named = f"[{client[0]}]:{client[1]}"
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.settimeout(120)
            with self._lock:
                self._control.sendall(f"add:{port}:{named}\n".encode())
            sock.bind((self._asked.source, port))
            sock.connect((self._asked.server, self._asked.server_port))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.sendall(b"x")
            answer = b""
            while not answer.endswith(b"\n"):
                data = sock.recv(200)
                if not data:
                    return "failed: no answer"
                answer += data
        first, later = json.loads(answer)
        edge = [self._asked.source, port]
        if list(client) == later:
            return "right" if first == later else "data" if first == edge else "wrong"
        return "edge" if first == later == edge else "wrong"


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("control", "source", "server"):
        parser.add_argument(f"--{name}", required=True)
    for name, usual in (("server-port", 7000), ("first-port", 20000), ("connections", 1000),
                        ("at-once", 8), ("rate", 0)):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--six", action="store_true")
    client = OldClient(parser.parse_args())
    client.begin()
    threads = [threading.Thread(target=client.work) for _ in range(client._asked.at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(client.seen))


if __name__ == "__main__":
    main()
