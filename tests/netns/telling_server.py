# SPDX-License-Identifier: Apache-2.0
"""A server that tells each client whom it saw, at accept and after the first data: a program."""

import json
import socket
import sys
import threading

import cloud_toa


def seen(conn: socket.socket) -> list[object]:
    client = cloud_toa.client_of(conn)
    if client is None:
        return list(conn.getpeername()[:2])
    return [str(client.ip), client.port]


def serve(listener: socket.socket) -> None:
    while True:
        conn, _ = listener.accept()
        with conn:
            try:
                first = seen(conn)
                if conn.recv(1):
                    conn.sendall(json.dumps([first, seen(conn)]).encode() + b"\n")
                    conn.recv(1)
            except OSError:
                pass  # it has closed already


def main() -> None:
    listener = socket.create_server(("0.0.0.0", int(sys.argv[1])), backlog=512)
    for _ in range(64):
        threading.Thread(target=serve, args=(listener,)).start()


if __name__ == "__main__":
    main()
