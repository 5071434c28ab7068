# SPDX-License-Identifier: Apache-2.0
"""What the command line refuses: exit code 2, one line with the value and the remedy, no change."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_toa.bpf import cgroup, edge, origin
from cloud_toa.isolation import run
from tests.bpf.conftest import MakeCgroup, make_cgroup
from tests.cli.command import Said, call, spawn

__all__ = ["make_cgroup"]

TRUST = ["--trust", "192.0.2.0/24"]


@pytest.fixture(scope="module")
def cgroup_v1(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A named hierarchy without a controller, which any host can mount."""
    place = tmp_path_factory.mktemp("v1")
    run("mount", "-t", "cgroup", "-o", "none,name=cloud-toa-test", "none", str(place))
    yield place
    run("umount", str(place))


@pytest.fixture
def place(make_cgroup: MakeCgroup) -> Path:
    return make_cgroup("place")


@pytest.fixture
def attached(make_cgroup: MakeCgroup) -> None:
    """Something runs already, which no refusal may touch."""
    there = str(make_cgroup("there"))
    assert call("edge", "attach", "--cgroup", there, "--option-type-v4", "200").code == 0
    assert call("origin", "attach", "--cgroup", there, "--trust", "any").code == 0


def status() -> list[str]:
    return [call(datapath, "status", "--json").out for datapath in ("edge", "origin")]


def refused(said: Said, *words: str) -> None:
    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith("cloud-toa")
    assert said.err.count("\n") == 1
    assert said.err.endswith("\n")
    for word in words:
        assert word in said.err


@pytest.mark.usefixtures("attached")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--option-type-v4", "256"], ["256", "0 to 255"]),
        (["--option-type-v6", "-1"], ["-1", "0 to 255"]),
        (["--option-type-v4", "8"], ["8", "Timestamps", "254"]),
        (["--option-type-v6", "34"], ["34", "Fast Open", "254"]),
        (["--option-type-v4", "x"], ["'x'", "0 to 255"]),
        (["--option-type-v4", "0xfe"], ["'0xfe'", "0 to 255"]),
        (["--option-type-v4", ""], ["''", "0 to 255"]),
        (["--where", "syn,fin"], ["'fin'", "syn,ack,data"]),
        (["--where", ""], ["syn,ack,data"]),
        (["--origin", ""], ["empty", "any"]),
        (["--origin", "origin.example:80"], ["'origin.example:80'", "host name", "address"]),
        (["--origin", "192.0.2.7", "--origin", "192.0.2.8:0"], ["'192.0.2.8:0'", "1 to 65535"]),
        (["--origin", "192.0.2.7/24"], ["'192.0.2.7/24'", "192.0.2.0/24"]),
        (["--origin", "any", "--origin", "192.0.2.7"], ["'any'", "leave the other"]),
        (["--origin", "0.0.0.0/0"], ["'0.0.0.0/0'", "any"]),
        (["--speed", "1"], ["--speed", "--help"]),
        (["--option-type-v4"], ["--option-type-v4", "--help"]),
    ],
    ids=" ".join,
)
def test_edge_settings(place: Path, arguments: list[str], words: list[str]) -> None:
    before = status()
    refused(call("edge", "attach", "--cgroup", str(place), *arguments), *words)
    assert status() == before


@pytest.mark.usefixtures("attached")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--trust", "--help"]),
        (["--trust"], ["--trust", "--help"]),
        (["--trust", ""], ["empty", "any"]),
        (["--trust", "edge.example"], ["'edge.example'", "CIDR"]),
        (["--trust", "192.0.2.0/33"], ["'192.0.2.0/33'", "CIDR"]),
        (["--trust", "192.0.2.7", "nonsense"], ["'nonsense'", "CIDR"]),
        (["--trust", "192.0.2.7/24"], ["'192.0.2.7/24'", "192.0.2.0/24"]),
        (["--trust", "2001:db8::1/32"], ["'2001:db8::1/32'", "2001:db8::/32"]),
        (["--trust", "any", "192.0.2.7"], ["'any'", "leave the other"]),
        (["--trust", "0.0.0.0/0"], ["'0.0.0.0/0'", "any"]),
        (["--trust", "::/0"], ["'::/0'", "any"]),
        ([*TRUST, "--kinds-v4", "254,300"], ["300", "0 to 255"]),
        ([*TRUST, "--kinds-v6", "5"], ["5", "SACK", "254"]),
        ([*TRUST, "--kinds-client-ip", "two"], ["'two'", "0 to 255"]),
        (["--trust", "any", "--chain"], ["--chain", "edges by address", "--trust any"]),
    ],
    ids=" ".join,
)
def test_origin_settings(place: Path, arguments: list[str], words: list[str]) -> None:
    before = status()
    refused(call("origin", "attach", "--cgroup", str(place), *arguments), *words)
    assert status() == before


@pytest.mark.usefixtures("attached")
@pytest.mark.parametrize("attach", [["edge", "attach"], ["origin", "attach", *TRUST]])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/no/such", ["'/no/such'", "nginx.service"]),
        ("", ["''", "nginx.service"]),
        (".", ["'.'", "nginx.service"]),
        ("/etc", ["'/etc'", "nginx.service"]),
        ("/etc/passwd", ["'/etc/passwd'", "nginx.service"]),
        ("no-such.service", ["no-such.service", "systemctl status no-such.service"]),
    ],
)
def test_unknown_cgroups(attach: list[str], name: str, words: list[str]) -> None:
    before = status()
    refused(call(*attach, "--cgroup", name), *words)
    refused(call(attach[0], "detach", "--cgroup", name), *words)
    assert status() == before


@pytest.mark.usefixtures("attached")
@pytest.mark.parametrize("attach", [["edge", "attach"], ["origin", "attach", *TRUST]])
def test_a_cgroup_of_version_1(attach: list[str], cgroup_v1: Path) -> None:
    before = status()
    said = call(*attach, "--cgroup", str(cgroup_v1))
    refused(said, str(cgroup_v1), "version 1", str(cgroup.root()))
    assert status() == before


def test_one_bad_cgroup_of_two(place: Path) -> None:
    refused(call("edge", "attach", "--cgroup", str(place), "--cgroup", "/no/such"), "'/no/such'")
    assert edge.status() is None


def test_no_cgroup_for_the_edge() -> None:
    refused(call("edge", "attach"), "--cgroup", "--help")
    assert edge.status() is None


def test_a_unit_is_found_by_its_name(make_cgroup: MakeCgroup) -> None:
    unit = f"cloud-toa-{os.getpid()}.service"
    place = make_cgroup("slice") / unit
    place.mkdir()
    try:
        said = call("edge", "attach", "--cgroup", unit)
        assert said.code == 0
        assert said.out.splitlines()[0] == f"edge: attached to {place}"
        assert "ExecStartPre=+" in said.out
        assert call("edge", "detach", "--cgroup", unit).out == f"edge: detached from {place}\n"
    finally:
        edge.detach()
        place.rmdir()


def test_a_unit_with_several_cgroups(make_cgroup: MakeCgroup) -> None:
    unit = f"cloud-toa-{os.getpid()}.service"
    places = [make_cgroup(name) / unit for name in ("one", "two")]
    for place in places:
        place.mkdir()
    try:
        refused(call("edge", "attach", "--cgroup", unit), unit, "name one", *map(str, places))
        assert edge.status() is None
    finally:
        for place in places:
            place.rmdir()


@pytest.mark.parametrize(
    "action",
    [["edge", "attach"], ["edge", "detach"], ["origin", "attach", *TRUST], ["origin", "status"]],
    ids=lambda action: " ".join(action[:2]),
)
def test_not_root(place: Path, action: list[str]) -> None:
    where = ["--cgroup", str(place)] if "attach" in action else []
    refused(_unprivileged(*action, *where), "root", "sudo")
    assert edge.status() is None
    assert origin.status() is None


def test_the_demo_without_root() -> None:
    refused(_unprivileged("demo"), "root", "sudo")


def _unprivileged(*arguments: str) -> Said:
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    return spawn(*arguments, before=tuple(nobody))


@pytest.mark.parametrize("action", [["edge", "attach"], ["origin", "attach", *TRUST]])
def test_bpffs_that_is_not_mounted(place: Path, action: list[str]) -> None:
    without = 'while umount /sys/fs/bpf 2>/dev/null; do :; done; exec "$@"'
    before = ("unshare", "--mount", "sh", "-c", without, "sh")
    said = spawn(*action, "--cgroup", str(place), before=before)
    refused(said, "bpffs is not mounted", "mount -t bpf bpf /sys/fs/bpf")


@pytest.mark.parametrize("datapath", ["edge", "origin"])
def test_nothing_attached(datapath: str) -> None:
    assert call(datapath, "status") == Said(1, f"{datapath}: not attached\n", "")
    assert call(datapath, "status", "--json") == Said(1, '{"attached": false}\n', "")
    gone = f"{datapath}: was not attached, nothing changed\n"
    assert call(datapath, "detach") == Said(0, gone, "")
    assert call(datapath, "detach", "--cgroup", "/") == Said(0, gone, "")


@pytest.mark.parametrize(
    ("attach", "settings", "counters"),
    [
        (
            ["edge", "attach", "--option-type-v4", "200", "--where", "ack,syn"],
            {
                "option_type_v4": 200,
                "option_type_v6": 254,
                "where": "syn,ack",
                "no_port": "connection",
                "refuse_elsewhere": False,
                "origins": ["any"],
                "control": False,
            },
            edge.COUNTERS,
        ),
        (
            [
                *("edge", "attach", "--origin", "2001:db8::/32,192.0.2.7:443"),
                *("--origin", "192.0.2.7", "--origin", "[2001:db8::1]:80"),
            ],
            {
                "option_type_v4": 254,
                "option_type_v6": 254,
                "where": "syn,ack,data",
                "no_port": "connection",
                "refuse_elsewhere": False,
                "origins": ["192.0.2.7", "192.0.2.7:443", "2001:db8::/32", "[2001:db8::1]:80"],
                "control": False,
            },
            edge.COUNTERS,
        ),
        (
            [
                *("origin", "attach", "--trust", "2001:db8::/32", "192.0.2.7", "--save-syn"),
                *("--kinds-v4", "254,200", "--kinds-client-ip", "28", "--chain"),
            ],
            {
                "trust": ["192.0.2.7/32", "2001:db8::/32"],
                "kinds_v4": [254, 200],
                "kinds_v6": [254],
                "kinds_client_ip": [28],
                "save_syn": True,
                "chain": True,
            },
            origin.COUNTERS,
        ),
    ],
    ids=["edge", "edge with origins", "origin"],
)
def test_status(
    place: Path, attach: list[str], settings: dict[str, object], counters: tuple[str, ...]
) -> None:
    assert call(*attach, "--cgroup", str(place)).code == 0
    said = call(attach[0], "status", "--json")
    assert (said.code, said.err) == (0, "")
    shown = json.loads(said.out)
    assert set(shown) == {
        "datapath", "attached", "settings", "cgroups", "removed", "counters", "programs", "others",
    }  # fmt: skip
    assert shown["removed"] == []
    assert (shown["datapath"], shown["attached"]) == ("bpf", True)
    assert shown["settings"] == settings
    assert shown["cgroups"] == [str(place)]
    assert shown["counters"] == dict.fromkeys(counters, 0)
    assert [set(program) for program in shown["programs"]] == [{"name", "runs", "run_time_ns"}] * 4

    lines = call(attach[0], "status").out.splitlines()
    assert lines[0] == f"{attach[0]}: attached"
    assert lines[1].split() == ["cgroup", str(place)]
    assert {line.split()[0] for line in lines} >= {name.replace("_", "-") for name in settings}
    assert {line.split()[0] for line in lines} >= set(counters)
