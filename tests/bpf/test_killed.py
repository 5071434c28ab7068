# SPDX-License-Identifier: Apache-2.0
"""A command killed at any moment harms nobody, and run again it ends in what was asked for.

strace kills the real command at a chosen system call, before the kernel has done it:
once at the first, and at every one that changes something. Between two of these the
state is the same.
"""

import re
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloud_toa.bpf import edge, origin
from cloud_toa.bpf.attachment import Attachments, Datapath
from cloud_toa.config import EdgeSettings, OriginSettings
from cloud_toa.option import Kinds
from cloud_toa.trust import Trust
from tests.bpf.conftest import MakeCgroup
from tests.bpf.kernel import Variant, variant, whole
from tests.bpf.loopback import TRUST, plain_visit, transparent_routing, visit
from tests.cli.command import CLI, call

# Older processors have mkdir, unlink and rmdir, newer ones the calls ending in "at" alone.
CALLS = ("bpf", "mkdir", "mkdirat", "unlink", "unlinkat", "rmdir")
CHANGE = re.compile(r"BPF_LINK_|BPF_OBJ_PIN|(?:mkdir|unlink|rmdir).* = 0$")


@dataclass(frozen=True)
class Point:
    """One of a command's system calls: the n-th of that name."""

    name: str
    number: int


def points(command: list[str], log: Path) -> list[Point]:
    """Run a command to its end; answer where killing it makes a difference."""
    subprocess.run(_strace(log, ",".join(f"?{name}" for name in CALLS), *command), check=True)
    seen: Counter[str] = Counter()
    found = []
    for line in log.read_text().splitlines():
        name = line.partition("(")[0]
        seen[name] += 1
        if seen.total() == 1 or CHANGE.search(line):
            found.append(Point(name, seen[name]))
    assert len(found) > 1
    return found


def kill(command: list[str], point: Point) -> None:
    """Run a command that is killed at this point."""
    inject = f"inject={point.name}:signal=KILL:when={point.number}"
    process = subprocess.Popen(_strace(Path("/dev/null"), point.name, "-e", inject, *command))
    assert process.wait() == -signal.SIGKILL


def _strace(log: Path, calls: str, *rest: str) -> list[str]:
    options = [argument for argument in rest if argument.startswith(("-e", "inject="))]
    command = rest[len(options) :]
    return ["strace", "-qq", "-o", str(log), "-e", f"trace={calls}", *options, *CLI, *command]


@pytest.fixture
def one(make_cgroup: MakeCgroup) -> Path:
    return make_cgroup("one")


@pytest.fixture
def two(make_cgroup: MakeCgroup) -> Path:
    return make_cgroup("two")


@pytest.fixture(autouse=True)
def routing() -> Iterator[None]:
    with transparent_routing():
        yield


@pytest.fixture(scope="module")
def other_version(tmp_path_factory: pytest.TempPathFactory) -> Variant:
    """A sender whose sockets' storage is larger."""
    return variant(
        edge.DATAPATH,
        tmp_path_factory.mktemp("variant"),
        old="__u8 room; /*",
        new="__u8 more[8]; __u8 room; /*",
    )


def interrupted(
    datapath: Datapath,
    prepare: Callable[[], object],
    command: list[str],
    asked: list[Path],
    others: list[Path],
    harmless: Callable[[], bool],
    log: Path,
) -> None:
    """Kill a command at each point; check what is left, and that the command completes it."""
    prepare()
    every = points(command, log)
    assert whole(datapath, asked, others)
    for point in every:
        call(datapath.name, "detach")
        assert whole(datapath, [], [*asked, *others])
        prepare()
        kill(command, point)
        assert harmless(), point
        call(datapath.name, "status")  # tells of a part without stumbling over it
        assert call(*command).code == 0
        assert whole(datapath, asked, others), point
        assert harmless(), point


def test_edge_attach(one: Path, servers: Path, tmp_path: Path) -> None:
    interrupted(
        edge.DATAPATH,
        prepare=lambda: _receive(servers),
        command=["edge", "attach", "--cgroup", str(one)],
        asked=[one],
        others=[],
        harmless=lambda: _right(one, servers),
        log=tmp_path / "log",
    )


def test_edge_attach_with_other_settings(
    one: Path, two: Path, servers: Path, tmp_path: Path
) -> None:
    def prepare() -> None:
        _receive(servers)
        edge.attach([one], EdgeSettings(253, 253))

    interrupted(
        edge.DATAPATH,
        prepare,
        command=["edge", "attach", "--cgroup", str(two)],
        asked=[one, two],
        others=[],
        harmless=lambda: _right(one, servers) and _right(two, servers),
        log=tmp_path / "log",
    )
    status = edge.status()
    assert status is not None
    assert status.settings == EdgeSettings()


def test_edge_upgrade_from_other_maps(
    one: Path, servers: Path, tmp_path: Path, other_version: Variant
) -> None:
    def prepare() -> None:
        _receive(servers)
        Attachments(other_version).attach([one], b"\xfe\xfe\x07")

    interrupted(
        edge.DATAPATH,
        prepare,
        command=["edge", "attach", "--cgroup", str(one)],
        asked=[one],
        others=[],
        # Half of each version can't know clients; but who names none is served.
        harmless=lambda: plain_visit(one, servers),
        log=tmp_path / "log",
    )
    assert _right(one, servers)


def test_edge_detach(one: Path, servers: Path, tmp_path: Path) -> None:
    def prepare() -> None:
        _receive(servers)
        edge.attach([one], EdgeSettings())

    interrupted(
        edge.DATAPATH,
        prepare,
        command=["edge", "detach"],
        asked=[],
        others=[one],
        harmless=lambda: _right(one, servers),
        log=tmp_path / "log",
    )


def test_edge_detach_then_attach(one: Path, servers: Path, tmp_path: Path) -> None:
    """Who changes the mind after a killed detach gets all of it back."""
    edge.attach([one], EdgeSettings())
    detach = ["edge", "detach"]
    for point in points(detach, tmp_path / "log"):
        _receive(servers)
        edge.attach([one], EdgeSettings())
        kill(detach, point)
        assert call("edge", "attach", "--cgroup", str(one)).code == 0
        assert whole(edge.DATAPATH, [one], []), point
        assert _right(one, servers), point


def test_origin_attach_with_other_settings(
    one: Path, two: Path, balancers: Path, tmp_path: Path
) -> None:
    edge.attach([balancers], EdgeSettings())
    interrupted(
        origin.DATAPATH,
        prepare=lambda: origin.attach([one], OriginSettings(Trust.parse(["::1"]))),
        command=["origin", "attach", "--cgroup", str(two), "--trust", *TRUST],
        asked=[one, two],
        others=[],
        # Whoever is seen is the client, or the edge where nothing reads the option (yet).
        harmless=lambda: _client_or_edge(balancers, one) and _client_or_edge(balancers, two),
        log=tmp_path / "log",
    )


def test_origin_detach(one: Path, balancers: Path, tmp_path: Path) -> None:
    edge.attach([balancers], EdgeSettings())
    interrupted(
        origin.DATAPATH,
        prepare=lambda: origin.attach([one], OriginSettings(Trust.parse(TRUST))),
        command=["origin", "detach"],
        asked=[],
        others=[one],
        harmless=lambda: _client_or_edge(balancers, one),
        log=tmp_path / "log",
    )


def _receive(servers: Path) -> None:
    settings = OriginSettings(Trust.parse(TRUST), Kinds((254, 253), (254, 253)))
    origin.attach([servers], settings)


def _right(balancers: Path, servers: Path) -> bool:
    """Whether clients are seen: by TOA, or because the connection comes from their address."""
    return all(
        seen == whom and source in (own, str(whom.ip))
        for whom, seen, source, own in (
            (*visit(balancers, servers, 4), "127.0.0.1"),
            (*visit(balancers, servers, 6), "::1"),
        )
    ) and plain_visit(balancers, servers)


def _client_or_edge(balancers: Path, servers: Path) -> bool:
    return all(
        seen == whom or str(seen.ip) == source
        for version in (4, 6)
        for whom, seen, source in (visit(balancers, servers, version),)
    )
