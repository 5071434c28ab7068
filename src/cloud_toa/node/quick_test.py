# SPDX-License-Identifier: Apache-2.0
"""One connection through an edge from a client of our making, and what became of it.

The client lives in a network namespace of its own, which a cable joins to this host for
as long as the test takes; so it may have any address that is nobody's: whoever has it would
be out of this host's reach meanwhile, and his connections reset. What the edge sends to
origins is read on the wire, and the origin's own words are asked for where it runs
``cloud-toa origin echo``.

The process must be isolated (`isolation.isolate`) before a `visit`.
"""

import json
import socket
import ssl
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from cloud_toa.balancer.addresses import Listen
from cloud_toa.balancer.settings import Service
from cloud_toa.capture import ANY, Live
from cloud_toa.errors import ToaError
from cloud_toa.isolation import Namespace, run
from cloud_toa.option import Client, IPAddress, Kinds, decode
from cloud_toa.origin.echo import QUESTION
from cloud_toa.packet import SYN, Packet, PacketError

_CABLE = "toa-test"
_HOST = {4: "169.254.77.1", 6: "fd77:7077::1"}
"""This host's address on the cable, where a service listens on every address."""
_GATEWAY6 = "fe80::7077:1"
_PATIENCE = 5.0
_UNDER_WAY = ("established", "syn-sent", "close-wait")
"""Of connections that a reset would end; from the others, nobody on this host expects more."""
_ABORT = struct.pack("ii", 1, 0)
"""SO_LINGER, socket(7): a close is a reset."""
_QUIET = 0.3
"""Seconds after the answer, or without a packet, in which the connection's last ones pass."""


@dataclass
class Outcome:
    """What became of the connection."""

    client: Client
    service: tuple[str, int]
    origin: str | None = None
    """Where the edge connected to with the option; None where none was seen."""
    packets: list[str] = field(default_factory=list)
    """What carried the option, in order: SYN, ACK or data."""
    answer: dict[str, Any] | None = None
    """What `origin echo` said; None where nobody did who understands the question."""
    trouble: str = ""
    """Why the connection did not come about; empty where it did."""
    missed: int = 0
    """Packets of this host that passed too fast to be read."""

    @property
    def good(self) -> bool:
        """Whether the option went out, and the origin, if it answers, saw the client."""
        seen = self.answer is None or self.answer.get("client") == str(self.client)
        return bool(self.packets) and seen and not self.trouble


def check_client(client: IPAddress, listen: Listen, services: Iterable[Service]) -> None:
    """See that nobody loses anything when ``client`` is an address of our own for a while.

    Raises:
        ToaError: it can't connect there, or is somebody's whom this host knows.
    """
    version = listen.ip.version
    if client.version != version:
        raise ToaError(f"{client} can't connect to {listen}: give an IPv{version} client")
    if whose := _whose(client, services):
        raise ToaError(f"{client} {whose}: give an address that is nobody's")


def _whose(client: IPAddress, services: Iterable[Service]) -> str:
    with suppress(ToaError):  # there is no way to it
        if run("ip", "route", "get", str(client)).startswith("local "):
            return "is this host's own"
    for service in services:
        for origin in service.origin:
            if any(str(client) in _addresses(each) for each in origin.addresses):
                return f"is an origin's of service {service.name}"
    states = [word for state in _UNDER_WAY for word in ("state", state)]
    host = f"[{client}]" if client.version == 6 else str(client)
    if run("ss", "-Htn", *states, "dst", host):
        return "has a TCP connection with this host"
    return ""


def _addresses(host: str) -> set[str]:
    """Of an origin; none where its name leads nowhere."""
    with suppress(OSError):
        return {str(answer[4][0]) for answer in socket.getaddrinfo(host, None)}
    return set()


def visit(listen: Listen, client: IPAddress, kinds: Kinds, tls_name: str | None) -> Outcome:
    """Connect once from ``client``; with TLS where there is a name to ask for.

    Raises:
        ToaError: the client's network can't be made, or packets can't be read.
    """
    version = listen.ip.version
    host = str(listen.ip) if not listen.ip.is_unspecified else _HOST[version]
    with _network(client, host) as namespace, Live(ANY, _QUIET) as wire:
        with namespace.entered():
            sock = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET)
        with sock:
            sock.settimeout(_PATIENCE)
            outcome = Outcome(Client(client, 0), (host, listen.first))
            try:
                sock.bind((str(client), 0))
                outcome.client = Client(client, sock.getsockname()[1])
                sock.connect(outcome.service)
                outcome.answer = _ask(sock, tls_name)
            except (OSError, ssl.SSLError) as error:
                outcome.trouble = str(error)
        ended = time.time()
        for captured in wire:
            # On a busy edge it is never quiet.
            if captured.time > ended + _QUIET:
                break
            _read(captured.data, kinds, outcome)
        outcome.missed = wire.missed()
    return outcome


def _ask(sock: socket.socket, tls_name: str | None) -> dict[str, Any] | None:
    if tls_name is not None:
        context = ssl.create_default_context()
        # Whom clients believe is not what is tried here.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        sock = context.wrap_socket(sock, server_hostname=tls_name)
    sock.sendall(QUESTION)
    said = b""
    with suppress(TimeoutError):
        while not said.endswith(b"\n"):
            data = sock.recv(4096)
            if not data:
                break
            said += data
        if not said:
            raise ConnectionError("closed without an answer: is the origin there?")
    with suppress(ValueError):
        answer = json.loads(said)
        if isinstance(answer, dict) and answer.get("cloud-toa") == "echo":
            return answer
    # An origin that waits for more would keep a connection with this address.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    return None


def _read(data: bytes, kinds: Kinds, outcome: Outcome) -> None:
    with suppress(PacketError):
        packet = Packet.parse(data, cut=True)
        if decode(packet.options, kinds).client != outcome.client:
            return
        host, port = packet.destination
        outcome.origin = f"[{host}]:{port}" if host.version == 6 else f"{host}:{port}"
        what = "SYN" if packet.flags & SYN else "data" if packet.payload < len(data) else "ACK"
        outcome.packets.append(what)


@contextmanager
def _network(client: IPAddress, host: str) -> Iterator[Namespace]:
    """A namespace with the client's address, from where this host can be reached."""
    with suppress(ToaError):  # of one that was killed
        run("ip", "link", "del", _CABLE)
    namespace = Namespace("toa-test")
    try:
        run("ip", "link", "add", _CABLE, "type", "veth", "peer", "eth0", "netns", namespace.name)
        version, length = client.version, client.max_prefixlen
        if version == 6:
            run("ip", "address", "add", f"{_GATEWAY6}/64", "dev", _CABLE, "nodad")
        if host in _HOST.values():
            nodad = ["nodad"] if version == 6 else []
            run("ip", "address", "add", f"{host}/{length}", "dev", _CABLE, *nodad)
        run("ip", "link", "set", _CABLE, "up")
        run("ip", f"-{version}", "route", "add", f"{client}/{length}", "dev", _CABLE)
        namespace.ip(
            "link set eth0 up",
            f"address add {client}/{length} dev eth0{' nodad' if version == 6 else ''}",
            f"route add default{f' via {_GATEWAY6}' if version == 6 else ''} dev eth0",
        )
        yield namespace
    finally:
        with suppress(ToaError):
            run("ip", "link", "del", _CABLE)
        namespace.remove()


def default_client(listen: Listen) -> IPAddress:
    """An address for documentation, which nobody has."""
    return ip_address("2001:db8::7077" if listen.ip.version == 6 else "203.0.113.77")
