# SPDX-License-Identifier: Apache-2.0
"""Programs are exchanged under traffic: no connection goes without, sockets keep what they had."""

import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from cloud_toa.bpf import edge, origin
from cloud_toa.bpf.attachment import Attachments
from cloud_toa.bpf.datapath import Datapath
from cloud_toa.demo.lab import inside
from cloud_toa.option import Client, plain
from tests.bpf.kernel import variant, whole
from tests.bpf.loopback import (
    TRUST,
    client,
    connect,
    listen,
    marked,
    peer,
    transparent,
    unbound,
)
from tests.cli.command import call

ROUNDS = 60
PER_ROUND = 8
PATIENCE = 10.0

Pair = tuple[str, str]


@contextmanager
def stream(balancers: Path, servers: Path) -> Iterator["queue.Queue[Pair]"]:
    """Connections one after the other, from a process of their own: (client, seen) of each."""
    pairs: queue.Queue[Pair] = queue.Queue()
    with listen(servers, 6) as listener:
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                accepted, (host, port, *_) = listener.accept()
                said = accepted.recv(100).decode()
                pairs.put((said, str(Client(plain(ip_address(host)), port))))
                accepted.close()

        server = threading.Thread(target=serve)
        server.start()
        command = [sys.executable, "-m", "tests.bpf.stream", str(listener.getsockname()[1])]
        with inside(balancers):
            process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
        try:
            yield pairs
            assert process.poll() is None
        finally:
            # Nobody is accepted once the stream has ended: end the server first.
            done.set()
            server.join()
            process.kill()
            process.wait()


def test_no_connection_is_wrong_while_settings_alternate(balancers: Path, servers: Path) -> None:
    edge_attach = ["edge", "attach", "--cgroup", str(balancers)]
    origin_attach = ["origin", "attach", "--cgroup", str(servers), "--kinds-v4", "254,200"]
    others = ["--trust", *TRUST, "192.0.2.0/24"]
    call(*origin_attach, "--trust", *TRUST)
    call(*edge_attach)
    pairs: list[Pair] = []
    with stream(balancers, servers) as arriving:
        for number in range(ROUNDS):
            edge_said = call(*edge_attach, "--option-type-v4", "254" if number % 2 else "200")
            origin_said = call(*origin_attach, *(others if number % 2 else ["--trust", *TRUST]))
            assert edge_said.code == origin_said.code == 0
            assert number == 0 or "replaced" in edge_said.out
            assert number == 0 or "replaced" in origin_said.out
            pairs += [arriving.get(timeout=PATIENCE) for _ in range(PER_ROUND)]
        pairs += [arriving.get() for _ in range(arriving.qsize())]
    assert [pair for pair in pairs if pair[0] != pair[1]] == []
    assert len({said for said, _ in pairs}) == len(pairs) >= ROUNDS * PER_ROUND


def test_sockets_from_before_an_exchange_keep_their_client(balancers: Path, servers: Path) -> None:
    call("origin", "attach", "--cgroup", str(servers), "--trust", *TRUST, "--kinds-v4", "254,200")
    call("edge", "attach", "--cgroup", str(balancers))
    early, late = client(4), client(4)
    with (
        listen(servers) as listener,
        transparent(balancers, early) as connected,
        transparent(balancers, late) as bound,
        connect(connected, listener) as accepted,
    ):
        call("origin", "attach", "--cgroup", str(servers), "--trust", "127.0.0.1")
        call("edge", "attach", "--cgroup", str(balancers), "--option-type-v4", "200")
        call("edge", "attach", "--cgroup", str(balancers), "--option-type-v4", "253")
        # Its option was made when the client was named, with the kind of then.
        assert peer(accepted) == (ip_address(early[0]), early[1])
        with connect(bound, listener) as answered:
            assert peer(answered) == (ip_address(late[0]), late[1])


def test_a_transparent_socket_from_before_an_exchange_can_bind_after_it(
    balancers: Path, servers: Path
) -> None:
    call("origin", "attach", "--cgroup", str(servers), "--trust", *TRUST, "--kinds-v4", "200")
    call("edge", "attach", "--cgroup", str(balancers))
    whom = client(4)
    with listen(servers) as listener, unbound(balancers) as sock:
        call("edge", "attach", "--cgroup", str(balancers), "--option-type-v4", "200")
        sock.bind(whom)
        with connect(sock, listener) as accepted:
            assert peer(accepted) == (ip_address(whom[0]), whom[1])


@pytest.mark.parametrize(
    ("datapath", "old", "new"),
    [
        (edge.DATAPATH, "__u8 room; /*", "__u8 more[8]; __u8 room; /*"),
        (
            origin.DATAPATH,
            "struct toa_client {\n\t__be32 ip[4];",
            "struct toa_client {\n\t__be32 more; __be32 ip[4];",
        ),
    ],
    ids=["edge", "origin"],
)
def test_another_version_with_other_maps_is_replaced(
    balancers: Path, servers: Path, tmp_path: Path, datapath: Datapath, old: str, new: str
) -> None:
    place = {"edge": balancers, "origin": servers}[datapath.name]
    other = variant(datapath, tmp_path, old, new)
    Attachments(other).attach([place], b"")
    call("origin", "attach", "--cgroup", str(servers), "--trust", *TRUST)
    call("edge", "attach", "--cgroup", str(balancers))
    assert whole(datapath, [place], [])
    assert marked(balancers, servers)


def test_counters_of_a_version_that_counts_more_are_read(balancers: Path, tmp_path: Path) -> None:
    other = variant(
        edge.DATAPATH,
        tmp_path,
        old="__u64 no_memory; /*",
        new="__u64 no_memory; __u64 more[8]; /*",
    )
    Attachments(other).attach([balancers], b"\xfe\xfe\x07")
    status = edge.status()
    assert status is not None
    assert status.counters == dict.fromkeys(edge.COUNTERS, 0)
