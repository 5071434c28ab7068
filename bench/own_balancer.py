# SPDX-License-Identifier: Apache-2.0
"""A load balancer whose sockets to the origin are as none in use has them.

They are signed with TCP-MD5 (RFC 2385), or send the first data with the SYN (Fast Open, RFC
7413). Connects from the client's address as others do (IP_TRANSPARENT). Run as
``md5|fast-open (LISTEN PORT ORIGIN PORT)...``.
"""

import asyncio
import socket
import sys
from functools import partial

from told_server import sign

_IP_TRANSPARENT, _IPV6_TRANSPARENT, _TCP_FASTOPEN_CONNECT = 19, 75, 30


def _towards(client: tuple[str, int], origin: tuple[str, int], how: str) -> socket.socket:
    six = ":" in origin[0]
    sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET)
    if six:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)
    if how == "md5":
        sign(sock, origin[0])
    else:
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_FASTOPEN_CONNECT, 1)
    sock.bind(client)
    sock.setblocking(False)
    return sock


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()


async def _serve(
    origin: tuple[str, int],
    how: str,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    sock = _towards(writer.get_extra_info("peername")[:2], origin, how)
    try:
        await asyncio.get_running_loop().sock_connect(sock, origin)
        back, forth = await asyncio.open_connection(sock=sock)
        await asyncio.gather(_pass(reader, forth), _pass(back, writer))
        forth.close()
    except OSError as error:
        print(error, file=sys.stderr)
        sock.close()
    writer.close()


async def _main(how: str, ways: list[str]) -> None:
    for host, port, to, to_port in zip(*(iter(ways),) * 4, strict=True):
        serve = partial(_serve, (to, int(to_port)), how)
        await asyncio.start_server(serve, host, int(port), backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2:]))
