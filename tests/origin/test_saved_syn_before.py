# SPDX-License-Identifier: Apache-2.0
"""saved_syn.prepare: connections from before, of which no SYN was kept. Who serves them is told."""

import subprocess
import sys
from pathlib import Path

import pytest

from cloud_toa.origin import saved_syn
from tests.origin.addresses import LOOPBACK, V4
from tests.origin.conftest import Connect, Listen


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_by_systemds_socket_activation(connect: Connect, listen: Listen, host: str) -> None:
    with listen(host) as free:  # systemd-socket-activate says no port that it was given by 0
        port = free.getsockname()[1]
    at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    server = Path(__file__).with_name("activated_server.py")
    with subprocess.Popen(
        ["systemd-socket-activate", "-l", at, sys.executable, server, "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        said = ""
        while "Listening on" not in said:
            said = process.stderr.readline()
            assert said
        connect((host, port), V4)
        warned = process.stdout.readline()
        assert warned.startswith(
            f"WARNING 1 connection at {at} came before prepare(), so no client is known of it: "
        )
        assert "enable the service as well as the socket" in warned
        assert process.stdout.readline() == "None\n"
        connect((host, port), V4)
        assert process.stdout.readline() == f"{V4}\n"


def test_they_are_counted_once(
    connect: Connect, listen: Listen, caplog: pytest.LogCaptureFixture
) -> None:
    with listen("::") as listener:
        listener.listen()
        for _ in range(3):
            connect(("127.0.0.1", listener.getsockname()[1]), V4)
        saved_syn.prepare(listener, trust=LOOPBACK)
        (said,) = caplog.messages
        port = listener.getsockname()[1]
        assert said.startswith(f"each of 3 connections at [::]:{port} came before prepare()")
        # Nothing is missing from now on, whoever waits.
        connect(("127.0.0.1", listener.getsockname()[1]), V4)
        saved_syn.prepare(listener, trust=LOOPBACK)
        assert len(caplog.messages) == 1


def test_nothing_is_said_where_none_waits(
    connect: Connect, listen: Listen, caplog: pytest.LogCaptureFixture
) -> None:
    with listen("127.0.0.1") as listener:
        listener.listen()
        connect(listener.getsockname(), V4)
        listener.accept()[0].close()
        saved_syn.prepare(listener, trust=LOOPBACK)
        connect(listener.getsockname(), V4)
        with listener.accept()[0] as conn:
            assert saved_syn.client_of(conn) == V4
    assert caplog.messages == []
