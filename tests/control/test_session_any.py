# SPDX-License-Identifier: Apache-2.0
"""session.py: whatever the bytes, and however they are cut, the outcome is the same."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from cloud_toa.control import Session
from cloud_toa.ports import SIZE, PortTable
from tests.control.talk import NOW

MEMORY = bytearray(SIZE)
# Mostly lines that mean something, whole and cut.
words = st.sampled_from(
    [
        *(b"hello:2\n", b"hello:2\r\n", b"hello:3\n", b"add:", b"del:1\n", b"quit:0\n", b"\n"),
        *(b"add:1:192.0.2.1:80\n", b"add:1:[2001:db8::1]:80\n", b"1:", b"\r", b"x" * 200, b"\xff"),
        *(b"[2001:db8::1]:80", b"192.0.2.1:80", b"[fe80::1%1]:80\n", b"y" * 57, b"::", b"\0"),
    ]
)
streams = st.lists(words | st.binary(max_size=20), max_size=20).map(b"".join)


def chunks(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    ends = sorted(cut % (len(data) + 1) for cut in cuts)
    for start, end in zip([0, *ends], [*ends, len(data)], strict=True):
        yield data[start:end]


@given(streams, st.lists(st.integers(0, 5000), max_size=12), st.booleans(), st.sampled_from([0, 1]))
def test_any_bytes_in_any_pieces(data: bytes, cuts: list[int], hello: bool, uid: int) -> None:
    if hello:
        data = b"hello:2\n" + data
    MEMORY[:144] = bytes(144)
    ways = []
    for pieces in ([data], chunks(data, cuts), (bytes((byte,)) for byte in data)):
        MEMORY[:144] = bytes(144)
        log: list[str] = []
        counters = {"added": 0, "removed": 0, "refused": 0}
        session = Session(
            PortTable(MEMORY),
            (254, 254),
            uid,
            log=log.append,
            counters=counters,
            now=lambda: NOW,
        )
        replies = [reply for piece in pieces for reply in session.receive(piece)]
        session.end()
        ways.append((replies, log, counters, session.quit, bytes(MEMORY[:144])))
    assert ways[0] == ways[1] == ways[2]
    replies, log, counters, quits, _ = ways[0]
    assert all(len(text.splitlines()) == 1 and text.isprintable() for text in replies + log)
    assert len(log) == counters["refused"]
    if quits:
        assert uid == 0
    *lines, rest = data.split(b"\n")
    if data.startswith(b"hello:") and lines:
        assert len(replies) == len(lines) + (len(rest.removesuffix(b"\r")) > 256)
    else:
        assert replies == []
