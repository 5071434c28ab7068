# SPDX-License-Identifier: Apache-2.0
"""corrections.py: what is told comes into its own line, and no other is touched."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_toa.balancer import corrections
from cloud_toa.balancer.corrections import Correction, Corrections

Ends = tuple[str, int, str, int]
ENDS: Ends = ("203.0.113.9", 4321, "10.9.0.2", 7000)
ENDS6: Ends = ("2001:db8::9", 4321, "fd09::2", 7000)


def line(ends: Ends = ENDS, where: str = "syn,ack,data", why_not: str = "-", **more: Any) -> bytes:
    """As `log_line` has it, in the part that counts."""
    client, client_port, origin, origin_port = ends
    fields = {
        "service": "web",
        "origin": "-",
        "listener": "10.8.0.1",
        "listener_port": "80",
        "client": client,
        "client_port": str(client_port),
        "origin_address": origin,
        "origin_port": str(origin_port),
        "toa": where,
        "toa_why_not": why_not,
        "server_name": "-",
        "ms": 1,
        **more,
    }
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def told(ends: Ends = ENDS, where: str = "ack", why_not: str = "no_room") -> Correction:
    return Correction(*ends, where, why_not)


def test_lines_that_nothing_is_known_of_are_the_same_ones() -> None:
    lines = b"".join(map(line, (ENDS, ENDS6)))
    assert Corrections().apply(lines, [], 0) is lines


@pytest.mark.parametrize("ends", [ENDS, ENDS6])
def test_its_own_line(ends: Ends) -> None:
    others = [
        line((*ends[:at], other, *ends[at + 1 :]))  # type: ignore[arg-type]
        for at, other in enumerate(("203.0.113.99", 432, "10.9.0.22", 700))
    ]
    before, after = b"".join(others), b"[WARNING] (1) : x\n" + others[0]
    found = Corrections().apply(before + line(ends) + after, [told(ends)], 0)
    assert found == before + line(ends, "ack", "no_room") + after


def test_once_and_later() -> None:
    log = Corrections()
    assert log.apply(line(ENDS6), [told()], 0) == line(ENDS6)
    assert log.apply(line(), [], 1) == line(ENDS, "ack", "no_room")
    assert log.apply(line(), [], 2) == line()


def test_two_lines_of_the_same_ends() -> None:
    log = Corrections()
    assert log.apply(line() * 2, [told()], 0) == line(ENDS, "ack", "no_room") + line()
    # The newer word counts: the older one's line has been lost.
    both = [told(where="syn", why_not="-"), told()]
    assert log.apply(line() * 2, both, 0) == line(ENDS, "ack", "no_room") + line()


def test_what_finds_no_line_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Corrections()
    log.apply(b"", [told()], 0)
    log.apply(b"", [told(ENDS6)], 1)
    until = corrections._PATIENCE
    both = line() + line(ENDS6)
    assert log.apply(both, [], until) == line() + line(ENDS6, "ack", "no_room")
    monkeypatch.setattr(corrections, "_MOST", 3)
    many = [("203.0.113.9", port, "10.9.0.2", 7000) for port in range(1, 7)]
    found = log.apply(b"".join(map(line, many)), map(told, many), 0)
    assert found == b"".join(map(line, many[:3])) + b"".join(
        line(ends, "ack", "no_room") for ends in many[3:]
    )


def test_when_some_were_lost() -> None:
    """Nothing is claimed of these and the next lines but what is known."""
    log = Corrections()
    off, none = line(ENDS6, "-", "off"), line(ENDS6, "-")
    unknown = line(ENDS6, "unknown", "not_told")
    lines = line() + line(ENDS6) + off + none
    found = log.apply(lines, [told()], 0, lost=True)
    assert found == line(ENDS, "ack", "no_room") + unknown + off + none
    assert log.apply(line(ENDS6), [], 1) == unknown
    assert log.apply(line(ENDS6), [], 2) == line(ENDS6)


@given(st.text())
def test_what_clients_say_is_no_line(said: str) -> None:
    """A server name is JSON within JSON, and stands behind what counts."""
    name = said + line().decode()
    lines = line(ENDS6, server_name=name)
    assert Corrections().apply(lines, [told()], 0) == lines
    assert Corrections().apply(lines, [told(ENDS6)], 0) == line(
        ENDS6, "ack", "no_room", server_name=name
    )


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 5)), max_size=60))
def test_however_many(steps: list[tuple[int, int]]) -> None:
    """Against the same thing said line by line."""
    log, waiting = Corrections(), set[int]()
    for port, count in steps:
        ports = [port + at for at in range(count)]
        found = log.apply(
            b"".join(line((*ENDS[:1], each, *ENDS[2:])) for each in ports),
            [told((*ENDS[:1], port, *ENDS[2:]))],
            0,
        )
        waiting.add(port)
        for text, each in zip(found.splitlines(), ports, strict=True):
            assert (json.loads(text)["toa"] == "ack") == (each in waiting)
            waiting.discard(each)
