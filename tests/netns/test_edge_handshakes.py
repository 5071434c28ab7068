# SPDX-License-Identifier: Apache-2.0
"""Clients that do not get done with TLS or PROXY protocol: they may not idle as others may."""

import select
import socket
import time
from collections import Counter
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path

import pytest

from cloud_toa.demo.lab import Lab
from tests.netns.authority import Authority
from tests.netns.edge_node import running, write
from tests.netns.edge_services import (
    FIRST,
    Log,
    ask,
    connected,
    is_seen,
    service,
    start_origin,
    trusting,
)

pytestmark = pytest.mark.one_kernel

TLS, PROXY, PLAIN = 8443, 8080, 8081
_PATIENCE = 120.0


def test_clients_that_do_not_come_to_the_point(lab: Lab, receiver: Path) -> None:
    """They say nothing, or one byte after the other; one that was let in before may be silent."""
    start_origin(lab, receiver, "web", FIRST)
    authority = Authority(lab.files)
    certificates = f'[service.tls]\ncertificates = [{{certificate = "{authority.pem("a.test")}"}}]'
    # With this, 16 s.
    quick = 'connect_timeout = "500ms"'
    log = Log(lab)
    path = write(
        lab,
        service("tls", TLS, quick, 'protocol = "tls"', certificates)
        + service("proxy", PROXY, quick, 'proxy_from = ["203.0.113.0/28"]')
        + service("plain", PLAIN, quick)
        + log.settings,
    )
    with running(lab, "--config", str(path)), ExitStack() as stack:
        context = trusting(authority.certificate)
        served = [
            stack.enter_context(connected(lab, TLS, tls=context)),
            stack.enter_context(connected(lab, PLAIN)),
        ]
        waiting = {
            stack.enter_context(connected(lab, port)): slowly
            for port, begin in ((TLS, b"\x16\x03\x01\x02\x00\x01"), (PROXY, b"PROXY TCP4"))
            for slowly in (iter(()), iter(begin * 100))
        }
        deadline = time.monotonic() + _PATIENCE
        while waiting:
            assert time.monotonic() < deadline, waiting
            # A turn for each byte.
            for sock in select.select(list(waiting), [], [], 0.2)[0]:
                assert is_over(sock)
                del waiting[sock]
            for sock, slowly in waiting.items():
                with suppress(ConnectionResetError):  # since select; recv says so, too
                    sock.sendall(bytes(islice(slowly, 1)))
        ended = [log.next() for _ in range(4)]
        assert Counter((line["service"], line["error"]) for line in ended) == {
            ("tls", "Timeout during SSL handshake"): 2,
            ("proxy", "Timeout while waiting for PROXY protocol header"): 1,
            # HAProxy wants the first line at once.
            ("proxy", "Truncated PROXY protocol header received"): 1,
        }
        for sock in served:
            said = ask(sock)
            assert is_seen(said | {"own": list(sock.getsockname()[:2])})


def is_over(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True
