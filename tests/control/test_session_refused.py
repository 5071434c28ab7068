# SPDX-License-Identifier: Apache-2.0
"""session.py: every line that is refused, and why."""

import pytest

from tests.clients import CLIENT_V4
from tests.control.talk import WRITE, Talk

CLIENTS = "write 192.0.2.7:50123 or [2001:db8::7]:50123"
NO_CLIENT = f"is no address with a port: {CLIENTS}"
NO_PORT = f"has no port from 1 to 65535: {CLIENTS}"
UNUSABLE = "can't be a client: it needs a unicast address and a port"
INTERFACE = "names an interface: leave out % and what follows"


def say(line: bytes) -> str:
    """The reply to a line of a peer that opened with hello:2."""
    talk = Talk()
    assert talk.receive(b"hello:2\n") == ["ok"]
    [reply] = talk.receive(line + b"\n")
    assert talk.counters["refused"] == len(talk.log) == (reply != "ok")
    if reply != "ok":
        assert reply == f"error: {talk.log[0]}"
        assert not any(talk.memory)
        assert talk.receive(f"add:1:{CLIENT_V4}\n".encode()) == ["ok"]
    return reply


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", f"'' has no colon: {WRITE}"),
        (b"add", f"'add' has no colon: {WRITE}"),
        (b"\x1b[2Jx", f"'\\x1b[2Jx' has no colon: {WRITE}"),
        (b"\xff\xfe:", f"b'\\xff\\xfe:' is not UTF-8: {WRITE}"),
        (b"get:1", f"'get' is not known: {WRITE}"),
        (b"ADD:1:192.0.2.1:1", f"'ADD' is not known: {WRITE}"),
        (b" del:1", f"' del' is not known: {WRITE}"),
        (b"del:1\r\r", "local port '1\\r' is none: write 1 to 65535, such as 40001"),
        (b"quit:", "'quit:' means nothing: write quit:0"),
        (b"quit:1", "'quit:1' means nothing: write quit:0"),
        (b"quit:00", "'quit:00' means nothing: write quit:0"),
        (b"quit:0", "quit:0 is not for user 65534: send it as user 0"),
        *(
            (
                verb % port,
                f"local port {port.decode()!r} is none: write 1 to 65535, such as 40001",
            )
            for verb in (b"del:%s", b"add:%s:192.0.2.1:1")
            for port in (
                *(b"", b"0", b"65536", b"-1", b"+1", b"01", b" 1", b"1 ", b"1_0", b"0x1", b"1e3"),
                *("١".encode(), "²".encode(), b"9" * 60),
            )
        ),
        *(
            (b"add:1:" + client.encode(), f"client {client!r} {reason}")
            for client, reason in [
                ("", NO_CLIENT),
                ("192.0.2.1", NO_CLIENT),
                ("192.0.2.1:", NO_PORT),
                ("192.0.2.1:0", NO_PORT),
                ("192.0.2.1:65536", NO_PORT),
                ("192.0.2.1:080", NO_PORT),
                ("192.0.2.1:-1", NO_PORT),
                ("192.0.2.1:80 ", NO_PORT),
                ("192.0.2.1:80:80", NO_CLIENT),
                ("192.0.2.01:80", NO_CLIENT),
                ("192.0.2.256:80", NO_CLIENT),
                ("192.0.2:80", NO_CLIENT),
                ("3221225985:80", NO_CLIENT),
                ("[192.0.2.1]:80", NO_CLIENT),
                ("2001:db8::1:80", NO_CLIENT),
                ("[2001:db8::1]", NO_CLIENT),
                ("[2001:db8::1]80", NO_CLIENT),
                ("[2001:db8::1]:", NO_PORT),
                ("[2001:db8::1]:0", NO_PORT),
                ("[[2001:db8::1]]:80", NO_CLIENT),
                ("[]:80", NO_CLIENT),
                ("[2001:db8::1/64]:80", NO_CLIENT),
                ("example.org:80", NO_CLIENT),
                ("[fe80::1%eth0]:80", INTERFACE),
                ("[fe80::1%]:80", INTERFACE),
            ]
        ),
        *(
            (b"add:1:" + client.encode(), f"{client} {UNUSABLE}")
            for client in (
                *("0.0.0.0:80", "255.255.255.255:80", "224.0.0.1:80"),
                *("[::]:80", "[ff02::1]:80", "[::ffff:e000:1]:80"),
            )
        ),
        (b"hello:", "'hello:' comes too late: hello is the first line or none"),
        (b"hello:2", "'hello:2' comes too late: hello is the first line or none"),
    ],
)
def test_refused(line: bytes, reason: str) -> None:
    assert say(line) == f"error: {reason}"


@pytest.mark.parametrize("version", ["", "1", "02", "2 ", "x"])
def test_version_refused(version: str) -> None:
    [reply] = Talk().receive(f"hello:{version}\n".encode())
    assert reply == f"error: version {version!r} is not spoken here: open with hello:2"


def test_a_reason_is_no_longer_than_a_terminals_few_lines() -> None:
    for line in (b"x" * 256, b"\xff" * 256, b"del:" + b"9" * 252, b"add:1:" + b"\x01" * 250):
        assert len(say(line)) < 200
