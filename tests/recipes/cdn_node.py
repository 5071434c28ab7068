# SPDX-License-Identifier: Apache-2.0
"""A node that starts its own edge-toa: run as a program in the folder that has edge-toa/.

It reads neither log nor exit code, restarts the program by ``quit:0`` with the next one started
at once, and takes the socket as soon as it is there. Arguments: that folder, the address that it
connects from, the origin, what it is to do one after the other, and edge-toa's options. For each
``named`` and ``unnamed`` it prints what the origin saw of twenty connections, as JSON; for
``begin``, of as many as it takes until a client is seen.
"""

import json
import os
import socket
import subprocess
import sys
import time
from typing import NamedTuple

SOCK = "/tmp/edge-toa.sock"


class Visit(NamedTuple):
    port: int
    seen: list[list[object]]
    """At accept, and after the first data."""

    @property
    def first(self) -> list[object]:
        return self.seen[0]


class Node:
    def __init__(self, source: str, server: tuple[str, int], options: list[str]) -> None:
        self._source, self._server, self._options = source, server, options
        self._programs: list[subprocess.Popen[bytes]] = []
        self._port = 30000
        self.control: socket.socket | None = None
        self.start()

    def start(self) -> None:
        command = ["./edge-toa", *self._options]
        self._programs.append(
            subprocess.Popen(
                command, cwd="edge-toa", stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
        )  # fmt: skip

    def _said(self, line: str) -> None:
        """Send it; connect anew where the program is another, as such nodes do."""
        while True:
            try:
                if self.control is None:
                    self.control = socket.socket(socket.AF_UNIX)
                    self.control.connect(SOCK)
                self.control.sendall(line.encode())
                return
            except OSError:
                if self.control is not None:
                    self.control.close()
                self.control = None
                time.sleep(0.05)  # nobody tells it when the socket is there

    def restart(self) -> None:
        self._said("quit:0\n")
        self.start()
        # So that what follows is for the next one.
        self._programs.pop(0).wait()
        if self.control is not None:
            self.control.close()
        self.control = None

    def end(self) -> None:
        self._said("quit:0\n")
        for program in self._programs:
            program.wait()

    def visit(self, named: bool) -> Visit:
        self._port += 1
        with socket.socket() as sock:
            if named:
                self._said(f"add:{self._port}:203.0.113.7:{self._port}\n")
            sock.bind((self._source, self._port))
            sock.connect(self._server)
            sock.sendall(b"x")
            return Visit(self._port, json.loads(sock.makefile().readline()))


def main() -> None:
    folder, source, host, port, words, *options = sys.argv[1:]
    os.chdir(folder)
    node = Node(source, (host, int(port)), options)
    for word in words.split():
        if word == "restart":
            node.restart()
        elif word == "begin":
            began = [node.visit(named=True)]
            while began[-1].first == [source, began[-1].port]:
                began.append(node.visit(named=True))
            print(json.dumps(began), flush=True)
        else:
            print(json.dumps([node.visit(word == "named") for _ in range(20)]), flush=True)
    node.end()


if __name__ == "__main__":
    main()
