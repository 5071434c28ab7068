# SPDX-License-Identifier: Apache-2.0
"""cgroup2 and bpffs that are listed and can't be reached; and inside a cgroup namespace."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_toa.bpf import cgroup, edge, mount_table
from tests.bpf.conftest import MakeCgroup
from tests.cli.command import Said, spawn

BPFFS = Path("/sys/fs/bpf")


def shell(script: str, *unshare: str) -> tuple[str, ...]:
    """To run a command after this script, in mounts of their own."""
    return ("unshare", "--mount", *unshare, "sh", "-ec", f'{script}; "$@"', "sh")


def attach(place: Path, *before: str) -> Said:
    return spawn("edge", "attach", "--cgroup", place.name, before=before)


def attached() -> list[Path | None]:
    status = edge.status()
    return list(status.cgroups) if status else []


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Where a file system is mounted once more; a blank in its name is escaped in the list."""
    place = tmp_path / "a second one"
    place.mkdir()
    return place


@pytest.mark.parametrize("covering", ["itself", "above"])
def test_a_covered_cgroup2_is_passed_over(balancers: Path, elsewhere: Path, covering: str) -> None:
    top = cgroup.root()
    cover = top if covering == "itself" else top.parent
    script = f"mount -t cgroup2 none '{elsewhere}'; mount -t tmpfs none {cover}"
    said = attach(balancers, *shell(script))
    assert (said.code, said.err) == (0, "")
    assert str(elsewhere / balancers.name) in said.out
    assert attached() == [balancers]


@pytest.mark.parametrize(
    ("kind", "covering"), [("cgroup2", "itself"), ("cgroup2", "above"), ("bpf", "itself")]
)
def test_nothing_but_covered_ones(balancers: Path, kind: str, covering: str) -> None:
    places = [mount.place for mount in mount_table.mounts(kind)]
    covers = sorted({place if covering == "itself" else place.parent for place in places})
    said = attach(balancers, *shell("; ".join(f"mount -t tmpfs none {at}" for at in covers)))
    assert (said.code, said.out) == (2, "")
    assert "Traceback" not in said.err
    assert len(said.err.splitlines()) == 1
    first = next(mount.place for mount in mount_table.mounts(kind))
    at = first if covering == "itself" else first.parent
    assert f"{kind} on {first} is covered by what is mounted on {at}: umount that" in said.err
    assert attached() == []


def test_a_part_of_cgroup2_is_not_its_root(balancers: Path, elsewhere: Path) -> None:
    top = cgroup.root()
    script = f"mount --bind {balancers} '{elsewhere}'; umount -l {top}; mount -t cgroup2 none {top}"
    said = attach(balancers, *shell(script))
    assert (said.code, said.err) == (0, "")
    assert f"attached to {top / balancers.name}" in said.out


@pytest.fixture
def container(make_cgroup: MakeCgroup) -> Iterator[Path]:
    """A cgroup of a process that makes a cgroup namespace, with another inside it."""
    place = make_cgroup("container")
    inner = place / "inner"
    inner.mkdir()
    yield place
    edge.detach()
    inner.rmdir()


NAMESPACE = ("unshare", "--mount", "--cgroup", "sh", "-ec")


@pytest.mark.parametrize("mounted", ["outside", "inside"])
def test_in_a_cgroup_namespace(container: Path, mounted: str) -> None:
    """cgroup2 is mounted from outside, as by `unshare --cgroup`, or inside, as in a container."""
    top = cgroup.root()
    inner = (container if mounted == "outside" else top) / "inner"
    remount = f"umount -l {top}; mount -t cgroup2 none {top}; " if mounted == "inside" else ""
    script = (
        f"{remount}echo 0 > {inner}/cgroup.procs; before=$(cat /proc/self/cgroup); "
        '"$@"; test "$before" = "$(cat /proc/self/cgroup)"'
    )
    join = f'echo 0 > {container}/cgroup.procs; exec "$@"'
    before = ("sh", "-ec", join, "sh", *NAMESPACE, script, "sh")
    said = spawn("edge", "attach", "--cgroup", str(inner), before=before)
    assert (said.code, said.err) == (0, "")
    assert f"attached to {inner}" in said.out
    assert attached() == [container / "inner"]
