# SPDX-License-Identifier: Apache-2.0
"""What the sender tells of: connections without the option where it should be, no others."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_network
from pathlib import Path

import pytest

from cloud_toa.bpf import edge
from cloud_toa.bpf.records import MOST, Record
from cloud_toa.config import EdgeSettings, NoPort, Where
from cloud_toa.demo.lab import Lab
from cloud_toa.origins import Destination, Origins
from tests.netns.rival import rival
from tests.netns.sender import CLIENT, CLIENT6, counters
from tests.netns.test_sender import WHERES, sign
from tests.netns.traffic import (
    SERVER,
    SERVER6,
    balancer,
    listen,
    quiet,
    reset_at_close,
    talk,
    wait_until,
)

SYN, ACK, DATA = Where
EVERY = SYN | ACK | DATA
MAPPED = (f"::ffff:{SERVER[0]}", SERVER[1])


@pytest.fixture
def telling(balancers: Path) -> Path:
    """The cgroup of load balancers, with a sender that tells."""
    edge.attach([balancers], EdgeSettings(tell=True))
    return balancers


def told() -> list[Record]:
    """All that waits."""
    records = edge.told()
    assert records is not None
    try:
        return records.read()
    finally:
        records.close()


def record(
    written: Where,
    *without: str,
    client: tuple[str, int] = CLIENT,
    server: tuple[str, int] = SERVER,
) -> Record:
    return Record(*client, *server, written, without)


@contextmanager
def connected(
    lab: Lab,
    place: Path,
    listener: socket.socket,
    client: tuple[str, int] = CLIENT,
    server: tuple[str, int] = SERVER,
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A load balancer's connection, and the server's end of it."""
    with balancer(lab, place, client, 6 if ":" in server[0] else 4) as sock:
        sock.connect(server)
        with listener.accept()[0] as conn:
            conn.settimeout(120)
            yield sock, conn


@pytest.mark.parametrize("where", WHERES, ids=str)
def test_nothing_of_usual_ones(lab: Lab, balancers: Path, servers: Path, where: Where) -> None:
    edge.attach([balancers], EdgeSettings(where=where, tell=True))
    with listen(lab, servers, ("::", SERVER[1])) as listener:
        for client, server in ((CLIENT, SERVER), (CLIENT, MAPPED), (CLIENT6, SERVER6)):
            with connected(lab, balancers, listener, client, server) as (sock, conn):
                talk(sock, conn)
            assert told() == []
            with connected(lab, balancers, listener, client, server) as (sock, conn):
                talk(sock, conn)
                conn.close()
                assert sock.recv(1) == b""
    assert told() == []


def test_no_program_runs_more_often_for_usual_ones(
    lab: Lab, balancers: Path, servers: Path
) -> None:
    runs = []
    with counted_runs(), listen(lab, servers, SERVER) as listener:
        for tell in (False, True):
            edge.attach([balancers], EdgeSettings(tell=tell))
            before = program_runs()
            with connected(lab, balancers, listener) as (sock, conn):
                talk(sock, conn)
                quiet(sock, conn)
            runs.append(program_runs() - before)
    assert 0 < runs[0] == runs[1]


def test_a_server_that_speaks_first(lab: Lab, telling: Path, servers: Path) -> None:
    """Told when the load balancer leaves, not before, and once."""
    with listen(lab, servers, ("::", SERVER[1])) as listener:
        for client, server in ((CLIENT, SERVER), (CLIENT, MAPPED), (CLIENT6, SERVER6)):
            with connected(lab, telling, listener, client, server) as (sock, conn):
                conn.sendall(b"220 ready")
                assert sock.recv(20) == b"220 ready"
                talk(sock, conn)
                conn.shutdown(socket.SHUT_WR)
                assert sock.recv(1) == b""
                assert told() == []
                sock.close()
                plain = (server[0].removeprefix("::ffff:"), server[1])
                expected = [record(SYN | ACK, client=client, server=plain)]
                assert told() == expected
                assert conn.recv(1) == b""
    assert told() == []


def test_a_client_that_says_nothing(lab: Lab, telling: Path, servers: Path) -> None:
    with listen(lab, servers, SERVER) as listener:
        with connected(lab, telling, listener) as (sock, conn):
            sock.close()
            assert told() == [record(SYN | ACK)]
            assert conn.recv(1) == b""
        with connected(lab, telling, listener) as (sock, conn):
            sock.shutdown(socket.SHUT_WR)
            assert told() == [record(SYN | ACK)]
            assert conn.recv(1) == b""
        with connected(lab, telling, listener) as (sock, _):
            reset_at_close(sock)
            sock.close()
            assert told() == [record(SYN | ACK)]
    assert told() == []


def test_a_server_that_resets(lab: Lab, telling: Path, servers: Path) -> None:
    with listen(lab, servers, SERVER) as listener:
        with connected(lab, telling, listener) as (sock, conn):
            reset_at_close(conn)
            conn.close()
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
            assert told() == [record(SYN | ACK)]
    assert told() == []


def test_what_was_no_connection(lab: Lab, telling: Path, servers: Path) -> None:
    with balancer(lab, telling, CLIENT) as sock, pytest.raises(ConnectionRefusedError):
        sock.connect(SERVER)
    with balancer(lab, telling, (CLIENT[0], 0)) as sock, pytest.raises(ConnectionRefusedError):
        sock.connect(SERVER)
    assert told() == []


def test_middlebox_that_drops_unknown_options(lab: Lab, telling: Path, servers: Path) -> None:
    lab.origin.run("nft", "add table inet middlebox")
    lab.origin.run("nft", "add chain inet middlebox in { type filter hook input priority 0; }")
    lab.origin.run(
        "nft", "add rule inet middlebox in tcp flags & (syn | ack) == syn "
        "tcp option @254,0,8 254 drop",
    )  # fmt: skip
    with listen(lab, servers, SERVER) as listener:
        with connected(lab, telling, listener) as (sock, conn):
            talk(sock, conn)
    assert told() == [record(ACK | DATA, "syn_without")]


def test_syn_that_linux_would_misread(lab: Lab, telling: Path, servers: Path) -> None:
    client = (CLIENT[0], 0xF989)
    with listen(lab, servers, SERVER) as listener:
        with connected(lab, telling, listener, client) as (sock, conn):
            talk(sock, conn)
    assert told() == [record(ACK | DATA, "syn_magic", client=client)]


@pytest.mark.parametrize(
    ("where", "written"), [(EVERY, ACK | DATA), (SYN, Where(0))], ids=["everywhere", "syn alone"]
)
def test_no_room(lab: Lab, balancers: Path, servers: Path, where: Where, written: Where) -> None:
    """MD5 signatures leave less than 20 bytes of a SYN."""
    edge.attach([balancers], EdgeSettings(where=where, tell=True))
    with listen(lab, servers, SERVER6) as listener:
        sign(listener, ("fd09::1", 0))
        with balancer(lab, balancers, CLIENT6, family=6) as sock:
            sign(sock, SERVER6)
            sock.connect(SERVER6)
            with listener.accept()[0] as conn:
                talk(sock, conn)
    assert told() == [record(written, "no_room", client=CLIENT6, server=SERVER6)]


@pytest.mark.parametrize(
    ("client", "why"),
    [
        ((CLIENT[0], 0), "no_port"),
        (("0.0.0.0", 4321), "wildcard"),
        (("127.0.0.1", 4321), "local"),
        (("169.254.0.7", 4321), "local"),
    ],
)
def test_clients_that_can_t_be_named(
    lab: Lab, balancers: Path, servers: Path, client: tuple[str, int], why: str
) -> None:
    edge.attach([balancers], EdgeSettings(tell=True, no_port=NoPort.SKIP))
    with listen(lab, servers, SERVER) as listener:
        for server in (SERVER, MAPPED):
            with connected(lab, balancers, listener, client, server) as (sock, conn):
                talk(sock, conn)
            assert told() == [record(Where(0), why, client=client)]


def test_destinations_that_are_not_listed(lab: Lab, balancers: Path, servers: Path) -> None:
    others = Origins((Destination(ip_network("192.0.2.7")),))
    edge.attach([balancers], EdgeSettings(origins=others, tell=True))
    with listen(lab, servers, SERVER) as listener:
        with connected(lab, balancers, listener) as (sock, conn):
            talk(sock, conn)
        with balancer(lab, balancers, None) as sock:
            sock.connect(SERVER)
            with listener.accept()[0] as conn:
                talk(sock, conn)
    assert told() == [record(Where(0), "elsewhere")]


def test_an_option_that_another_program_has_written(
    lab: Lab, balancers: Path, servers: Path
) -> None:
    with rival(balancers, 200), listen(lab, servers, SERVER) as listener:
        edge.attach([balancers], EdgeSettings(200, 200, tell=True))
        with connected(lab, balancers, listener) as (sock, conn):
            talk(sock, conn)
    assert told() == [record(Where(0), "not_stored")]
    assert counters()["not_stored"] == 3


def test_what_was_not_read_survives_an_exchange(lab: Lab, telling: Path, servers: Path) -> None:
    with listen(lab, servers, SERVER) as listener:
        with connected(lab, telling, listener):
            edge.attach([telling], EdgeSettings(200, 200, tell=True))
        edge.attach([telling], EdgeSettings(253, 253, tell=True))
    assert told() == [record(SYN | ACK)]
    edge.attach([telling], EdgeSettings(253, 253))
    assert edge.told() is None


@pytest.mark.one_kernel
def test_when_it_is_full(lab: Lab, telling: Path, servers: Path) -> None:
    """Counted, and the oldest are there."""
    beyond = 20
    with listen(lab, servers, SERVER) as listener:
        for number in range(MOST + beyond):
            client = ("203.0.113.9", 1024 + number)
            with connected(lab, telling, listener, client) as (sock, conn):
                reset_at_close(sock)
                sock.close()
                with suppress(ConnectionResetError):
                    conn.recv(1)
    assert counters()["records_lost"] == beyond
    assert [found.client_port for found in told()] == list(range(1024, 1024 + MOST))
    with listen(lab, servers, SERVER) as listener:
        with connected(lab, telling, listener):
            pass
    wait_until(lambda: counters()["records_lost"] == beyond)
    assert told() == [record(SYN | ACK)]


@contextmanager
def counted_runs() -> Iterator[None]:
    stats = Path("/proc/sys/kernel/bpf_stats_enabled")
    before = stats.read_text()
    stats.write_text("1")
    try:
        yield
    finally:
        stats.write_text(before)


def program_runs() -> int:
    status = edge.status()
    assert status is not None
    return sum(program.run_cnt for program in status.programs)
