# SPDX-License-Identifier: Apache-2.0
"""session.py: what is executed, and what a peer is answered."""

import os

import pytest

from cloud_toa.option import Client, encode
from tests.clients import CLIENT_V4, CLIENT_V6
from tests.control.talk import NOW, WRITE, Talk

V4 = encode(CLIENT_V4)


@pytest.mark.parametrize(
    ("text", "client"),
    [
        (str(CLIENT_V4), CLIENT_V4),
        (str(CLIENT_V6), CLIENT_V6),
        ("[::ffff:203.0.113.222]:37709", CLIENT_V4),
        ("203.0.113.222:1", CLIENT_V4._replace(port=1)),
        ("[2001:DB8::EC99:108D:DB5B:5FAB]:65535", CLIENT_V6._replace(port=65535)),
    ],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_add(text: str, client: Client, ending: str) -> None:
    talk = Talk(kinds=(200, 253))
    assert talk.receive(f"hello:2{ending}add:40001:{text}{ending}".encode()) == ["ok", "ok"]
    assert talk.take(40001, isn=None) == b""
    assert talk.take(40001) == encode(client, 200, 253)
    assert talk.counters == {"added": 1, "removed": 0, "refused": 0}
    assert talk.memory[45] == 0


def test_an_entry_of_a_peer_without_hello_is_late_and_unanswered() -> None:
    talk = Talk()
    assert talk.receive(f"add:40001:{CLIENT_V4}\ndel:40002\nnonsense\n".encode()) == []
    assert talk.memory[45] == 1
    assert talk.take(40001) == V4
    assert talk.counters == {"added": 1, "removed": 0, "refused": 1}


def test_an_entry_that_may_have_been_written_before_a_syn_is_for_that_one() -> None:
    talk = Talk()
    assert talk.take(40001, isn=1) == b""
    assert talk.receive(f"add:40001:{CLIENT_V4}\n".encode(), (NOW - 1, NOW)) == []
    assert talk.take(40001, isn=2) == b""
    assert talk.receive(f"add:40001:{CLIENT_V4}\n".encode(), (NOW + 10**11, NOW + 10**11)) == []
    assert talk.take(40001, isn=3) == V4


def test_a_peer_of_another_version_is_answered_and_its_entries_are_late() -> None:
    talk = Talk()
    assert talk.receive(f"hello:3\nadd:40001:{CLIENT_V4}\n".encode()) == [
        "error: version '3' is not spoken here: open with hello:2",
        "ok",
    ]
    assert talk.memory[45] == 1
    assert talk.take(40001) == V4


def test_hello_is_the_first_line_or_none() -> None:
    talk = Talk()
    assert talk.receive(b"del:1\nhello:2\ndel:1\n") == []
    assert talk.log == ["'hello:2' comes too late: hello is the first line or none"]


def test_del() -> None:
    talk = Talk()
    assert talk.receive(f"hello:2\nadd:40001:{CLIENT_V4}\n".encode()) == ["ok", "ok"]
    assert talk.receive(b"del:40001\ndel:40001\ndel:40002\n") == ["ok"] * 3
    assert talk.take(40001) == b""
    assert talk.counters == {"added": 1, "removed": 1, "refused": 0}


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_longest_line(ending: bytes) -> None:
    talk = Talk()
    talk.receive(b"hello:2\n")
    assert talk.receive(b"x" * 256 + ending) == [f"error: {'x' * 256!r:.99} has no colon: {WRITE}"]
    too_long = f"error: {b'x' * 40!r} begins a line of more than 256 bytes: {WRITE}"
    assert talk.receive(b"x" * 257 + ending) == [too_long]
    assert talk.receive(b"x" * 256 + b"\r") == []
    assert talk.receive(b"y") == [too_long]
    assert talk.receive(b"add:1:192.0.2.1:1" * 1000) == []
    assert talk.receive(ending + b"del:1" + ending) == ["ok"]
    assert talk.counters["added"] == 0


def test_half_a_line_is_not_executed() -> None:
    talk = Talk()
    talk.receive(b"hello:2\nadd:40001:192.0.2.1:56")
    talk.end()
    talk.end()
    assert not any(talk.memory)
    assert talk.log == ["b'add:40001:192.0.2.1:56' has no newline: it was not executed"]
    assert talk.counters["refused"] == 1


def test_nothing_is_logged_for_a_peer_that_ends_well() -> None:
    talk = Talk()
    talk.receive(b"hello:2\ndel:1\n")
    talk.end()
    assert talk.log == []


@pytest.mark.parametrize("uid", [0, os.geteuid()])
def test_quit(uid: int) -> None:
    talk = Talk(uid)
    assert talk.receive(b"hello:2\n") == ["ok"]
    assert not talk.quit
    assert talk.receive(b"quit:0\n") == ["ok"]
    assert talk.quit


def test_quit_is_for_the_servers_own_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    own, other, root = Talk(1000), Talk(1001), Talk(0)
    for talk in (own, other, root):
        assert talk.receive(b"quit:0\n") == []
    assert (own.quit, other.quit, root.quit) == (True, False, True)
    assert other.log == ["quit:0 is not for user 1001: send it as user 0 or 1000"]
