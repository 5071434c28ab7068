# SPDX-License-Identifier: Apache-2.0
import socket
from pathlib import Path
from typing import NoReturn

import pytest

import cloud_toa.origin
from cloud_toa import Client
from cloud_toa.origin import saved_syn
from tests.origin.addresses import LOOPBACK, V4, V6
from tests.origin.conftest import Connect, Listen


class TestEitherSource:
    """`cloud_toa.origin.client_of`."""

    def test_with_the_receiver_alone(
        self, connect: Connect, listen: Listen, receiver_cgroup: Path
    ) -> None:
        with listen("127.0.0.1", receiver_cgroup) as listener:
            listener.listen()
            for client in (V4, V6, None):
                connect(listener.getsockname(), client)
                with listener.accept()[0] as conn:
                    assert cloud_toa.origin.client_of(conn) == client

    def test_with_the_saved_syn_alone(self, connect: Connect, listen: Listen) -> None:
        with listen("127.0.0.1") as listener:
            saved_syn.prepare(listener, trust=LOOPBACK)
            listener.listen()
            for client in (V4, V6, None):
                connect(listener.getsockname(), client)
                with listener.accept()[0] as conn:
                    assert cloud_toa.origin.client_of(conn) == client

    def test_each_source_trusts_its_own_list(
        self, connect: Connect, listen: Listen, receiver_cgroup: Path
    ) -> None:
        with listen("127.0.0.1", receiver_cgroup) as listener:
            saved_syn.prepare(listener, trust=["127.0.0.2"])
            listener.listen()
            for source, expected in (("127.0.0.1", V4), ("127.0.0.2", V4), ("127.0.0.3", None)):
                connect(listener.getsockname(), V4, source=source)
                with listener.accept()[0] as conn:
                    assert cloud_toa.origin.client_of(conn) == expected

    def test_the_receiver_knows_a_client_that_the_syn_could_not_name(
        self, connect: Connect, listen: Listen, receiver_cgroup: Path
    ) -> None:
        like_fast_open = Client(V4.ip, 0xF989)
        with listen("127.0.0.1", receiver_cgroup) as listener:
            saved_syn.prepare(listener, trust=LOOPBACK)
            listener.listen()
            connect(listener.getsockname(), like_fast_open)
            with listener.accept()[0] as conn:
                assert saved_syn.client_of(conn) is None
                assert cloud_toa.origin.client_of(conn) == like_fast_open

    def test_with_neither(self, connect: Connect, listen: Listen) -> None:
        with listen("127.0.0.1") as listener:
            listener.listen()
            connect(listener.getsockname(), V4)
            with listener.accept()[0] as conn:
                assert cloud_toa.origin.client_of(conn) is None

    def test_of_a_unix_socket(self) -> None:
        one, two = socket.socketpair()
        with one, two:
            assert cloud_toa.origin.client_of(one) is None

    def test_a_kernel_that_refuses_to_answer_is_heard(self) -> None:
        class Refusing(socket.socket):
            def getsockopt(self, *_: int) -> NoReturn:
                raise PermissionError

        with Refusing() as conn, pytest.raises(PermissionError):
            cloud_toa.origin.client_of(conn)

    def test_of_a_closed_socket(self) -> None:
        sock = socket.socket()
        sock.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            cloud_toa.origin.client_of(sock)
