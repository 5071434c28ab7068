# SPDX-License-Identifier: Apache-2.0
"""What senders write where, and who is then seen: the table in docs/migration.md, row by row."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import pytest

from cloud_toa.config import OriginSettings
from cloud_toa.demo.lab import Lab
from cloud_toa.option import Client, Kinds, encode
from cloud_toa.origin import saved_syn
from cloud_toa.trust import Trust
from tests.netns.raw_tcp import RawClient, Wire
from tests.netns.receiver import CLIENT, CLIENT6, TOA, TRUSTED, peer_of
from tests.netns.receivers import RECEIVERS
from tests.netns.traffic import SERVER, listen

PAGE = Path(__file__).parents[2] / "docs/migration.md"
EDGE = "198.51.100.10"
"""Ours, which connects to a load balancer that puts its own option in front."""
CLIENT_IP = b"\x1c\x07\x01" + CLIENT.ip.packed
TRUST = Trust.parse([TRUSTED, EDGE])


@dataclass(frozen=True)
class Row:
    """Which packets have the option, and how the receivers are set."""

    packets: str
    option: bytes = TOA
    kinds: Kinds = field(default_factory=Kinds)
    chain: bool = False
    third_packet_lost: bool = False

    @property
    def client(self) -> Client:
        return CLIENT6 if CLIENT6.ip.packed in self.option else CLIENT

    def connect(self, wire: Wire) -> RawClient:
        client = RawClient(wire, TRUSTED, SERVER)
        ack = self.option if "third packet" in self.packets else b""
        client.open(
            self.option if "SYN" in self.packets else b"",
            None if self.third_packet_lost else ack,
        )
        return client

    def data(self, client: RawClient) -> None:
        client.data(b"x", self.option if "first data" in self.packets else b"")


FIRST_DATA_LOST = "first data, as the third packet was lost"
ROWS = {
    ("SYN, third packet, first data", ""): Row("SYN, third packet, first data"),
    ("third packet, first data", ""): Row("third packet, first data"),
    ("third packet", ""): Row("third packet"),
    ("first data", ""): Row("first data"),
    (FIRST_DATA_LOST, ""): Row("first data", third_packet_lost=True),
    ("SYN", ""): Row("SYN"),
    ("third packet; kind 200", "`--kinds-v4 254,200`"): Row(
        "third packet", encode(CLIENT, kind_v4=200), Kinds((254, 200))
    ),
    ("SYN, third packet, first data; kind 253, an IPv6 client", "`--kinds-v6 254,253`"): Row(
        "SYN, third packet, first data",
        encode(CLIENT6, kind_v6=253),
        Kinds((254,), (254, 253)),
    ),
    ("third packet, first data; kind 28, no port", "`--kinds-client-ip 28`"): Row(
        "third packet, first data", CLIENT_IP, Kinds(client_ip=(28,))
    ),
    ("first data; kind 28, no port", "`--kinds-client-ip 28`"): Row(
        "first data", CLIENT_IP, Kinds(client_ip=(28,))
    ),
    ("SYN; kind 28, no port", "`--kinds-client-ip 28`"): Row(
        "SYN", CLIENT_IP, Kinds(client_ip=(28,))
    ),
    ("third packet, first data: its own in front of our edge's", ""): Row(
        "third packet, first data", encode(Client(ip_address(EDGE), 1025)) + TOA
    ),
    ("third packet, first data: its own in front of our edge's", "`--chain`"): Row(
        "third packet, first data", encode(Client(ip_address(EDGE), 1025)) + TOA, chain=True
    ),
    ("SYN: its own in front of our edge's", "`--chain`"): Row(
        "SYN", encode(Client(ip_address(EDGE), 1025)) + TOA, chain=True
    ),
}
COLUMNS = {
    "eBPF": ("bpf", False),
    "eBPF, `--save-syn`": ("bpf", True),
    "toa.ko": ("kmod", False),
    "saved SYN": (None, True),
}


def table() -> dict[tuple[str, str], dict[str, str]]:
    """The page's: by packets and settings, what each receiver shows."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text().splitlines()
        if line.startswith("|")
    ]
    start = next(number for number, row in enumerate(rows) if row[0] == "the option is in")
    heads = rows[start]
    assert heads[1:3] == ["as written by", "settings"]
    shown = {}
    for row in rows[start + 2 :]:
        if len(row) != len(heads):
            break
        shown[row[0], row[2]] = dict(zip(heads[3:], row[3:], strict=True))
    return shown


def test_the_page_has_these_rows_and_columns() -> None:
    shown = table()
    assert list(shown) == list(ROWS)
    for cells in shown.values():
        assert list(cells) == list(COLUMNS)
        assert set(cells.values()) <= {"client", "sender", "our edge"}, cells


Seen = Callable[[Row], str]


@contextmanager
def receiving(column: str, lab: Lab, servers: Path, wire: Wire) -> Iterator[Seen]:
    name, save_syn = COLUMNS[column]
    receiver = RECEIVERS[name]() if name else None

    def visit(row: Row) -> str:
        settings = OriginSettings(TRUST, row.kinds, save_syn, row.chain)
        if receiver:
            receiver.attach(servers, settings)
        with listen(lab, servers, ("::", SERVER[1])) as listener:
            if not receiver:
                saved_syn.prepare(listener, settings.trust, settings.kinds, chain=settings.chain)
            client = row.connect(wire)
            if row.third_packet_lost:
                row.data(client)
            with listener.accept()[0] as conn:
                if not row.third_packet_lost:
                    row.data(client)
                assert conn.recv(1) == b"x"
                found = saved_syn.client_of(conn) if not receiver else peer_of(conn)
            client.reset()
        return who(found, row)

    try:
        yield visit
    finally:
        if receiver:
            receiver.detach()


def who(found: Client | None, row: Row) -> str:
    """In the page's words; the sender is whom a server sees without TOA."""
    if found is None or str(found.ip) == TRUSTED:
        return "sender"
    if str(found.ip) == EDGE:
        return "our edge"
    assert found.ip == row.client.ip
    return "client"


@pytest.mark.parametrize("column", COLUMNS)
def test_who_is_seen(column: str, lab: Lab, servers: Path, wire: Wire) -> None:
    name, _ = COLUMNS[column]
    if name and name not in RECEIVERS:
        pytest.skip("the module, where a kernel takes it")
    shown = table()
    with receiving(column, lab, servers, wire) as seen:
        assert {key: seen(row) for key, row in ROWS.items()} == {
            key: cells[column] for key, cells in shown.items()
        }
