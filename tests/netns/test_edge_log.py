# SPDX-License-Identifier: Apache-2.0
"""What the access log says of TOA, beside what happened: real HAProxy, real packets."""

import re
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from cloud_toa.demo.lab import EDGE, Lab
from tests.netns.authority import Authority
from tests.netns.edge_log import (
    NO_CONNECTION,
    PORT,
    WRITTEN,
    ask,
    origin_speaks_first,
    said,
    through,
    visit,
    web,
)
from tests.netns.edge_node import command, place, running, write
from tests.netns.edge_services import (
    CLIENT,
    CLIENT6,
    Log,
    connected,
    origin,
    service,
    trusting,
)
from tests.netns.rival import rival
from tests.netns.traffic import SERVER, SERVER6, listen, reset_at_close, wait_until

pytestmark = pytest.mark.one_kernel

PROXIES = 'proxy_from = ["203.0.113.0/28"]'


def test_written_as_set(lab: Lab, server: socket.socket) -> None:
    """For every pair of families, whoever leaves first; and in fewer places."""
    log = Log(lab)
    both = web() + web(port=8081, name="six", address=SERVER6[0])
    four = web(port=8082, name="four").replace(f', "[{EDGE[6]}]:8082"', "")
    cases = [(port, client) for port in (PORT, 8081) for client in (CLIENT, CLIENT6)]
    path = write(lab, both + four + log.settings)
    with running(lab, "--config", str(path)) as node:
        for port, client in (*cases, (8082, CLIENT)):
            visit(lab, server, port, client=client)
            assert said(log.next()) == WRITTEN
            with through(lab, server, port, client=client) as (sock, conn):
                ask(sock, conn)
                conn.close()
                assert sock.recv(1) == b""
            assert said(log.next()) == WRITTEN
        write(lab, '[toa]\nwhere = ["ack"]\n' + both + four + log.settings)
        node.until("applied by a reload")
        visit(lab, server)
        assert said(log.next()) == ("ack", "-")


def test_what_settings_rule_out(lab: Lab, server: socket.socket, servers: Path) -> None:
    """By service, by origin beside others, and for one of two services on a port."""
    authority = Authority(lab.files)
    tls = [
        f'server_names = ["{name}.test"]\nprotocol = "tls"\n{toa}\n'
        f'[service.tls]\ncertificates = [{{certificate = "{authority.pem(f"{name}.test")}"}}]'
        for name, toa in (("a", ""), ("b", "toa = false"))
    ]
    mixed = (
        origin(SERVER[1], "toa = false")
        + origin(7001, 'proxy = "v1"')
        + origin(7002)
    )  # fmt: skip
    text = (
        web("toa = false")
        + service("mixed", 8081, origins=mixed)
        + "".join(
            service(name, 8443, lines, origins=origin(SERVER[1]))
            for name, lines in zip("ab", tls, strict=True)
        )
    )
    log = Log(lab)
    path = write(lab, text + log.settings)
    with (
        listen(lab, servers, ("::", 7001)) as proxied,
        listen(lab, servers, ("::", 7002)) as named,
        running(lab, "--config", str(path)) as node,
    ):
        visit(lab, server)
        assert said(log.next()) == ("-", "off_service")
        found = {}
        for listener in (server, proxied, named):
            visit(lab, listener, 8081)
            entry = log.next()
            found[entry["origin"].rpartition(":")[2]] = said(entry)
        assert found == {"7000": ("-", "off_origin"), "7001": ("-", "proxy"), "7002": WRITTEN}
        trust = trusting(authority.certificate)
        for name, expected in (("a", WRITTEN), ("b", ("-", "off_service"))):
            with connected(lab, 8443, tls=trust, name=f"{name}.test") as sock:
                with server.accept()[0] as conn:
                    ask(sock, conn)
            entry = log.next()
            assert (entry["service"], said(entry)) == (name, expected)
        write(lab, "[toa]\nenabled = false\n" + text + log.settings)
        node.until("applied by a reload")
        visit(lab, server, 8081)
        assert said(log.next()) == ("-", "off")


def test_a_connection_keeps_what_it_began_with(lab: Lab, server: socket.socket) -> None:
    log = Log(lab)
    path = write(lab, web() + log.settings)
    with running(lab, "--config", str(path)) as node:
        with through(lab, server) as (sock, conn):
            ask(sock, conn)
            write(lab, web("toa = false") + log.settings)
            node.until("applied by a reload")
            visit(lab, server)
            assert said(log.next()) == ("-", "off_service")
            ask(sock, conn)
        assert said(log.next()) == WRITTEN


CONNECTS = re.compile(r"state=(REQ|QUE|TAR|ASS|CON|CER|RDY)\b")


def leaves(sock: socket.socket, _conn: socket.socket) -> None:
    sock.close()


def half_closes(sock: socket.socket, conn: socket.socket) -> None:
    sock.shutdown(socket.SHUT_WR)
    assert conn.recv(1) == b""
    conn.sendall(b"x")
    assert sock.recv(1) == b"x"


def resets(sock: socket.socket, _conn: socket.socket) -> None:
    reset_at_close(sock)
    sock.close()


def origin_leaves(sock: socket.socket, conn: socket.socket) -> None:
    conn.close()
    assert sock.recv(1) == b""


def origin_resets(sock: socket.socket, conn: socket.socket) -> None:
    reset_at_close(conn)
    conn.close()
    with suppress(ConnectionResetError):
        assert sock.recv(1) == b""


def origin_half_closes(sock: socket.socket, conn: socket.socket) -> None:
    conn.sendall(b"hello")
    conn.shutdown(socket.SHUT_WR)
    assert sock.recv(5) == b"hello"
    assert sock.recv(1) == b""
    sock.sendall(b"bye")
    assert conn.recv(3) == b"bye"


def nobody_speaks(sock: socket.socket, _conn: socket.socket) -> None:
    assert sock.recv(1) == b""


@pytest.mark.parametrize(
    "what",
    [
        *(leaves, half_closes, resets, nobody_speaks),
        *(origin_leaves, origin_resets, origin_half_closes, origin_speaks_first),
    ],
)
def test_no_data_before_an_answer(
    lab: Lab, server: socket.socket, what: Callable[[socket.socket, socket.socket], None]
) -> None:
    """However it ends, the line knows; and the next one of the same client is its own."""
    log = Log(lab)
    patience = "1s" if what is nobody_speaks else "1m"
    path = write(lab, web(f'idle_timeout = "{patience}"') + log.settings)
    with running(lab, "--config", str(path)) as node:
        for client in (CLIENT, CLIENT6):
            with through(lab, server, client=client) as (sock, conn):
                # Until it knows the origin's answer, HAProxy gives up where a client has done so.
                wait_until(lambda: not CONNECTS.search(node.ask("show sess all")))
                what(sock, conn)
            assert said(log.next()) == ("syn,ack", "-")
            visit(lab, server, client=client)
            assert said(log.next()) == WRITTEN


def test_a_middlebox_that_drops_unknown_options(lab: Lab, server: socket.socket) -> None:
    lab.origin.run("nft", "add table inet middlebox")
    lab.origin.run("nft", "add chain inet middlebox in { type filter hook input priority 0; }")
    lab.origin.run(
        "nft", "add rule inet middlebox in tcp flags & (syn | ack) == syn "
        "tcp option @254,0,8 254 drop",
    )  # fmt: skip
    log = Log(lab)
    path = write(lab, web('connect_timeout = "20s"') + log.settings)
    with running(lab, "--config", str(path)):
        visit(lab, server)
        assert said(log.next()) == ("ack,data", "syn_without")


def test_a_client_port_that_linux_would_misread(lab: Lab, server: socket.socket) -> None:
    log = Log(lab)
    path = write(lab, web() + log.settings)
    with running(lab, "--config", str(path)):
        with lab.connect((CLIENT, 0xF989), (EDGE[4], PORT)) as sock, server.accept()[0] as conn:
            ask(sock, conn)
        assert said(log.next()) == ("ack,data", "syn_magic")


def test_no_room(lab: Lab, server: socket.socket) -> None:
    """With 4 bytes of another program's, a SYN has none for an IPv6 client."""
    log = Log(lab)
    path = write(lab, web() + log.settings)
    at = place(lab)
    at.mkdir()
    with rival(at, 253), running(lab, "--config", str(path)):
        visit(lab, server, client=CLIENT6)
        assert said(log.next()) == ("ack,data", "no_room")
        visit(lab, server)
        assert said(log.next()) == WRITTEN


@pytest.mark.parametrize(
    ("client", "port", "why"), [("198.51.100.7", 0, "no_port"), ("0.0.0.0", 5007, "wildcard")]
)
def test_clients_that_proxies_name_badly(
    lab: Lab, server: socket.socket, client: str, port: int, why: str
) -> None:
    log = Log(lab)
    header = f"PROXY TCP4 {client} {EDGE[4]} {port} 443\r\n".encode()
    path = write(lab, web(PROXIES) + log.settings + '\n[toa]\nno_port = "skip"\n')
    with running(lab, "--config", str(path)):
        with through(lab, server, first=header) as (sock, conn):
            ask(sock, conn)
        assert said(log.next()) == ("-", why)


def test_a_client_that_a_proxy_names_without_a_port(lab: Lab, server: socket.socket) -> None:
    log = Log(lab)
    header = f"PROXY TCP4 198.51.100.7 {EDGE[4]} 0 443\r\n".encode()
    path = write(lab, web(PROXIES) + log.settings)
    with running(lab, "--config", str(path)):
        with through(lab, server, first=header) as (sock, conn):
            assert conn.getpeername()[0].removeprefix("::ffff:") == "198.51.100.7"
            ask(sock, conn)
        assert said(log.next()) == WRITTEN


def test_no_connection(lab: Lab, server: socket.socket) -> None:
    """Refused, no origin at all; and another origin than the first one tried."""
    log = Log(lab)
    path = write(
        lab,
        service("refused", 8081, origins=origin(7009))
        + service("out", 8082, origins=origin(7009, 'state = "maintenance"'))
        + service("two", 8083, origins=origin(7009) + origin(SERVER[1]))
        + log.settings,
    )
    with running(lab, "--config", str(path)):
        for port, where in ((8081, "10.9.0.2:7009"), (8082, "-")):
            with connected(lab, port) as sock, suppress(ConnectionResetError):
                assert sock.recv(1) == b""
            entry = log.next()
            assert (entry["origin"], said(entry)) == (where, NO_CONNECTION)
        for _ in range(2):
            visit(lab, server, 8083)
            assert said(log.next()) == WRITTEN


def test_by_the_queue(lab: Lab, server: socket.socket) -> None:
    log = Log(lab)
    toa = '[toa]\ndatapath = "queue"\nmax_queue_id = 1\n'
    four = web().replace(f', "[{EDGE[6]}]:{PORT}"', "")
    path = write(lab, toa + four + web(port=8081, name="both") + log.settings)
    with running(lab, "--config", str(path)):
        visit(lab, server)
        assert said(log.next()) == ("queue", "-")
        visit(lab, server, 8081)
        assert said(log.next()) == ("-", "ip_versions")


def test_set_up_by_hand(lab: Lab, server: socket.socket) -> None:
    """What others set up, nobody here knows."""
    log = Log(lab)
    path = write(lab, "[toa]\nauto_setup = false\n" + web() + log.settings)
    at = place(lab)
    at.mkdir()
    assert command(lab, "edge", "attach", "--cgroup", str(at)).returncode == 0
    with running(lab, "--config", str(path)):
        visit(lab, server)
        assert said(log.next()) == ("unknown", "by_hand")
