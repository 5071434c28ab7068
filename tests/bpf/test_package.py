# SPDX-License-Identifier: Apache-2.0
"""The Debian package: installed, upgraded under what is attached, and removed.

In this machine's own files under an overlay: what the package depends on is there, and what
it leaves behind is all that the overlay has.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_toa.bpf import edge, origin
from tests import debian
from tests.bpf.kernel import PINS, state
from tests.bpf.loopback import TRUST, marked, unmarked

RUN_TOML = "etc/cloud-toa/run.toml"
# The package database's own, and what ldconfig and Python keep for all.
NOT_OURS = re.compile(r"^(var/lib/dpkg|var/log|var/cache|etc/ld\.so\.cache|usr/lib/python3)\b")


def command(*words: str) -> str:
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout


class Machine:
    """A root directory over this machine's."""

    def __init__(self, place: Path) -> None:
        self.root, self.changes = place / "root", place / "changes"

    def run(self, *command: str | Path, code: int = 0) -> str:
        done = subprocess.run(
            ["chroot", str(self.root), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            # Neither this environment's Python nor its modules.
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": "/nowhere"},
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def install(self, package: Path) -> None:
        copy = self.root / "root" / package.name
        copy.write_bytes(package.read_bytes())
        # As an administrator decides who has changed a file, when the package has as well.
        self.run("dpkg", "--force-confold", "-i", f"/root/{package.name}")
        copy.unlink()

    def left(self) -> list[str]:
        """Files and directories that the machine has not, or not so."""
        names = {str(path.relative_to(self.changes)): path for path in self.changes.rglob("*")}
        return [
            name
            for name, path in names.items()
            # A directory is there for what is in it, which may have gone.
            if not (NOT_OURS.match(name) or (path.is_dir() and Path("/", name).is_dir()))
        ]


def console_starts(machine: Machine) -> None:
    """By what the package has, and nothing of this environment."""
    state = machine.root / "var/lib/cloud-toa/console"
    state.mkdir(parents=True)
    process = subprocess.Popen(
        ["chroot", str(machine.root), "cloud-toa", "console"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": "/nowhere"},
    )
    with process as console:
        try:
            assert console.stdout is not None
            said = ""
            for line in console.stdout:
                said += line
                if "listens on" in line:
                    break
        finally:
            console.terminate()
            console.communicate()
    assert "\nhttp://127.0.0.1:7788/setup?token=" in said
    assert console.returncode == 0
    node = state.with_name("node")
    node.mkdir()
    (node / "node.json").touch()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    # The overlay's own must not lie below what it is over.
    command("mount", "-t", "tmpfs", "cloud-toa", str(tmp_path))
    machine, work = Machine(tmp_path), tmp_path / "work"
    for directory in (machine.root, machine.changes, work):
        directory.mkdir()
    options = f"lowerdir=/,upperdir={machine.changes},workdir={work}"
    command("mount", "-t", "overlay", "-o", options, "cloud-toa", str(machine.root))
    for name in ("dev", "proc", "sys"):
        command("mount", "--rbind", f"/{name}", str(machine.root / name))
    command("mount", "-t", "tmpfs", "cloud-toa", str(machine.root / "run"))
    yield machine
    # What is mounted inside goes with it.
    command("umount", "--recursive", str(tmp_path))


@pytest.mark.slow
@pytest.mark.one_kernel
def test_from_installing_to_removing(
    machine: Machine, tmp_path: Path, balancers: Path, servers: Path
) -> None:
    package = debian.built()
    newer = debian.newer(package, tmp_path)
    machine.install(package)
    version = package.name.split("_")[1]
    assert machine.run("cloud-toa", "--version") == f"cloud-toa {version}\n"
    found = json.loads(machine.run("cloud-toa", "doctor", "origin", "--json"))
    states = {finding["name"]: finding["state"] for finding in found["findings"]}
    assert states["hook sockops"] == "ok"
    # Nothing is started by itself, and the units call what is installed.
    assert not list((machine.changes / "etc/systemd").rglob("cloud-toa*"))
    units = list((machine.root / "lib/systemd/system").glob("cloud-toa-*.service"))
    assert len(units) == 6
    for unit in units:
        assert "/usr/local" not in unit.read_text()

    for verb in ("console", "node"):
        assert machine.run("cloud-toa", verb, "--help").startswith(f"usage: cloud-toa {verb} ")
    console_starts(machine)

    assert unmarked(balancers, servers)
    trusted = machine.run("cloud-toa", "origin", "attach", "--cgroup", servers, "--trust", *TRUST)
    assert trusted == f"origin: attached to {servers}\n"
    machine.run("cloud-toa", "edge", "attach", "--cgroup", balancers)
    assert marked(balancers, servers)
    datapaths = (edge.DATAPATH, origin.DATAPATH)
    attached = [state(datapath, balancers, servers) for datapath in datapaths]
    ours = "origin = ['198.51.100.1']\n"
    (machine.root / RUN_TOML).write_text(ours)

    machine.install(newer)
    assert debian.NEWER in machine.run("dpkg-query", "-W", "cloud-toa")
    assert [state(datapath, balancers, servers) for datapath in datapaths] == attached
    assert marked(balancers, servers)
    assert (machine.root / RUN_TOML).read_text() == ours
    again = machine.run("cloud-toa", "origin", "attach", "--cgroup", servers, "--trust", *TRUST)
    assert again == f"origin: already attached so, nothing changed: {servers}\n"

    machine.run("dpkg", "--remove", "cloud-toa")
    assert not PINS.exists()
    assert unmarked(balancers, servers)
    assert (machine.root / RUN_TOML).read_text() == ours
    machine.run("dpkg", "--purge", "cloud-toa")
    # What operators have entered is theirs; what a node kept is its cluster's.
    assert machine.left() == [
        *("var/lib/cloud-toa", "var/lib/cloud-toa/console"),
        "var/lib/cloud-toa/console/cluster.db",
    ]


@pytest.mark.slow
@pytest.mark.one_kernel
def test_an_upgrade_restarts_what_loses_nothing_by_it(tmp_path: Path) -> None:
    """Those units, whose restarts are tried in tests/vm; and no other."""
    command("dpkg-deb", "-e", str(debian.built()), str(tmp_path))
    scripts = {script: (tmp_path / script).read_text() for script in ("postinst", "prerm")}
    done = re.findall(r"deb-systemd-invoke .*?(?= \|\| true)", scripts["postinst"])
    units = " ".join(f"'cloud-toa-{name}.service'" for name in ("console", "edge-run", "node"))
    assert done == [f"deb-systemd-invoke try-restart {units} >/dev/null"]
    assert "stop" not in scripts["prerm"].partition('"$1" = remove')[0]


@pytest.mark.slow
@pytest.mark.one_kernel
def test_it_says_what_it_needs() -> None:
    """The other test's machine has it all, and would not tell."""
    names = ("Depends", "Recommends", "Architecture")
    said = command("dpkg-deb", "-f", str(debian.built()), *names)
    shown = dict(line.split(": ", 1) for line in said.splitlines())
    needed = set(re.findall(r"[a-z][\w.-]+", shown["Depends"]))
    # These two are for the compiled parts of what is in the package.
    assert needed - {"libc6", "libgcc-s1"} == {"python3", "libbpf1"}
    assert shown["Recommends"] == "haproxy (>= 2.6), iproute2, libnetfilter-queue1, nftables"
    # The programs have its byte order.
    assert shown["Architecture"] == command("dpkg", "--print-architecture").strip()
