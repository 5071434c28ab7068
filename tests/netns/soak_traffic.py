# SPDX-License-Identifier: Apache-2.0
"""Both ends of many connections, each of which says inside who it is.

A client writes its own address into the connection; the server answers whether
that is whom accept() and getpeername() named. Run as ``server PORT`` and as
``client HOST PORT COUNT SEED``, which prints ``{"right": …, "wrong": […], "lost": […]}``.
"""

import json
import random
import socket
import sys
from ipaddress import ip_address

from cloud_toa.option import plain

CLIENTS4 = "203.0.113."
CLIENTS6 = "2001:db8:1::"


def serve(port: int) -> None:
    listener = socket.create_server(
        ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024
    )
    while True:
        conn, peer = listener.accept()
        said = conn.recv(128)
        seen = f"{plain(ip_address(peer[0]))} {peer[1]}".encode()
        conn.sendall(b"right" if said == seen and conn.getpeername() == peer else b"saw " + seen)
        conn.close()


def connect(server: tuple[str, int], count: int, seed: int) -> dict[str, object]:
    chance = random.Random(seed)
    right = 0
    wrong: list[str] = []
    lost: list[str] = []
    for _ in range(count):
        if ":" in server[0]:
            host = f"{CLIENTS6}{chance.randrange(1, 0xFFFF):x}:{chance.randrange(1, 0xFFFF):x}"
        else:
            host = f"{CLIENTS4}{chance.randrange(1, 255)}"
        port = chance.randrange(1024, 65536)
        try:
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
                sock.settimeout(30)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((host, port))
                sock.connect(server)
                sock.sendall(f"{ip_address(host)} {port}".encode())
                answer = sock.recv(128)
        except OSError as error:
            lost.append(f"{host} {port}: {error}")
            continue
        if answer == b"right":
            right += 1
        else:
            (wrong if answer else lost).append(f"{host} {port}: {answer.decode() or 'closed'}")
    return {"right": right, "wrong": wrong[:100], "lost": lost[:20]}


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["server", port]:
            serve(int(port))
        case ["client", host, port, count, seed]:
            print(json.dumps(connect((host, int(port)), int(count), int(seed))))
