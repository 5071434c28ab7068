# SPDX-License-Identifier: Apache-2.0
"""Connections made by hand whose SYN, ACK and data carry options that somebody made up.

Made by a stranger at the origin's switch, by a client of the load balancer, or by an edge: of
that one alone, the server must see whom its option names, as option.py reads it.
"""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import paths
import told_server
from attacker import DEVICE
from tally import Tally

from cloud_toa.demo.lab import EDGE, ORIGIN, Lab
from cloud_toa.isolation import Namespace
from cloud_toa.option import Client, Kinds, decode, encode
from tests.netns.raw_tcp import RawClient, Wire

FORGED = ("192.0.2.0", "2001:db8:bad::")
"""Whom options name is counted from here; no client of the lab is there."""
HAND_MADE = {
    "stranger": {4: "10.9.0.66", 6: "fd09::66"},
    "client": {4: "10.8.0.66", 6: "fd08::66"},
    "edge": {4: "10.9.0.77", 6: "fd09::77"},
}
"""Who makes connections by hand, by IP version; no kernel answers for these addresses."""

_AT_ONCE = 50
"""Connections that are there together, so that none waits for a place in the backlog."""
_PATIENCE = 60.0
"""Seconds until the server has heard these; slow enough for an emulated machine."""
_NOP = b"\1"
_UNKNOWN = bytes((253, 20)) + bytes(18)
_KEPT = 20
_SERVER_PORT = paths.SERVER_PORTS["haproxy"]


class Forged(NamedTuple):
    """Options of a SYN, and of what follows it."""

    syn: bytes
    later: bytes


def alone(four: bytes, six: bytes) -> list[Forged]:
    """One option."""
    return [Forged(toa, toa) for toa in (four, six)]


def full(four: bytes, six: bytes) -> list[Forged]:
    """All 40 bytes, in the ways in which an option can be among them."""
    blocks = (
        _NOP * 32 + four,
        _NOP * 20 + six,
        six + _UNKNOWN,
        _UNKNOWN + six,
        _UNKNOWN + four + _NOP * 12,
        _UNKNOWN + _UNKNOWN,
        four * 5,
        six + four + _NOP * 12,
    )
    return [Forged(block, block) for block in blocks]


def two(four: bytes, six: bytes) -> list[Forged]:
    """Two clients: in one packet, or one in the SYN and another in what follows."""
    other = encode(Client(ip_address("192.0.2.255"), 1))
    blocks = (four + other, other + four, four + six, six + four)
    return [*(Forged(block, block) for block in blocks), Forged(four, other), Forged(six, four)]


def forge(
    lab: Lab,
    attacker: Namespace,
    log: Path,
    receiver: str,
    who: str,
    options: Callable[[bytes, bytes], list[Forged]],
    count: int,
) -> Tally:
    """Make so many connections, half IPv4 and half IPv6; say what the server's log has of them.

    Args:
        lab: with a server that writes ``log``, and HAProxy.
        attacker: the host at the origin's switch.
        log: see `told_server.Serve`.
        receiver: decides which packet names the client.
        who: one of `HAND_MADE`.
        options: of an option for IPv4 and one for IPv6, what to send; taken in turn.
        count: how many.
    """
    if who == "client":
        wire, server = Wire(lab, (lab.client, "eth0"), (lab.edge, "to-client")), EDGE
        port = paths.PORT
    else:
        wire, server, port = Wire(lab, (attacker, DEVICE)), ORIGIN, _SERVER_PORT
    expected: Counter[str] = Counter()
    with closing(wire):
        wire.hosts(*HAND_MADE[who].values())
        for begin in range(0, count, _AT_ONCE):
            clients = []
            for number in range(begin, min(begin + _AT_ONCE, count)):
                version, forged = (4, 6)[number % 2], _made_up(options, number)
                client = RawClient(wire, HAND_MADE[who][version], (server[version], port))
                clients.append(client)
                client.open(forged.syn, forged.later)
                client.data(f"{client.source} {client.port}\n".encode(), forged.later)
                expected[_seen(client, who, receiver, forged)] += 1
            _wait(log, expected.total())
            for client in clients:
                client.reset()
    seen = told_server.read_log(log)
    # What is heard is usually who was accepted, and then is false once.
    false = (seen.accepted - expected) | (seen.heard - expected)
    return Tally(
        false=false.total(),
        false_ones=[*false][:_KEPT],
        accepted=seen.accepted.total(),
        connections=count,
        missing=count - seen.heard.total(),
    )


def _made_up(options: Callable[[bytes, bytes], list[Forged]], number: int) -> Forged:
    four, six = map(ip_address, FORGED)
    port = 1024 + number % 60_000
    made = options(
        encode(Client(four + number % 254 + 1, port)), encode(Client(six + number + 1, port))
    )
    # Every way by IPv4 and by IPv6.
    return made[number // 2 % len(made)]


def _seen(client: RawClient, who: str, receiver: str, forged: Forged) -> str:
    """Whom the server should see, as its log has it."""
    if who == "edge":
        named = decode(forged.syn if receiver == "saved-syn" else forged.later, Kinds()).client
        if named is not None:
            return f"{named.ip} {named.port}"
    return f"{client.source} {client.port}"


def _wait(log: Path, heard: int) -> None:
    """Until the server has heard so many, or some will not come."""
    deadline = time.monotonic() + _PATIENCE
    while told_server.read_log(log).heard.total() < heard and time.monotonic() < deadline:
        time.sleep(0.02)  # nothing tells that another process has written
