# SPDX-License-Identifier: Apache-2.0
"""The parser's vectors against the receivers, with real packets.

The same files as for option.py. The answer is what getpeername() says, and the
counters are what option.decode() counted.
"""

import json
import random
import socket
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from cloud_toa.config import OriginSettings
from cloud_toa.demo.lab import Lab, inside
from cloud_toa.option import Decoded, Kinds, decode, plain
from cloud_toa.option import options as walk
from cloud_toa.trust import Trust
from tests.netns.raw_tcp import RawClient, Wire
from tests.netns.receivers import RECEIVERS, Bpf, Receiver, by_both

SOURCE = "10.9.0.77"
SERVER = ("10.9.0.2", 7000)
OPTIONS, LOCAL, PORTS, CHAIN = (
    json.loads((Path(__file__).parent.parent / f"vectors/{name}.json").read_text())
    for name in ("options", "local", "ports", "chain")
)
VECTORS: list[dict[str, Any]] = [
    vector for file in (OPTIONS, LOCAL, PORTS) for vector in file["vectors"]
]


def kinds_of(vector: dict[str, Any]) -> Kinds:
    kinds = vector["kinds"]
    return Kinds(*(tuple(kinds.get(layout, ())) for layout in ("v4", "v6", "client_ip")))


class Visited:
    """A dual-stack server on the origin, the receiver around it, and a client by hand."""

    def __init__(self, lab: Lab, servers: Path, receiving: Receiver) -> None:
        self.servers = servers
        self.counters = receiving.counters
        with inside(servers), lab.origin.entered():
            self.listener = socket.create_server(
                ("::", SERVER[1]), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128
            )
        self.listener.settimeout(120)
        self.wire = Wire(lab)
        self.wire.hosts(SOURCE)

    def close(self) -> None:
        self.listener.close()
        self.wire.close()

    def connect(self, where: str, options: bytes) -> tuple[Decoded, dict[str, Any] | None]:
        """Connect with these options in one packet; answer what was counted and seen."""
        before = self.counters()
        client = RawClient(self.wire, SOURCE, SERVER)
        client.open(
            options if where == "syn" else b"",
            {"ack": options, "completing data": None}.get(where, b""),
        )
        if where == "data":
            # The handshake is over before the data comes, as accept() proves.
            with self.listener.accept()[0] as conn:
                client.data(b"x", options)
                return self._seen(conn, client, before)
        client.data(b"x", options if where == "completing data" else b"")
        with self.listener.accept()[0] as conn:
            return self._seen(conn, client, before)

    def _seen(
        self, conn: socket.socket, client: RawClient, before: dict[str, int]
    ) -> tuple[Decoded, dict[str, Any] | None]:
        assert conn.recv(1) == b"x"
        host, port = conn.getpeername()[:2]
        now = self.counters()
        counted = {name: now[name] - before[name] for name in now}
        # Accepted or not, no connection keeps its place in the backlog.
        client.reset()
        assert counted["found"] + counted["absent"] == 1
        assert counted["untrusted"] == counted["no_memory"] == 0
        names = ("malformed", "unusable", "duplicate", "local", "chained")
        decoded = Decoded(None, *(counted[name] for name in names))
        ip = plain(ip_address(host))
        if counted["absent"]:
            assert (str(ip), port) == (SOURCE, client.port)
            return decoded, None
        return decoded, {"ip": str(ip), "port": None if port == client.port else port}


@pytest.fixture
def visited(lab: Lab, servers: Path, receiving: Receiver) -> Iterator[Visited]:
    # SYNs are kept for listeners that start after this.
    receiving.receive(servers, trust=SOURCE, save_syn=isinstance(receiving, Bpf))
    visited = Visited(lab, servers, receiving)
    yield visited
    visited.close()


PLACES = {"bpf": ("ack", "syn", "data", "completing data"), "kmod": ("ack", "completing data")}


@pytest.mark.parametrize(
    ("receiving", "where"),
    [(name, where) for name in RECEIVERS for where in PLACES[name]],
    indirect=["receiving"],
)
def test_vectors(visited: Visited, receiving: Receiver, where: str) -> None:
    # Loading programs is the slow part: once for all vectors of the same kinds.
    by_kinds = sorted(VECTORS, key=lambda vector: str(vector["kinds"]))
    for kinds, vectors in groupby(by_kinds, kinds_of):
        receiving.receive(visited.servers, kinds, SOURCE, isinstance(receiving, Bpf))
        for vector in vectors:
            options = bytes.fromhex(vector["options"])
            counted, client = visited.connect(where, options)
            assert client == vector["client"], (where, vector["name"])
            # Linux itself gives up on broken lists, and hands those of later packets to nobody.
            if where != "data":
                expected = replace(decode(options, kinds), client=None)
                assert counted == expected, (where, vector["name"])


@pytest.mark.parametrize(
    ("receiving", "where"),
    [(name, where) for name in RECEIVERS for where in PLACES[name]],
    indirect=["receiving"],
)
def test_chains(visited: Visited, receiving: Receiver, where: str) -> None:
    """An edge that is believed is asked whom it serves, where that is set."""
    trust = Trust.parse([SOURCE, *CHAIN["trust"]])
    by_kinds = sorted(CHAIN["vectors"], key=lambda vector: str(vector["kinds"]))
    for kinds, grouped in groupby(by_kinds, kinds_of):
        vectors = list(grouped)
        for chain in (True, False):
            settings = OriginSettings(trust, kinds, isinstance(receiving, Bpf), chain)
            receiving.attach(visited.servers, settings)
            for vector in vectors:
                options = bytes.fromhex(vector["options"])
                counted, client = visited.connect(where, options)
                about = where, chain, vector["name"]
                assert client == vector["chain" if chain else "first"], about
                expected = decode(options, kinds, is_edge=trust.__contains__ if chain else None)
                assert counted == replace(expected, client=None), about


@by_both
def test_receiver_and_python_agree_on_any_bytes(visited: Visited, receiving: Receiver) -> None:
    kinds = Kinds((254, 200), (254, 253), (28,))
    receiving.receive(visited.servers, kinds, SOURCE, isinstance(receiving, Bpf))
    chance = random.Random(20261122)
    compared = 0
    for _ in range(400):
        data = broken_options(chance)
        expected = decode(data, kinds)
        counted, client = visited.connect("ack", data)
        if client is None and counted == Decoded() and _broken(data):
            continue  # Linux 6.7 and later drops such a packet before anybody sees it
        assert counted == replace(expected, client=None), data.hex()
        wanted = expected.client and {"ip": str(expected.client.ip), "port": expected.client.port}
        assert client == wanted, data.hex()
        compared += 1
    assert compared > 200


_PIECES = [bytes.fromhex(vector["options"]) for vector in VECTORS if vector["options"]]


def broken_options(chance: random.Random) -> bytes:
    """Options of up to three vectors, with up to six bytes of them changed."""
    options = bytearray(b"".join(chance.choices(_PIECES, k=chance.randint(1, 3)))[:40])
    for _ in range(chance.choice((0, 0, 1, 2, 3, 6))):
        telling = (0, 1, 2, 7, 8, 20, 28, 254, 255, chance.randrange(256))
        options[chance.randrange(len(options))] = chance.choice(telling)
    return bytes(options) + bytes(-len(options) % 4)


def _broken(data: bytes) -> bool:
    return any(not option for _, _, option in walk(data))
