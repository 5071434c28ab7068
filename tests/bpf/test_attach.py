# SPDX-License-Identifier: Apache-2.0
"""Attaching and detaching: what is asked for, nothing else, and it stays without a process."""

import json
import subprocess
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest

from cloud_toa.bpf import cgroup, edge, origin
from cloud_toa.bpf.datapath import Datapath
from cloud_toa.config import EdgeSettings, Where
from tests.bpf.conftest import MakeCgroup
from tests.bpf.kernel import remove, state, whole
from tests.bpf.loopback import TRUST, marked, unmarked
from tests.cli.command import call, spawn
from tests.netns.traffic import wait_until


def test_connections_are_marked_and_read_when_every_process_of_ours_is_gone(
    balancers: Path, servers: Path
) -> None:
    mark = f"ATTACHED_BY={uuid4()}"
    for command in (
        ("origin", "attach", "--cgroup", str(servers), "--trust", *TRUST),
        ("edge", "attach", "--cgroup", str(balancers)),
    ):
        assert spawn(*command, before=("env", mark)).code == 0

    with subprocess.Popen(["env", mark, "sleep", "infinity"]) as sleeper:
        wait_until(lambda: _with(mark) == {sleeper.pid})
        sleeper.kill()
    assert _with(mark) == set()
    assert marked(balancers, servers)


def _with(mark: str) -> set[int]:
    """Processes that have this in their environment."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if mark.encode() in (process / "environ").read_bytes().split(b"\0"):
                found.add(int(process.name))
    return found


def test_detach_ends_it(balancers: Path, servers: Path) -> None:
    call("origin", "attach", "--cgroup", str(servers), "--trust", *TRUST)
    call("edge", "attach", "--cgroup", str(balancers))
    assert call("edge", "detach").out == f"edge: detached from {balancers}\n"
    assert call("origin", "detach").out == f"origin: detached from {servers}\n"
    assert unmarked(balancers, servers)
    assert whole(edge.DATAPATH, [], [balancers])
    assert whole(origin.DATAPATH, [], [servers])


@pytest.mark.parametrize(
    ("datapath", "settings"),
    [
        (edge.DATAPATH, ["--option-type-v4", "200", "--where", "syn,ack"]),
        (origin.DATAPATH, ["--trust", "192.0.2.0/24", "2001:db8::/32", "--kinds-v4", "254,200"]),
    ],
    ids=["edge", "origin"],
)
def test_attaching_twice_changes_nothing_and_says_so(
    make_cgroup: MakeCgroup, datapath: Datapath, settings: list[str]
) -> None:
    place = make_cgroup("place")
    attach = [datapath.name, "attach", "--cgroup", str(place), *settings]
    first = call(*attach)
    assert (first.code, first.out) == (0, f"{datapath.name}: attached to {place}\n")
    before = state(datapath, place)
    second = spawn(*attach)
    assert (second.code, second.err) == (0, "")
    assert second.out == f"{datapath.name}: already attached so, nothing changed: {place}\n"
    assert state(datapath, place) == before


def test_one_cgroup_named_in_two_ways_is_one(balancers: Path) -> None:
    said = call("edge", "attach", "--cgroup", str(balancers), "--cgroup", f"/{balancers.name}")
    assert said.out == f"edge: attached to {balancers}\n"
    assert whole(edge.DATAPATH, [balancers], [])


def test_other_settings_replace_the_programs(balancers: Path, servers: Path) -> None:
    call("origin", "attach", "--cgroup", str(servers), "--trust", *TRUST, "--kinds-v4", "254,200")
    call("edge", "attach", "--cgroup", str(balancers))
    said = call("edge", "attach", "--cgroup", str(balancers), "--option-type-v4", "200")
    assert said.out == "edge: running programs replaced by ones with these settings, everywhere\n"
    status = edge.status()
    assert status is not None
    assert status.settings == EdgeSettings(200, 254, Where.SYN | Where.ACK | Where.DATA)
    assert whole(edge.DATAPATH, [balancers], [])
    assert marked(balancers, servers)


def test_counters_survive_an_exchange(balancers: Path, servers: Path) -> None:
    call("origin", "attach", "--cgroup", str(servers), "--trust", *TRUST)
    call("edge", "attach", "--cgroup", str(balancers))
    assert marked(balancers, servers)
    call("edge", "attach", "--cgroup", str(balancers), "--option-type-v6", "253")
    status = edge.status()
    assert status is not None
    assert status.counters["connections"] == 2


def test_several_cgroups_and_detaching_one(make_cgroup: MakeCgroup, servers: Path) -> None:
    call("origin", "attach", "--cgroup", str(servers), "--trust", *TRUST)
    one, two, three = (make_cgroup(name) for name in ("one", "two", "three"))
    said = call("edge", "attach", "--cgroup", str(one), "--cgroup", str(two))
    assert said.out == f"edge: attached to {one}\nedge: attached to {two}\n"
    assert whole(edge.DATAPATH, [one, two], [three])

    assert call("edge", "attach", "--cgroup", str(three)).out == f"edge: attached to {three}\n"
    assert whole(edge.DATAPATH, [one, two, three], [])
    assert all(marked(place, servers) for place in (one, two, three))

    said = call("edge", "detach", "--cgroup", str(two))
    assert said.out == f"edge: detached from {two}\n"
    assert whole(edge.DATAPATH, [one, three], [two])
    assert marked(one, servers)
    assert unmarked(two, servers)
    assert call("edge", "detach", "--cgroup", str(two)).out == (
        "edge: was not attached, nothing changed\n"
    )


@pytest.mark.parametrize(("attached", "asked"), [("outer", "inner"), ("inner", "outer")])
def test_a_cgroup_inside_an_attached_one_is_refused(
    make_cgroup: MakeCgroup, attached: str, asked: str
) -> None:
    places = {"outer": make_cgroup("outer"), "inner": make_cgroup("outer/inner")}
    call("edge", "attach", "--cgroup", str(places[attached]))
    before = state(edge.DATAPATH, *places.values())
    said = call("edge", "attach", "--cgroup", str(places[asked]), "--option-type-v4", "200")
    assert (said.code, said.out) == (2, "")
    assert said.err == (
        f"cloud-toa: {places['inner']} lies inside {places['outer']}, where programs would run "
        f"twice: first cloud-toa edge detach --cgroup {places[attached]}\n"
    )
    assert state(edge.DATAPATH, *places.values()) == before


def test_two_nested_cgroups_in_one_command_are_refused(make_cgroup: MakeCgroup) -> None:
    outer, inner = make_cgroup("outer"), make_cgroup("outer/inner")
    said = call("edge", "attach", "--cgroup", str(inner), "--cgroup", str(outer))
    assert (said.code, said.out) == (2, "")
    assert said.err == (
        f"cloud-toa: {inner} lies inside {outer}, where programs would run twice: "
        "attach one of the two\n"
    )
    assert whole(edge.DATAPATH, [], [outer, inner])


def test_a_removed_cgroup_shows_in_status_and_detach_forgets_it(
    make_cgroup: MakeCgroup, balancers: Path
) -> None:
    gone = make_cgroup("gone")
    call("edge", "attach", "--cgroup", str(balancers), "--cgroup", str(gone))
    gone.rmdir()
    status = edge.status()
    assert status is not None
    assert set(status.cgroups) == {balancers, None}
    shown = call("edge", "status").out
    assert f"removed (detach forgets it): {gone}\n" in shown
    assert "warning" not in shown
    said = call("edge", "detach")
    assert set(said.out.splitlines()) == {
        f"edge: detached from {balancers}",
        "edge: detached from a cgroup that was removed",
    }
    assert whole(edge.DATAPATH, [], [balancers])


@pytest.mark.parametrize("datapath", ["edge", "origin"])
def test_a_removed_cgroup_whose_name_another_one_has_is_warned_of(
    datapath: str, make_cgroup: MakeCgroup, balancers: Path
) -> None:
    attach = (datapath, "attach", *(("--trust", *TRUST) if datapath == "origin" else ()))
    gone = make_cgroup("gone")
    assert call(*attach, "--cgroup", str(balancers), "--cgroup", str(gone)).code == 0
    remove(gone)
    gone.mkdir()
    shown = json.loads(call(datapath, "status", "--json").out)
    assert set(shown["cgroups"]) == {str(balancers), None}
    assert shown["removed"] == [{"path": str(gone), "again": True}]
    (line,) = [
        line for line in call(datapath, "status").out.splitlines() if line.startswith("  warning")
    ]
    assert "another cgroup has that name now, as after a restart, and no programs" in line
    assert "slice or parent above it" in line
    assert call(*attach, "--cgroup", str(gone)).code == 0
    shown = json.loads(call(datapath, "status", "--json").out)
    assert shown["removed"] == []
    assert set(shown["cgroups"]) == {str(balancers), str(gone)}
    call(datapath, "detach")
    assert not list(Path("/sys/fs/bpf/cloud-toa").glob("*-paths"))


def test_a_name_that_was_not_kept_is_not_known(make_cgroup: MakeCgroup, balancers: Path) -> None:
    """As of what an earlier version attached; the next attach keeps the names of all."""
    gone = make_cgroup("gone")
    attach = ("edge", "attach", "--cgroup", str(balancers))
    assert call(*attach, "--cgroup", str(gone)).code == 0
    paths = Path("/sys/fs/bpf/cloud-toa/edge-paths")
    for path in paths.iterdir():
        path.unlink()
    assert call(*attach).code == 0
    assert sorted(path.readlink() for path in paths.iterdir()) == sorted([balancers, gone])
    for path in paths.iterdir():
        path.unlink()
    gone.rmdir()
    assert "removed (detach forgets it): name not known\n" in call("edge", "status").out


@pytest.mark.parametrize("name", [f"docker-{'0a' * 32}.scope", "0a" * 32])
def test_a_container_s_cgroup_is_told_of(make_cgroup: MakeCgroup, name: str) -> None:
    place = make_cgroup("parent")
    path = place / name
    path.mkdir()
    try:
        said = call("edge", "attach", "--cgroup", str(path))
        assert said.code == 0
        assert "attach to the slice or parent above it" in said.out
        call("edge", "detach")
        assert "parent above" not in call("edge", "attach", "--cgroup", str(place)).out
    finally:
        call("edge", "detach")
        path.rmdir()


def test_attach_forgets_a_removed_cgroup_and_goes_on(
    make_cgroup: MakeCgroup, balancers: Path, servers: Path
) -> None:
    gone = make_cgroup("gone")
    kinds = ("--kinds-v6", "254,253")
    call("origin", "attach", "--cgroup", str(servers), "--trust", *TRUST, *kinds)
    call("edge", "attach", "--cgroup", str(gone))
    remove(gone)
    assert call("edge", "attach", "--cgroup", str(balancers), "--option-type-v6", "253").code == 0
    status = edge.status()
    assert status is not None
    assert status.settings.option_type_v6 == 253
    assert status.cgroups == (balancers,)
    assert whole(edge.DATAPATH, [balancers], [])
    assert marked(balancers, servers)


def test_a_cgroup_made_again_is_attached_again(
    make_cgroup: MakeCgroup, balancers: Path, servers: Path
) -> None:
    """As a systemd unit's is at every restart."""
    call("origin", "attach", "--cgroup", str(servers), "--trust", *TRUST)
    attach = ("edge", "attach", "--cgroup", str(balancers))
    call(*attach)
    remove(balancers)
    balancers.mkdir()
    assert call(*attach).out == f"edge: attached to {balancers}\n"
    assert whole(edge.DATAPATH, [balancers], [])
    assert marked(balancers, servers)


def test_no_cgroup_of_ours_is_the_root(balancers: Path) -> None:
    """What the other tests rest on: nothing runs for everyone."""
    call("edge", "attach", "--cgroup", str(balancers))
    assert whole(edge.DATAPATH, [balancers], [cgroup.root()])
