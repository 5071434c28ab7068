# SPDX-License-Identifier: Apache-2.0
"""Programs of others at our hooks: what `status` and `doctor` say of them."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cloud_toa.bpf import edge, origin, others
from cloud_toa.bpf.others import Turn
from cloud_toa.bpf.pinned import Pinned
from cloud_toa.config import EdgeSettings, OriginSettings
from cloud_toa.trust import Trust
from tests.bpf.conftest import MakeCgroup
from tests.cli.command import spawn
from tests.netns.foreign import (
    GETSOCKOPT,
    PEERNAME4,
    SETSOCKOPT,
    SOCKOPS,
    attached,
    attached_without_link,
)

RECEIVER = OriginSettings(Trust.parse(["192.0.2.1"]))


@pytest.fixture
def nested(make_cgroup: MakeCgroup) -> Iterator[tuple[Path, Path, Path]]:
    """Three cgroups, each inside the one before."""
    top = make_cgroup("top")
    middle = top / "middle"
    inner = middle / "inner"
    inner.mkdir(parents=True)
    yield top, middle, inner
    edge.detach()
    origin.detach()
    inner.rmdir()
    middle.rmdir()


def found(datapath: str, hook: str = "sockops") -> set[tuple[str, Path | None, Turn, bool]]:
    """Of the programs of this test: name, cgroup, turn, and whether a link holds it."""
    pinned = Pinned(edge.DATAPATH if datapath == "edge" else origin.DATAPATH)
    return {
        (other.name, other.cgroup, other.turn, other.linked)
        for other in others.beside(pinned)
        if other.hook == hook and other.name.startswith("f_")
    }


@pytest.mark.parametrize("datapath", ["edge", "origin"])
def test_where_they_are_and_whose_turn_is_first(
    nested: tuple[Path, Path, Path], datapath: str
) -> None:
    top, middle, inner = nested
    with ExitStack() as programs:
        programs.enter_context(attached(top, SOCKOPS, name="f_top"))
        programs.enter_context(attached_without_link(middle, SOCKOPS, name="f_first"))
        if datapath == "edge":
            edge.attach([middle], EdgeSettings())
        else:
            origin.attach([middle], RECEIVER)
        programs.enter_context(attached(middle, SOCKOPS, name="f_last"))
        programs.enter_context(attached_without_link(inner, SOCKOPS, name="f_inner"))
        assert found(datapath) == {
            ("f_top", top, Turn.AFTER, True),
            ("f_first", middle, Turn.BEFORE, False),
            ("f_last", middle, Turn.AFTER, True),
            ("f_inner", inner, Turn.BELOW, False),
        }
    assert found(datapath) == set()


def test_each_hook_of_ours(balancers: Path, servers: Path) -> None:
    edge.attach([balancers], EdgeSettings())
    origin.attach([servers], RECEIVER)
    with ExitStack() as programs:
        for place, hook in (
            (balancers, SETSOCKOPT),
            (servers, GETSOCKOPT),
            (servers, PEERNAME4),
        ):
            programs.enter_context(attached(place, hook, name=f"f_{hook}"))
        after = (Turn.AFTER, True)
        assert found("edge", "cgroup/setsockopt") == {("f_22", balancers, *after)}
        assert found("origin", "cgroup/getsockopt") == {("f_21", servers, *after)}
        assert found("origin", "cgroup/getpeername4") == {("f_29", servers, *after)}


def test_status_names_them(balancers: Path, servers: Path) -> None:
    edge.attach([balancers], EdgeSettings())
    origin.attach([servers], RECEIVER)
    for datapath, place in (("edge", balancers), ("origin", servers)):
        with attached_without_link(place, SOCKOPS, name="f_rival"):
            said = spawn(datapath, "status").out
            assert "f_rival (id" in said
            assert f"on {place}, after ours, without a link" in said
            told = json.loads(spawn(datapath, "status", "--json").out)["others"]
        (one,) = (other for other in told if other["name"] == "f_rival")
        assert (one["hook"], one["cgroup"]) == ("sockops", str(place))
        assert (one["turn"], one["linked"]) == ("after", False)
        assert "f_rival" not in spawn(datapath, "status").out


def test_doctor_names_another_receiver_and_not_ours(servers: Path) -> None:
    origin.attach([servers], RECEIVER)
    with attached(servers, PEERNAME4, name="f_peer4"):
        said = spawn("doctor", "origin").out
    (line,) = (line for line in said.splitlines() if "  other programs  " in line)
    assert "cgroup/getpeername4 f_peer4 (id" in line
    assert f"on {servers}, perhaps another receiver" in line
    ours = [f"(id {info.id})" for info in Pinned(origin.DATAPATH).programs()]
    assert ours
    assert not [one for one in ours if one in line]
