# SPDX-License-Identifier: Apache-2.0
"""A busy load balancer: ``python -m tests.bpf.stream PORT`` connects for one client after another.

Each connection says whom it is for, in every way that there is to name a client.
"""

import socket
import sys
from ipaddress import ip_address
from itertools import count

from cloud_toa import Client, set_client
from tests.bpf.loopback import make_transparent, reset


def main(port: int) -> None:
    for number in count():
        version = 6 if number & 2 else 4
        host = f"203.0.113.{number % 250 + 1}" if version == 4 else f"2001:db8:1::{number:x}"
        client = Client(ip_address(host), 1024 + number % 60000)
        sock = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6)
        if number & 1:
            set_client(sock, client)
        else:
            make_transparent(sock)
            sock.bind((host, client.port))
        sock.connect(("127.0.0.1" if version == 4 else "::1", port))
        sock.sendall(str(client).encode())
        sock.recv(1)
        reset(sock)


if __name__ == "__main__":
    main(int(sys.argv[1]))
