# SPDX-License-Identifier: Apache-2.0
"""The receiver: whom it believes, where it looks, and what it answers."""

import ctypes
import errno
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

import cloud_toa
from cloud_toa.bpf import edge, origin
from cloud_toa.config import EdgeSettings
from cloud_toa.demo.lab import Lab, inside
from cloud_toa.option import Client, Kinds, encode
from tests.netns.conftest import receive
from tests.netns.raw_tcp import RawClient, Wire
from tests.netns.traffic import balancer, listen

TRUSTED, OTHER = "10.9.0.77", "10.9.0.78"
TRUSTED6, OTHER6 = "fd09::77", "fd09::78"
SERVER = ("10.9.0.2", 7000)
SERVER6 = ("fd09::2", 7000)
CLIENT = Client(ip_address("203.0.113.9"), 4321)
CLIENT6 = Client(ip_address("2001:db8:1::9"), 4321)
IPPROTO_MPTCP = 262
TOA, TOA6 = encode(CLIENT), encode(CLIENT6)


@pytest.fixture
def wire(lab: Lab) -> Iterator[Wire]:
    wire = Wire(lab)
    for address in (TRUSTED, OTHER, TRUSTED6, OTHER6):
        wire.host(address)
    yield wire
    wire.close()


@pytest.fixture
def listener(lab: Lab, servers: Path) -> Iterator[socket.socket]:
    """Dual-stack; trusts TRUSTED and TRUSTED6."""
    receive(servers, trust=f"{TRUSTED} {TRUSTED6}")
    with listen(lab, servers, ("::", SERVER[1])) as listener:
        yield listener


def counters() -> dict[str, int]:
    status = origin.status()
    assert status is not None
    return {name: count for name, count in status.counters.items() if count}


def peer_of(conn: socket.socket) -> Client:
    host, port = conn.getpeername()[:2]
    ip = ip_address(host)
    assert ip.version == 4 or not str(ip).startswith("::ffff:") or ip.ipv4_mapped
    return Client(getattr(ip, "ipv4_mapped", None) or ip, port)


def sources(trusted: bool) -> list[tuple[str, tuple[str, int]]]:
    return (
        [(TRUSTED, SERVER), (TRUSTED6, SERVER6)]
        if trusted
        else [(OTHER, SERVER), (OTHER6, SERVER6)]
    )


def test_forged_option_from_an_untrusted_source(wire: Wire, listener: socket.socket) -> None:
    for source, server in sources(trusted=False):
        client = RawClient(wire, source, server)
        client.open(ack=TOA)
        with listener.accept()[0] as conn:
            assert peer_of(conn) == Client(ip_address(source), client.port)
            assert cloud_toa.client_of(conn) is None
            client.data(b"x", TOA)
            assert conn.recv(1) == b"x"
            assert peer_of(conn) == Client(ip_address(source), client.port)
    assert counters() == {"untrusted": 2}


def test_forged_in_the_first_data_or_the_syn(wire: Wire, lab: Lab, servers: Path) -> None:
    receive(servers, trust=TRUSTED, save_syn=True)
    with listen(lab, servers, SERVER) as listener:
        for where in ("syn", "data"):
            client = RawClient(wire, OTHER, SERVER)
            client.open(syn=TOA if where == "syn" else b"")
            with listener.accept()[0] as conn:
                client.data(b"x", TOA if where == "data" else b"")
                assert conn.recv(1) == b"x"
                assert peer_of(conn) == Client(ip_address(OTHER), client.port)
                assert cloud_toa.client_of(conn) is None
    assert counters() == {"untrusted": 1, "absent": 1}


def test_forged_by_a_client_through_the_load_balancer(
    lab: Lab, sender: Path, receiver: Path
) -> None:
    """The edge ends the client's connection: no option of its packets travels on."""
    forged = Client(ip_address("192.0.2.66"), 666)
    with (
        listen(lab, sender, ("10.8.0.1", 7001), lab.edge) as front,
        listen(lab, receiver, SERVER) as listener,
    ):
        first = lab.cgroup("forger")
        # A forger with the best of tools: our own sender, on the client's host.
        with inside(first), lab.client.entered(), socket.socket() as sock:
            edge.attach([first], EdgeSettings())
            cloud_toa.set_client(sock, forged)
            sock.connect(("10.8.0.1", 7001))
            inbound, peer = front.accept()
            with inbound, balancer(lab, sender, peer) as onward:
                onward.connect(SERVER)
                conn, seen = listener.accept()
                conn.close()
    assert seen == peer
    assert seen[0] != str(forged.ip)


def test_trust_any_believes_everyone(wire: Wire, lab: Lab, servers: Path) -> None:
    receive(servers, trust="any")
    with listen(lab, servers, ("::", SERVER[1])) as listener:
        for source, server in sources(trusted=False):
            RawClient(wire, source, server).open(ack=TOA)
            with listener.accept()[0] as conn:
                assert peer_of(conn) == CLIENT


def test_trust_that_is_withdrawn(wire: Wire, listener: socket.socket, servers: Path) -> None:
    receive(servers, trust=OTHER)
    RawClient(wire, TRUSTED, SERVER).open(ack=TOA)
    with listener.accept()[0] as conn:
        assert peer_of(conn).ip == ip_address(TRUSTED)
    assert counters() == {"untrusted": 1}


def test_networks_match_by_prefix(wire: Wire, lab: Lab, servers: Path) -> None:
    cases = [
        ("10.9.0.76/31", SERVER, TRUSTED, True),
        ("10.9.0.78/31", SERVER, TRUSTED, False),
        ("10.0.0.0/8", SERVER, TRUSTED, True),
        ("fd09::70/124", SERVER6, TRUSTED6, True),
        ("fd09::80/124", SERVER6, TRUSTED6, False),
        ("fd00::/8", SERVER6, TRUSTED6, True),
        ("fd00::/8", SERVER, TRUSTED, False),
        ("0.0.0.0/1", SERVER6, TRUSTED6, False),
    ]
    with listen(lab, servers, ("::", SERVER[1])) as listener:
        for trust, server, source, believed in cases:
            receive(servers, trust=trust)
            RawClient(wire, source, server).open(ack=TOA)
            with listener.accept()[0] as conn:
                assert (peer_of(conn) == CLIENT) == believed, (trust, source)


@pytest.mark.parametrize("toa", [TOA, TOA6], ids=["IPv4", "IPv6"])
def test_only_in_the_first_data_after_accept(
    wire: Wire, listener: socket.socket, toa: bytes
) -> None:
    for source, server in sources(trusted=True):
        client = RawClient(wire, source, server)
        client.open()
        conn, peer = listener.accept()
        with conn:
            assert ip_address(peer[0]) in (
                ip_address(source),
                ip_address(f"::ffff:{source}") if "." in source else None,
            )
            client.data(b"x", toa)
            assert conn.recv(1) == b"x"
            assert peer_of(conn) == (CLIENT if toa == TOA else CLIENT6)
    assert counters() == {"found": 2, "late": 2}


def test_only_in_the_data_that_completes_the_handshake(wire: Wire, listener: socket.socket) -> None:
    client = RawClient(wire, TRUSTED, SERVER)
    client.open(ack=None)
    client.data(b"x", TOA)
    with listener.accept()[0] as conn:
        assert peer_of(conn) == CLIENT
    assert counters() == {"found": 1}


def test_later_data_changes_nothing(wire: Wire, listener: socket.socket) -> None:
    """With or without a client: who a connection is for is settled by its first data."""
    for ack, settled in ((b"", None), (TOA, CLIENT)):
        client = RawClient(wire, TRUSTED, SERVER)
        client.open(ack=ack)
        with listener.accept()[0] as conn:
            client.data(b"x")
            assert conn.recv(1) == b"x"
            client.data(b"y", TOA6)
            assert conn.recv(1) == b"y"
            assert peer_of(conn) == (settled or Client(ip_address(TRUSTED), client.port))
    assert counters() == {"absent": 1, "found": 1}


def test_unusable_address_ends_the_search(wire: Wire, listener: socket.socket) -> None:
    client = RawClient(wire, TRUSTED, SERVER)
    client.open(ack=bytes.fromhex("fe08934d00000000"))
    with listener.accept()[0] as conn:
        client.data(b"x", TOA)
        assert conn.recv(1) == b"x"
        assert peer_of(conn) == Client(ip_address(TRUSTED), client.port)
    assert counters() == {"absent": 1, "unusable": 1}


def test_only_in_the_saved_syn(wire: Wire, lab: Lab, servers: Path) -> None:
    receive(servers, trust=TRUSTED, save_syn=True)
    with listen(lab, servers, SERVER) as listener:
        RawClient(wire, TRUSTED, SERVER).open(syn=TOA)
        with listener.accept()[0] as conn:
            assert peer_of(conn) == CLIENT
    assert counters() == {"found": 1, "saved_syn": 1}


def test_syn_that_a_server_saves_itself(wire: Wire, listener: socket.socket) -> None:
    RawClient(wire, TRUSTED, SERVER).open(syn=TOA)
    with listener.accept()[0] as conn:
        assert peer_of(conn).ip == ip_address(TRUSTED)
    listener.setsockopt(socket.IPPROTO_TCP, 27, 1)  # TCP_SAVE_SYN
    RawClient(wire, TRUSTED, SERVER).open(syn=TOA)
    with listener.accept()[0] as conn:
        assert peer_of(conn) == CLIENT
        assert TOA in conn.getsockopt(socket.IPPROTO_TCP, 28, 256)  # the server's own read
    assert counters() == {"absent": 1, "found": 1, "saved_syn": 1}


def test_attached_after_the_listener_started(lab: Lab, sender: Path, servers: Path) -> None:
    with listen(lab, servers, SERVER) as listener:
        receive(servers)
        with balancer(lab, sender, ("203.0.113.9", 4321)) as sock:
            sock.connect(SERVER)
            conn, peer = listener.accept()
            conn.close()
    assert peer == ("203.0.113.9", 4321)


@pytest.mark.parametrize("client", [CLIENT, CLIENT6], ids=str)
def test_syncookies(lab: Lab, sender: Path, receiver: Path, client: Client) -> None:
    """No state is kept from the SYN: the ACK serves."""
    lab.origin.sysctl("net.ipv4.tcp_syncookies", "2")
    with listen(lab, receiver, ("::", 7000)) as listener:
        with balancer(lab, sender, (str(client.ip), 4321), family=6) as sock:
            sock.connect(SERVER6)
            with listener.accept()[0] as conn:
                assert peer_of(conn) == client


def test_two_clients_one_listener_do_not_mix(lab: Lab, sender: Path, receiver: Path) -> None:
    with listen(lab, receiver, SERVER) as listener:
        socks = []
        for number in range(1, 200):
            sock = balancer(lab, sender, (f"203.0.113.{number}", 1000 + number))
            sock.connect(SERVER)
            socks.append(sock)
        for sock in reversed(socks):
            sock.close()
        seen = []
        for _ in socks:
            conn, peer = listener.accept()
            # accept() and getpeername() agree, also once the connection is closing.
            assert conn.getpeername() == peer
            seen.append(peer)
            conn.close()
    assert seen == [(f"203.0.113.{number}", 1000 + number) for number in range(1, 200)]


def getsockopt(conn: socket.socket, name: int, size: int) -> tuple[int, bytes]:
    """Errno and answer of getsockopt(IPPROTO_IP), as C programs see it."""
    value, length = ctypes.create_string_buffer(b"\xaa" * size, size), ctypes.c_uint32(size)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.getsockopt(conn.fileno(), 0, name, value, ctypes.byref(length)):
        return ctypes.get_errno(), b""
    return 0, value.raw[: length.value]


def test_getsockopt_4097(wire: Wire, listener: socket.socket) -> None:
    for toa, family, size in ((TOA, socket.AF_INET, 16), (TOA6, socket.AF_INET6, 28)):
        for source, server in sources(trusted=True):
            RawClient(wire, source, server).open(ack=toa)
            with listener.accept()[0] as conn:
                code, answer = getsockopt(conn, 4097, 28)
                assert (code, len(answer)) == (0, size)
                assert int.from_bytes(answer[:2], "little") == family
                assert answer[2:4] == toa[2:4]
                assert toa[4:] in answer
                assert getsockopt(conn, 4097, size)[1] == answer
                assert getsockopt(conn, 4097, size - 1)[0] in (errno.EINVAL, errno.EFAULT)
    RawClient(wire, TRUSTED, SERVER).open()
    with listener.accept()[0] as conn:
        assert getsockopt(conn, 4097, 28) == (0, bytes(16))


def test_getsockopt_4096_as_dpvs(wire: Wire, lab: Lab, servers: Path) -> None:
    """Only for an IPv6 client of an AF_INET socket."""
    receive(servers, trust=f"{TRUSTED} {TRUSTED6}")
    with listen(lab, servers, SERVER) as four, listen(lab, servers, SERVER6) as six:
        for listener, source, server, toa, found in (
            (four, TRUSTED, SERVER, TOA6, True),
            (four, TRUSTED, SERVER, TOA, False),
            (four, TRUSTED, SERVER, b"", False),
            (six, TRUSTED6, SERVER6, TOA6, False),
        ):
            RawClient(wire, source, server).open(ack=toa)
            with listener.accept()[0] as conn:
                code, answer = getsockopt(conn, 4096, 20)
                if found:
                    assert (code, answer[:18]) == (0, toa[4:] + toa[2:4])
                    assert getsockopt(conn, 4096, 17)[0] in (errno.EINVAL, errno.EFAULT)
                else:
                    assert code == errno.EFAULT


def test_getsockopt_without_receiver(lab: Lab) -> None:
    with listen(lab, lab.cgroup("bare"), SERVER) as listener:
        for name in (4096, 4097):
            assert getsockopt(listener, name, 28)[0] == errno.ENOPROTOOPT


def test_kind_without_port_leaves_the_port(wire: Wire, lab: Lab, servers: Path) -> None:
    receive(servers, Kinds((), (), (28,)), trust=TRUSTED)
    with listen(lab, servers, SERVER) as listener:
        client = RawClient(wire, TRUSTED, SERVER)
        client.open(ack=bytes.fromhex("1c0701cb007109"))
        with listener.accept()[0] as conn:
            assert conn.getpeername() == ("203.0.113.9", client.port)
            assert cloud_toa.client_of(conn) == Client(CLIENT.ip, None)


def test_other_sockets_are_left_alone(lab: Lab, receiver: Path) -> None:
    with inside(receiver), lab.origin.entered():
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.connect(("10.9.0.1", 9))
            assert sock.getpeername() == ("10.9.0.1", 9)
        with socket.socket() as sock, pytest.raises(OSError, match="not connected"):
            sock.getpeername()
        with socket.create_server(("127.0.0.1", 0)) as server:
            with socket.create_connection(server.getsockname()) as sock:
                assert sock.getpeername() == server.getsockname()


def test_listener_of_multipath_tcp(lab: Lab, sender: Path, receiver: Path) -> None:
    """What a Go server opens by default; an edge that speaks plain TCP is seen as always."""
    with inside(receiver), lab.origin.entered():
        listener = socket.socket(proto=IPPROTO_MPTCP)
    with listener:
        listener.settimeout(20)
        listener.bind(SERVER)
        listener.listen()
        with balancer(lab, sender, (str(CLIENT.ip), 4321)) as sock:
            sock.connect(SERVER)
            conn, peer = listener.accept()
            with conn:
                assert peer == conn.getpeername() == (str(CLIENT.ip), 4321)
                assert cloud_toa.client_of(conn) == CLIENT
