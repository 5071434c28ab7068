# SPDX-License-Identifier: Apache-2.0
import asyncio
import errno
import gc
import json
import socket
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from cloud_toa import Client
from cloud_toa.errors import ToaError
from cloud_toa.option import KindError, Kinds
from cloud_toa.origin import saved_syn
from cloud_toa.packet import SYN
from cloud_toa.trust import Trust, TrustError
from tests.netns.raw_tcp import segment
from tests.origin.addresses import LOOPBACK, V4, V6
from tests.origin.conftest import Connect, Listen

IPV6_DSTOPTS = 59  # linux/in6.h


CHAIN = json.loads((Path(__file__).parents[1] / "vectors/chain.json").read_text())
BALANCER = "192.0.2.1"


@pytest.mark.parametrize("vector", CHAIN["vectors"], ids=lambda vector: vector["name"])
def test_chains(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["options"])
    syn = segment((BALANCER, 4000), ("192.0.2.2", 80), SYN, 1, 0, data)
    kinds = Kinds(**{layout: tuple(kinds) for layout, kinds in vector["kinds"].items()})
    trust = Trust.parse([BALANCER, *CHAIN["trust"]])
    for chain in (True, False):
        expected = vector["chain" if chain else "first"]
        client = Client(ip_address(expected["ip"]), expected["port"])
        assert saved_syn.read(syn, trust, kinds, chain) == client
        assert saved_syn.read(syn, Trust.parse(CHAIN["trust"]), kinds, chain) is None


class TestConnections:
    @pytest.mark.parametrize("client", [V4, V6], ids=str)
    @pytest.mark.parametrize(
        ("bound", "host"),
        [
            ("127.0.0.1", "127.0.0.1"),
            ("0.0.0.0", "127.0.0.1"),
            ("::1", "::1"),
            ("::", "::1"),
            ("::", "127.0.0.1"),
            ("::ffff:127.0.0.1", "127.0.0.1"),
            ("::ffff:127.0.0.1", "::ffff:127.0.0.1"),
        ],
    )
    def test_the_client_of_any_family_is_seen_by_a_listener_of_any_family(
        self, connect: Connect, listen: Listen, bound: str, host: str, client: Client
    ) -> None:
        with listen(bound) as listener:
            saved_syn.prepare(listener, trust=LOOPBACK)
            listener.listen()
            connect((host, listener.getsockname()[1]), client)
            with listener.accept()[0] as conn:
                assert saved_syn.client_of(conn) == client

    def test_the_answer_stays_though_the_kernel_gives_it_once(
        self, connect: Connect, listen: Listen
    ) -> None:
        with listen("127.0.0.1") as listener:
            saved_syn.prepare(listener, trust=LOOPBACK)
            listener.listen()
            connect(listener.getsockname(), V4)
            with listener.accept()[0] as conn:
                assert [saved_syn.client_of(conn) for _ in range(3)] == [V4] * 3
                assert conn.getsockopt(socket.IPPROTO_TCP, saved_syn.TCP_SAVED_SYN, 120) == b""
                with conn.dup() as other:
                    assert saved_syn.client_of(other) is None
            assert saved_syn.client_of(conn) == V4  # closed by now

    def test_the_answer_is_forgotten_with_the_connection(
        self, connect: Connect, listen: Listen
    ) -> None:
        with listen("127.0.0.1") as listener:
            saved_syn.prepare(listener, trust=LOOPBACK)
            listener.listen()
            connect(listener.getsockname(), V4)
            gc.collect()
            before = len(saved_syn._answers)
            conn, _ = listener.accept()
            saved_syn.client_of(conn)
            assert len(saved_syn._answers) == before + 1
            conn.close()
            del conn
            gc.collect()
            assert len(saved_syn._answers) == before

    def test_a_connection_without_toa_has_no_client(self, connect: Connect, listen: Listen) -> None:
        with listen("127.0.0.1") as listener:
            saved_syn.prepare(listener, trust=["any"])
            listener.listen()
            connect(listener.getsockname())
            with listener.accept()[0] as conn:
                assert saved_syn.client_of(conn) is None

    def test_a_syn_from_before_is_not_known(self, connect: Connect, listen: Listen) -> None:
        with listen("127.0.0.1") as listener:
            listener.listen()
            connect(listener.getsockname(), V4)
            saved_syn.prepare(listener, trust=LOOPBACK)
            connect(listener.getsockname(), V6)
            for expected in (None, V6):
                with listener.accept()[0] as conn:
                    assert saved_syn.client_of(conn) == expected

    def test_only_the_kinds_that_were_asked_for_are_read(
        self, connect: Connect, listen: Listen
    ) -> None:
        for kinds, expected in (
            (Kinds(v4=(253,)), None),
            (Kinds(v4=(253, 254)), V4),
            (Kinds(v4=(), v6=(254,)), None),
        ):
            with listen("127.0.0.1") as listener:
                saved_syn.prepare(listener, LOOPBACK, kinds)
                listener.listen()
                connect(listener.getsockname(), V4)
                with listener.accept()[0] as conn:
                    assert saved_syn.client_of(conn) == expected

    def test_extension_headers_do_not_hide_the_option(
        self, connect: Connect, listen: Listen
    ) -> None:
        padding = bytes((0, 0, 1, 4)) + bytes(4)  # next header, length, PadN
        with listen("::1") as listener:
            saved_syn.prepare(listener, trust=LOOPBACK)
            listener.listen()
            connect(
                listener.getsockname()[:2],
                V4,
                prepare=lambda sock: sock.setsockopt(socket.IPPROTO_IPV6, IPV6_DSTOPTS, padding),
            )
            with listener.accept()[0] as conn:
                assert saved_syn.client_of(conn) == V4

    def test_headers_too_long_to_be_read_are_no_error_of_the_server(
        self, connect: Connect, listen: Listen
    ) -> None:
        # Four unknown options of 254 bytes, and PadN: Linux drops packets with more padding.
        options = bytes((0, 127)) + (b"\x1e\xfc" + bytes(252)) * 4 + b"\1\4" + bytes(4)
        with listen("::1") as listener:
            saved_syn.prepare(listener, trust=LOOPBACK)
            listener.listen()
            connect(
                listener.getsockname()[:2],
                V4,
                prepare=lambda sock: sock.setsockopt(socket.IPPROTO_IPV6, IPV6_DSTOPTS, options),
            )
            with listener.accept()[0] as conn:
                with pytest.raises(OSError, match="Invalid argument"):
                    conn.getsockopt(socket.IPPROTO_TCP, saved_syn.TCP_SAVED_SYN, 1024)
                assert saved_syn.client_of(conn) is None

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    def test_no_privilege_is_needed(self, connect: Connect, host: str) -> None:
        with subprocess.Popen(
            [
                *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
                *("--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"),
                *(sys.executable, Path(__file__).with_name("unprivileged_server.py"), host, host),
            ],
            stdout=subprocess.PIPE,
            text=True,
        ) as server:
            assert server.stdout is not None
            connect((host, int(server.stdout.readline())), V4)
            assert server.stdout.readline() == f"65534 {V4}\n"


class TestTrust:
    @pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0", "::"])
    def test_a_source_that_is_not_listed_is_not_believed(
        self, connect: Connect, listen: Listen, bound: str
    ) -> None:
        with listen(bound) as listener:
            saved_syn.prepare(listener, trust=["127.0.0.1"])
            listener.listen()
            server = ("127.0.0.1", listener.getsockname()[1])
            connect(server, V4, source="127.0.0.2")
            connect(server, V4, source="127.0.0.1")
            for expected in (None, V4):
                with listener.accept()[0] as conn:
                    assert saved_syn.client_of(conn) == expected

    def test_each_listener_has_its_own_list(self, connect: Connect, listen: Listen) -> None:
        with listen("127.0.0.1") as first, listen("127.0.0.1") as second:
            saved_syn.prepare(first, trust=["127.0.0.1"])
            saved_syn.prepare(second, trust=Trust.parse(["192.0.2.0/24"]))
            for listener, expected in ((first, V4), (second, None)):
                listener.listen()
                connect(listener.getsockname(), V4)
                with listener.accept()[0] as conn:
                    assert saved_syn.client_of(conn) == expected

    def test_the_last_list_counts(self, connect: Connect, listen: Listen) -> None:
        with listen("127.0.0.1") as listener:
            saved_syn.prepare(listener, trust=["any"])
            saved_syn.prepare(listener, trust=["192.0.2.0/24"])
            listener.listen()
            connect(listener.getsockname(), V4)
            with listener.accept()[0] as conn:
                assert saved_syn.client_of(conn) is None

    def test_the_true_peer_counts_and_not_the_one_that_getpeername_tells(
        self, connect: Connect, listen: Listen, receiver_cgroup: Path
    ) -> None:
        for trust, expected in ((["127.0.0.1"], V4), ([str(V4.ip)], None)):
            with listen("127.0.0.1", receiver_cgroup) as listener:
                saved_syn.prepare(listener, trust)
                listener.listen()
                connect(listener.getsockname(), V4)
                with listener.accept()[0] as conn:
                    assert conn.getpeername() == (str(V4.ip), V4.port)
                    assert saved_syn.client_of(conn) == expected

    @pytest.mark.parametrize("trust", [[], ["192.0.2.0/24", "nonsense"], ["0.0.0.0/0"]])
    def test_a_list_that_does_not_parse_is_refused_and_changes_nothing(
        self, listen: Listen, trust: list[str]
    ) -> None:
        with listen("127.0.0.1") as listener:
            with pytest.raises(TrustError):
                saved_syn.prepare(listener, trust)
            assert not listener.getsockopt(socket.IPPROTO_TCP, saved_syn.TCP_SAVE_SYN)

    def test_a_kind_in_use_is_refused(self, listen: Listen) -> None:
        with listen("127.0.0.1") as listener, pytest.raises(KindError):
            saved_syn.prepare(listener, LOOPBACK, Kinds(v4=(8,)))


class TestMistakes:
    def test_a_listener_that_was_not_prepared(self, connect: Connect, listen: Listen) -> None:
        with listen("127.0.0.1") as listener:
            listener.setsockopt(socket.IPPROTO_TCP, saved_syn.TCP_SAVE_SYN, 1)
            listener.listen()
            connect(listener.getsockname(), V4)
            with listener.accept()[0] as conn:
                for _ in range(2):
                    with pytest.raises(saved_syn.NotPreparedError, match=r"127\.0\.0\.1"):
                        saved_syn.client_of(conn)
                saved_syn.prepare(listener, trust=LOOPBACK)
                assert saved_syn.client_of(conn) == V4  # nothing was lost

    def test_the_port_of_another_family_is_another_listener(
        self, connect: Connect, listen: Listen
    ) -> None:
        with listen("127.0.0.1") as v4, socket.socket(socket.AF_INET6) as v6:
            v6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            v6.bind(("::", v4.getsockname()[1]))
            saved_syn.prepare(v6, trust=["any"])
            v4.listen()
            connect(v4.getsockname(), V4)
            with v4.accept()[0] as conn, pytest.raises(saved_syn.NotPreparedError):
                saved_syn.client_of(conn)

    def test_a_chain_where_everyone_is_trusted(self, listen: Listen) -> None:
        with listen("127.0.0.1") as listener:
            with pytest.raises(ToaError, match="--chain needs the edges by address"):
                saved_syn.prepare(listener, trust=["any"], chain=True)
            assert not listener.getsockopt(socket.IPPROTO_TCP, saved_syn.TCP_SAVE_SYN)

    @pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
    def test_a_socket_that_is_not_bound(self, family: socket.AddressFamily) -> None:
        with socket.socket(family) as sock, pytest.raises(ToaError, match=r"bind\(\)"):
            saved_syn.prepare(sock, trust=["any"])

    def test_a_unix_socket(self) -> None:
        one, two = socket.socketpair()
        with one, two:
            with pytest.raises(ToaError):
                saved_syn.prepare(one, trust=["any"])
            with pytest.raises(saved_syn.NotPreparedError):
                saved_syn.client_of(one)

    def test_a_udp_socket(self) -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            with pytest.raises(OSError, match=r".") as refused:
                saved_syn.prepare(sock, trust=["any"])
            assert refused.value.errno in {errno.ENOPROTOOPT, errno.EOPNOTSUPP}

    def test_a_socket_of_asyncio_needs_an_owner(self, connect: Connect, listen: Listen) -> None:
        async def serve(listener: socket.socket) -> tuple[Client | None, Client | None]:
            served: asyncio.Future[tuple[Client | None, Client | None]] = asyncio.Future()

            async def handle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                conn = writer.get_extra_info("socket")
                with pytest.raises(TypeError):
                    saved_syn.client_of(conn)
                first = saved_syn.client_of(conn, writer.transport)
                served.set_result((first, saved_syn.client_of(conn, writer.transport)))
                writer.close()

            async with await asyncio.start_server(handle, sock=listener):
                connect(listener.getsockname(), V4)
                return await served

        with listen("127.0.0.1") as listener:
            saved_syn.prepare(listener, trust=LOOPBACK)
            assert asyncio.run(serve(listener)) == (V4, V4)
