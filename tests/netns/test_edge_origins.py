# SPDX-License-Identifier: Apache-2.0
"""Origins that are not as they should be: dead, silent, moved, or somebody else."""

import socket
import time
from pathlib import Path

import pytest

from cloud_toa.demo.lab import Lab
from tests.netns.edge_node import running, write
from tests.netns.edge_services import (
    CLIENT6,
    FIRST,
    ORIGIN,
    SECOND,
    Log,
    connected,
    is_refused,
    is_seen,
    origin,
    service,
    start_origin,
    stop_origin,
    visit,
    wait_until_served,
)
from tests.netns.traffic import SERVER, listen, reset_at_close, wait_until

pytestmark = pytest.mark.one_kernel

NOBODY = "10.9.0.77"
"""No host's: nobody answers when the edge asks who has it."""


def silence(lab: Lab, port: int) -> None:
    """Packets to this port of the origin get no answer at all."""
    lab.origin.run(
        *("nft", "table inet silent { chain in { type filter hook input priority 0; "),
        *(f"tcp dport {port} drop;", "}; }"),
    )


def test_half_closed_connections(lab: Lab, receiver: Path) -> None:
    """Either side may have said all while the other goes on."""
    path = write(lab, service("web", 8080, origins=origin(SERVER[1], address=SERVER[0])))
    with listen(lab, receiver, SERVER) as listener, running(lab, "--config", str(path)):
        for first in ("client", "origin"):
            with connected(lab, 8080) as sock:
                conn, _ = listener.accept()
                conn.settimeout(120)
                with conn:
                    one, other = (sock, conn) if first == "client" else (conn, sock)
                    one.sendall(b"all of it")
                    one.shutdown(socket.SHUT_WR)
                    while other.recv(100):
                        pass
                    for _ in range(3):
                        other.sendall(b"still here")
                        assert one.recv(100) == b"still here"
                    other.shutdown(socket.SHUT_WR)
                    assert one.recv(100) == b""


def test_idle_connections(lab: Lab, receiver: Path) -> None:
    """Ended; what passes one way alone keeps a connection."""
    log = Log(lab)
    path = write(
        lab,
        service("short", 8080, 'idle_timeout = "1s"', origins=origin(SERVER[1]))
        # Longer than this machine may stand still between two steps below.
        + service("long", 8081, 'idle_timeout = "4s"', origins=origin(SERVER[1]))
        + log.settings,
    )
    with listen(lab, receiver, SERVER) as listener, running(lab, "--config", str(path)):
        with connected(lab, 8080) as sock:
            conn, _ = listener.accept()
            with conn:
                assert sock.recv(10) == b""
        assert log.next()["end"][0] in "cs"
        with connected(lab, 8081) as one, connected(lab, 8081) as other:
            accepted = [listener.accept()[0] for _ in range(2)]
            by_client = {conn.getpeername()[1]: conn for conn in accepted}
            up = (one, by_client[one.getsockname()[1]])
            down = (by_client[other.getsockname()[1]], other)
            began = time.monotonic()
            while time.monotonic() - began < 9:
                for source, target in (up, down):
                    source.sendall(b".")
                    assert target.recv(10) == b"."
                time.sleep(0.1)  # what is tried is that time passes, with little in it
            for conn in accepted:
                conn.close()
        assert [log.next()["end"] for _ in range(2)] == ["--", "--"]


def test_an_origin_that_does_not_answer(lab: Lab, receiver: Path) -> None:
    """Refused, silent, or no host at all: the other origin serves; else it is in the log."""
    start_origin(lab, receiver, "good", FIRST)
    silence(lab, SECOND)
    good, quick = origin(FIRST), 'connect_timeout = "300ms"'
    bad = {
        8080: origin(7009),
        8081: origin(SECOND),
        8082: origin(FIRST, address=NOBODY),
    }
    log = Log(lab)
    path = write(
        lab,
        "".join(
            service(f"both{port}", port, quick, origins=entry + good)
            + service(f"alone{port}", port + 10, quick, origins=entry)
            + service(
                f"source{port}", port + 20, quick, 'algorithm = "source"', origins=entry + good
            )
            for port, entry in bad.items()
        )
        + log.settings,
    )
    with running(lab, "--config", str(path)):
        for port in bad:
            for client in ("203.0.113.9", CLIENT6):
                for both in (port, port + 20):
                    # Clients whom `source` gives one origin, and such as it gives the other.
                    for number in range(4):
                        said = visit(lab, both, client=f"{client[:-1]}{number + 1}")
                        assert (said["name"], is_seen(said)) == ("good", True)
                        assert log.next()["end"] == "--"
            assert is_refused(lab, port + 10)
            line = log.next()
            assert line["end"] in ("SC", "sC")
            assert line["ms_to_connect"] == -1


def test_an_origin_that_dies(lab: Lab, receiver: Path) -> None:
    """The client is not left waiting."""
    log = Log(lab)
    path = write(lab, service("web", 8080, origins=origin(SERVER[1])) + log.settings)
    with listen(lab, receiver, SERVER) as listener, running(lab, "--config", str(path)):
        with connected(lab, 8080) as sock:
            conn, _ = listener.accept()
            conn.sendall(b"half of")
            assert sock.recv(10) == b"half of"
            reset_at_close(conn)
            conn.close()
            assert sock.recv(10) == b""
        assert log.next()["end"] == "SD"


def test_checks(lab: Lab, receiver: Path) -> None:
    """A dead origin is out without a client's waiting for it, and comes back by itself."""
    process = start_origin(lab, receiver, "one", FIRST)
    start_origin(lab, receiver, "two", SECOND)
    log = Log(lab)
    both = origin(FIRST) + origin(SECOND)
    path = write(
        lab,
        service("web", 8080, 'check.interval = "100ms"', origins=both, check=True)
        + service("one", 8081, 'check.interval = "100ms"', check=True)
        + log.settings,
    )
    with running(lab, "--config", str(path)) as node:
        for _ in range(2):
            assert is_seen(visit(lab, 8080))
        stop_origin(process)
        node.until(f"Server web/{ORIGIN}:{FIRST} is DOWN")
        for _ in range(4):
            assert visit(lab, 8080)["name"] == "two"
        wait_until(
            lambda: f"Server one/{ORIGIN}:{FIRST} is DOWN" in node.log or bool(node.until("one/"))
        )
        assert is_refused(lab, 8081)
        wait_until(lambda: ("one", "SC") in {(e["service"], e["end"]) for e in log.entries()})
        start_origin(lab, receiver, "one", FIRST)
        node.until("is UP")
        wait_until(lambda: {visit(lab, 8080)["name"] for _ in range(2)} == {"one", "two"})
        wait_until_served(lab, 8081)
