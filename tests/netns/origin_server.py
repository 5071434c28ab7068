# SPDX-License-Identifier: Apache-2.0
"""A server that says whom it serves: ``python -m tests.netns.origin_server NAME PORT ...``.

What comes up to ``ask`` and a newline is answered with a line of JSON; everything after
that comes back as it is, until the client has no more.
"""

import argparse
import asyncio
import json
import socket
import ssl
from contextlib import suppress
from typing import Any


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("port", type=int)
    parser.add_argument("--tls", help="certificate and key")
    parser.add_argument("--client-ca")
    parser.add_argument("--only", choices=("4", "6"), help="an IP version; both otherwise")
    arguments = parser.parse_args()
    asked: dict[ssl.SSLObject, str | None] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            before = (await reader.readuntil(b"ask\n"))[:-4]
            address, port = writer.get_extra_info("peername")[:2]
            tls = writer.get_extra_info("ssl_object")
            said: dict[str, Any] = {
                "name": arguments.name,
                "client": [address.removeprefix("::ffff:"), port],
                "before": before.hex(),
            }
            if tls is not None:
                certificate = tls.getpeercert() or {}
                said["sni"] = asked.get(tls)
                said["certificate"] = dict(pair for (pair,) in certificate.get("subject", ()))
            writer.write(json.dumps(said).encode() + b"\n")
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        with suppress(OSError):
            writer.close()
            await writer.wait_closed()

    context = None
    if arguments.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(arguments.tls)
        if arguments.client_ca:
            context.load_verify_locations(arguments.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        context.sni_callback = lambda tls, name, _: asked.__setitem__(tls, name)
    four = arguments.only == "4"
    listener = socket.create_server(
        ("0.0.0.0" if four else "::", arguments.port),
        family=socket.AF_INET if four else socket.AF_INET6,
        dualstack_ipv6=arguments.only is None,
        backlog=512,
    )
    server = await asyncio.start_server(serve, sock=listener, ssl=context)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
