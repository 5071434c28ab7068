# SPDX-License-Identifier: Apache-2.0
"""The real command on this real host, from which one thing at a time is really taken away."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloud_toa.bpf import cgroup, edge, origin
from cloud_toa.config import OriginSettings
from cloud_toa.doctor import module
from cloud_toa.isolation import Namespace
from cloud_toa.trust import Trust

DOCTOR = (sys.executable, "-m", "cloud_toa", "doctor")
EDGE_HOOKS = {f"hook {hook}" for hook in ("sockops", "cgroup/bind4", "cgroup/bind6")} | {
    "hook cgroup/setsockopt"
}
ORIGIN_HOOKS = {"hook sockops", "hook cgroup/getsockopt"} | {
    f"hook cgroup/getpeername{family}" for family in (4, 6)
}
EBPF = {"Linux", "cgroup2", "bpffs", "capabilities", "libbpf.so.1", "BPF JIT", "other programs"}
QUEUE = {"libnetfilter_queue.so.1", "nft", "ip", "NFQUEUE", "conntrack"}
EDGE_ONLY = {"haproxy", "nginx"} | QUEUE
# Of an nginx that another test may run just now.
NGINX = {"nginx connection per client", "nginx CAP_NET_RAW"}
NO_BPFFS = "while umount -l /sys/fs/bpf 2>/dev/null; do :; done"
UNPRIVILEGED = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
KEYS = {"name", "state", "detail", "remedy_debian", "remedy_rhel"}


@dataclass
class Said:
    code: int
    verdict: str
    findings: dict[str, dict[str, str | None]]

    def states(self, *names: str) -> set[str | None]:
        return {self.findings[name]["state"] for name in names}

    def missing(self) -> set[str]:
        return {name for name in self.findings if self.states(name) == {"missing"}}


def run(*command: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ) if path is None else {**os.environ, "PATH": path}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=30, env=environment, check=False
    )


def doctor(
    *role: str, before: tuple[str, ...] = (), without: str = "", path: str | None = None
) -> Said:
    """Run it under a command (``before``), ``without`` what a shell takes away first."""
    command = (*before, *DOCTOR, *role, "--json")
    if without:
        command = ("unshare", "--mount", "sh", "-ec", f'{without}; exec "$@"', "sh", *command)
    done = run(*command, path=path)
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert set(report) == {"purpose", "ready", "verdict", "findings"}
    assert report["purpose"] == " ".join(role)
    assert report["ready"] is (done.returncode == 0)
    listed = [found for found in report["findings"] if found["name"] not in NGINX]
    assert all(set(found) == KEYS for found in listed)
    findings = {found["name"]: found for found in listed}
    assert len(findings) == len(listed), "a prerequisite is named once"
    return Said(done.returncode, report["verdict"], findings)


def emptied(library: str, empty: Path) -> str:
    """A shell's command that leaves an empty file in a library's place, wherever it is."""
    empty.touch()
    cache = run("/sbin/ldconfig", "-p").stdout
    places = re.findall(rf"^\s*{re.escape(library)} .* => (\S+)$", cache, re.MULTILINE)
    return "; ".join(f"mount --bind {empty} {Path(place).resolve()}" for place in places) or ":"


@pytest.fixture
def refused(tmp_path: Path) -> str:
    """A shell's command after which the kernel refuses edge_sockops.

    The program asks for a function 999 instead of bpf_reserve_hdr_opt, which an older
    kernel lacks just so.
    """
    call, unknown = (bytes((0x85, 0, 0, 0)) + n.to_bytes(4, "little") for n in (144, 999))
    shipped = edge.DATAPATH.object.read_bytes()
    assert call in shipped
    older = tmp_path / "edge.bpf.o"
    older.write_bytes(shipped.replace(call, unknown))
    return f"mount --bind {older} {edge.DATAPATH.object}"


@pytest.mark.parametrize(
    ("role", "ready", "expected"),
    [
        (
            (),
            "to be an edge and an origin",
            EDGE_HOOKS | ORIGIN_HOOKS | EBPF | EDGE_ONLY | {"toa.ko"},
        ),
        (("edge",), "to be an edge", EDGE_HOOKS | EBPF | EDGE_ONLY),
        (("origin",), "to be an origin", ORIGIN_HOOKS | EBPF | {"toa.ko"}),
        (("run",), "for `cloud-toa run`", EDGE_HOOKS | EBPF | EDGE_ONLY),
        (("edge", "run"), "for `cloud-toa edge run`", EDGE_HOOKS | EBPF | QUEUE | {"haproxy"}),
        (
            ("node",),
            "for `cloud-toa node`",
            EDGE_HOOKS | EBPF | QUEUE | {"haproxy", "Python packages"},
        ),
    ],
)
def test_all_is_well_here_for_each_role(
    role: tuple[str, ...], ready: str, expected: set[str]
) -> None:
    said = doctor(*role)
    assert said.verdict == f"This host is ready {ready}."
    assert set(said.findings) == expected
    assert (said.code, said.missing()) == (0, set())
    hooks = {name for name in expected if name.startswith("hook ")}
    assert said.states(*hooks, "Linux", "cgroup2", "bpffs", "libbpf.so.1") == {"ok"}
    assert said.findings["Linux"]["detail"] == os.uname().release


def test_nothing_stays_behind() -> None:
    def look() -> list[object]:
        asked = ("nft list ruleset", "ip rule", "ip route show table all")
        shown = [run(*command.split()).stdout for command in asked]
        return [*shown, sorted(Path("/sys/fs/bpf").iterdir())]

    before = look()
    doctor()
    assert look() == before


def test_text_has_one_line_for_each_and_no_remedy_while_all_is_well() -> None:
    done = run(*DOCTOR, "origin")
    *lines, empty, verdict = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert (empty, verdict) == ("", "This host is ready to be an origin.")
    assert len(lines) == len(ORIGIN_HOOKS | EBPF | {"toa.ko"})
    assert all(re.match(r"(ok        |not needed)  \S", line) for line in lines)


def test_no_bpffs() -> None:
    said = doctor(without=NO_BPFFS)
    assert (said.code, said.missing()) == (1, {"bpffs"})
    assert said.verdict == "1 thing is missing for an edge and an origin: bpffs."
    assert said.findings["bpffs"]["remedy_debian"] == "mount -t bpf bpf /sys/fs/bpf"


def test_the_remedy_for_bpffs_mends_it() -> None:
    remedy = doctor("edge", without=NO_BPFFS).findings["bpffs"]["remedy_debian"]
    assert doctor("edge", without=f"{NO_BPFFS}; {remedy}").code == 0


def test_no_cgroup2_and_its_remedy() -> None:
    gone = "awk '$3 == \"cgroup2\" { print $2 }' /proc/self/mounts | xargs umount -l"
    said = doctor("edge", without=gone)
    assert (said.code, said.missing()) == (1, {"cgroup2"})
    mended = doctor("edge", without=f"{gone}; {said.findings['cgroup2']['remedy_rhel']}")
    assert mended.code == 0


def test_no_libbpf(tmp_path: Path) -> None:
    said = doctor(without=emptied("libbpf.so.1", tmp_path / "empty"))
    assert (said.code, said.missing()) == (1, EDGE_HOOKS | ORIGIN_HOOKS | {"libbpf.so.1"})
    assert said.findings["hook sockops"]["detail"] == "not tried: libbpf.so.1 is missing"
    # One command mends all of them.
    assert said.verdict == "1 thing is missing for an edge and an origin: libbpf.so.1."
    assert said.findings["libbpf.so.1"]["remedy_rhel"] == "dnf install libbpf"


def test_a_hook_that_the_kernel_refuses(refused: str, tmp_path: Path) -> None:
    gone = f"{refused}; {emptied('libnetfilter_queue.so.1', tmp_path / 'empty')}"
    said = doctor(without=gone)
    assert said.code == 1
    # The other hooks are there; the sender needs its way around, the receiver none.
    hooks = EDGE_HOOKS | ORIGIN_HOOKS
    assert said.missing() & hooks == {"hook sockops"}
    detail = str(said.findings["hook sockops"]["detail"])
    assert "edge_sockops (invalid func unknown#999): Linux 5.10" in detail
    assert "libnetfilter_queue.so.1" in said.missing()
    assert "toa.ko" not in said.missing()
    assert "things are missing for an edge and an origin: libnetfilter_queue.so.1" in said.verdict
    assert said.verdict.endswith("the kernel's hook sockops.")
    assert "apt-get install" in str(said.findings["libnetfilter_queue.so.1"]["remedy_debian"])


def test_an_older_version_with_all_hooks_will_do() -> None:
    said = doctor("edge", before=("setarch", "--uname-2.6"))
    assert (said.code, said.missing()) == (0, set())
    assert "2.6." in str(said.findings["Linux"]["detail"])


def test_an_older_version_without_a_hook_is_too_old(refused: str) -> None:
    said = doctor("edge", before=("setarch", "--uname-2.6"), without=refused)
    assert said.code == 1
    assert {"Linux", "hook sockops"} <= said.missing()


def test_an_unprivileged_user_is_told_what_can_be_told() -> None:
    said = doctor(before=UNPRIVILEGED)
    assert (said.code, said.missing()) == (1, EDGE_HOOKS | ORIGIN_HOOKS | {"capabilities"})
    assert said.findings["capabilities"]["detail"] == "user 65534 is not root"
    assert said.findings["hook sockops"]["detail"] == "not tried: run with sudo to try"
    assert said.findings["NFQUEUE"]["detail"] == "not tried: needs root, nft and ip"
    assert "sudo" in str(said.findings["capabilities"]["remedy_debian"])
    assert said.verdict == "1 thing is missing for an edge and an origin: capabilities."


@pytest.mark.parametrize(
    ("dropped", "loads"), [("-sys_admin", True), ("-sys_admin,-bpf,-perfmon,-net_admin", False)]
)
def test_root_without_capabilities(dropped: str, loads: bool) -> None:
    said = doctor(before=("setpriv", "--bounding-set", dropped, "--inh-caps=-all"))
    hooks = set() if loads else EDGE_HOOKS | ORIGIN_HOOKS
    assert (said.code, said.missing()) == (1, hooks | {"capabilities"})


def test_root_of_a_user_namespace() -> None:
    said = doctor("origin", before=("unshare", "--user", "--map-root-user"))
    assert (said.code, said.missing()) == (1, ORIGIN_HOOKS | {"capabilities"})
    assert "user namespace" in str(said.findings["capabilities"]["detail"])
    assert said.findings["hook sockops"]["detail"] == "not tried: see capabilities"
    assert said.verdict == "1 thing is missing for an origin: capabilities."


def test_without_programs_nothing_more_is_missing_while_ebpf_works(tmp_path: Path) -> None:
    said = doctor("edge", path=str(tmp_path))
    assert (said.code, said.missing()) == (0, set())
    assert said.states("nft", "ip", "haproxy", "nginx", "NFQUEUE") == {"not needed"}


def test_without_programs_and_without_a_hook_the_queue_datapath_lacks_them(
    refused: str, tmp_path: Path
) -> None:
    bare = ("env", f"PATH={tmp_path}")
    said = doctor("edge", before=bare, without=refused)
    assert {"nft", "ip", "NFQUEUE"} < said.missing()
    assert said.states("haproxy", "nginx") == {"not needed"}


@pytest.mark.parametrize("role", [("edge", "run"), ("node",)])
def test_where_haproxy_is_started_it_must_be_there(role: tuple[str, ...], tmp_path: Path) -> None:
    said = doctor(*role, path=str(tmp_path))
    assert (said.code, said.missing()) == (1, {"haproxy"})
    assert said.verdict == f"1 thing is missing for `cloud-toa {' '.join(role)}`: haproxy."
    assert said.findings["haproxy"]["remedy_debian"] == "apt-get install haproxy"
    old = tmp_path / "haproxy"
    old.write_text("#!/bin/sh\necho HAProxy version 2.4.22-0ubuntu0.22.04.3\n")
    old.chmod(0o755)
    found = doctor(*role, path=str(tmp_path)).findings["haproxy"]
    assert (found["state"], found["detail"]) == (
        "missing",
        "2.4.22-0ubuntu0.22.04.3: 2.6 or later is needed",
    )


@pytest.mark.parametrize("role", [("run",), ("edge", "run")])
def test_where_the_queue_serves_ebpf_is_not_missing(role: tuple[str, ...], refused: str) -> None:
    for lack, name in ((refused, "the kernel's hook sockops"), (NO_BPFFS, "bpffs")):
        said = doctor(*role, without=lack)
        # This host's table of connections may be too small for a busy edge.
        assert said.missing() <= {"conntrack"}
        assert "in queue mode" in said.verdict
        if not said.missing():
            assert said.verdict.endswith(f"in queue mode, as eBPF lacks {name}.")


def test_where_neither_serves_ebpf_is_what_is_missing(tmp_path: Path) -> None:
    said = doctor("run", without=NO_BPFFS, before=("env", f"PATH={tmp_path}"))
    assert (said.code, said.missing()) == (1, {"bpffs"})
    assert said.verdict == "1 thing is missing for `cloud-toa run`: bpffs."


def test_haproxy_s_cgroup_needs_cgroup2_in_queue_mode_as_well() -> None:
    gone = "awk '$3 == \"cgroup2\" { print $2 }' /proc/self/mounts | xargs umount -l"
    assert "cgroup2" in doctor("edge", "run", without=gone).missing()
    assert "cgroup2" not in doctor("run", without=gone).missing()


def test_what_ip_netns_exec_hides_is_named_with_the_way_around(tmp_path: Path) -> None:
    """The remedies, as they stand, find all there."""
    network = Namespace("hidden")
    try:
        said = doctor("edge", before=("ip", "netns", "exec", network.name))
        assert (said.code, said.missing()) == (1, {"cgroup2", "bpffs"})
        assert said.verdict == "2 things are missing for an edge: cgroup2, bpffs."
        (remedy,) = {said.findings[name]["remedy_debian"] for name in said.missing()}
        assert remedy == "nsenter --net=/run/netns/hidden cloud-toa doctor"
        assert doctor("edge", before=tuple(str(remedy).split()[:2])).code == 0
    finally:
        network.remove()


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="HAProxy is not installed")
def test_haproxy_is_shown_with_its_version() -> None:
    haproxy = doctor("edge").findings["haproxy"]
    assert haproxy["state"] == "ok"
    assert str(haproxy["detail"]) in run("haproxy", "-v").stdout


def test_a_jit_that_cannot_be_seen_is_no_fault() -> None:
    # The tests' network is not the first one, which alone shows the setting.
    jit = doctor("origin").findings["BPF JIT"]
    assert (jit["state"], jit["detail"]) == ("not needed", "can't be seen from here")


def test_the_receiver_is_seen_while_it_is_attached() -> None:
    assert not module.receiver_attached()
    place = cgroup.root() / f"cloud-toa-doctor-{os.getpid()}"
    place.mkdir()
    try:
        origin.attach([place], OriginSettings(Trust.parse(["192.0.2.1"])))
        assert module.receiver_attached()
        assert doctor("origin").code == 0
    finally:
        origin.detach()
        place.rmdir()
    assert not module.receiver_attached()


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    done = run("sh", "-c", '"$@" | head -n 1', "sh", *DOCTOR)
    assert done.stdout.startswith("ok")
    assert done.stderr == ""


def test_a_damaged_installation_is_not_blamed_on_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    damage = f"mount --bind {tmp_path / 'empty'} {edge.DATAPATH.object}"
    done = run("unshare", "--mount", "sh", "-ec", f'{damage}; exec "$@"', "sh", *DOCTOR)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("install again\n")


def test_bad_usage() -> None:
    done = run(*DOCTOR, "client")
    assert done.returncode == 2
    assert "invalid choice: 'client'" in done.stderr
