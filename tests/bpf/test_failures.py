# SPDX-License-Identifier: Apache-2.0
"""What the kernel refuses leaves everything as it was. Nothing is faked: the kernel does refuse."""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from cloud_toa.bpf import edge, origin
from cloud_toa.bpf.attachment import Attachments, Datapath
from cloud_toa.errors import ToaError
from tests.bpf.conftest import MakeCgroup
from tests.bpf.kernel import PINS, held_alone, state, variant, whole
from tests.bpf.loopback import TRUST, marked, unmarked
from tests.cli.command import call

ATTACH = {
    "edge": ["edge", "attach"],
    "origin": ["origin", "attach", "--trust", *TRUST],
}
OTHER = {"edge": ["--option-type-v4", "200"], "origin": ["--kinds-v4", "254,200"]}
BOTH = pytest.mark.parametrize("datapath", [edge.DATAPATH, origin.DATAPATH], ids=["edge", "origin"])


@BOTH
def test_a_refused_cgroup_leaves_nothing(make_cgroup: MakeCgroup, datapath: Datapath) -> None:
    free, blocked = make_cgroup("free"), make_cgroup("blocked")
    cgroups = ["--cgroup", str(free), "--cgroup", str(blocked)]
    with held_alone(blocked, datapath):
        before = state(datapath, free, blocked)
        said = call(*ATTACH[datapath.name], *cgroups)
        assert (said.code, said.out) == (2, "")
        last = datapath.hooks[-1].name
        assert re.fullmatch(
            f"cloud-toa: {blocked} refused {last} \\(Operation not permitted\\): "
            f"{last} \\S+ \\(id \\d+\\) on {blocked}, without a link may hold it alone\n",
            said.err,
        )
        assert state(datapath, free, blocked) == before
    assert call(*ATTACH[datapath.name], *cgroups).code == 0
    assert whole(datapath, [free, blocked], [])


@BOTH
def test_a_refused_cgroup_leaves_the_running_ones_as_they_were(
    make_cgroup: MakeCgroup, datapath: Datapath
) -> None:
    running, blocked = make_cgroup("running"), make_cgroup("blocked")
    call(*ATTACH[datapath.name], "--cgroup", str(running))
    with held_alone(blocked, datapath):
        before = state(datapath, running, blocked)
        said = call(*ATTACH[datapath.name], *OTHER[datapath.name], "--cgroup", str(blocked))
        assert said.code == 2
        assert state(datapath, running, blocked) == before
        again = call(*ATTACH[datapath.name], "--cgroup", str(running))
        assert "nothing changed" in again.out


def test_connections_are_right_after_a_failure(
    make_cgroup: MakeCgroup, balancers: Path, servers: Path
) -> None:
    blocked = make_cgroup("blocked")
    call(*ATTACH["origin"], "--cgroup", str(servers))
    call(*ATTACH["edge"], "--cgroup", str(balancers))
    with held_alone(blocked, edge.DATAPATH):
        call(*ATTACH["edge"], "--option-type-v4", "200", "--cgroup", str(blocked))
        assert marked(balancers, servers)  # with 200, the origin would not see the client


@BOTH
@pytest.mark.parametrize("number", range(4))
def test_a_kernel_without_a_hook_is_told_in_one_line(
    make_cgroup: MakeCgroup, datapath: Datapath, number: int
) -> None:
    """No kernel knows an attach type 9999, and says so as it does of any that it lacks."""
    place, hooks = make_cgroup("place"), list(datapath.hooks)
    hooks[number] = replace(hooks[number], attach_type=9999)
    lacking = replace(datapath, hooks=tuple(hooks))
    with pytest.raises(ToaError) as refused:
        Attachments(lacking).attach([place], b"\xfe\xfe\x07")
    assert str(refused.value) == (
        f"kernel {os.uname().release} has no {hooks[number].name} hook: Linux "
        f"{hooks[number].since} or later has it (cloud-toa doctor says what else is missing)"
    )
    assert whole(datapath, [], [place])
    assert not list((PINS / datapath.name).iterdir())


def test_a_program_that_the_kernel_takes_as_of_an_unknown_type_names_the_hook(
    balancers: Path, servers: Path, tmp_path: Path
) -> None:
    # EINVAL at load is how kernels answer a hook that they lack, and a bind hook that answers 9.
    lacking = variant(
        edge.DATAPATH, tmp_path, old="if (take_bind(sender, &client)) {\n\t\tctx->user_ip4 = 0;",
        new="if (take_bind(sender, &client)) {\n\t\tif (client.port == 9) return 9;\n"
        "\t\tctx->user_ip4 = 0;",
    )  # fmt: skip
    with pytest.raises(ToaError, match=r"^kernel \S+ has no cgroup/bind4 hook: Linux 4\.17 or"):
        Attachments(lacking).attach([balancers], b"\xfe\xfe\x07")
    assert whole(edge.DATAPATH, [], [balancers])
    assert unmarked(balancers, servers)


def test_a_program_that_the_verifier_refuses_leaves_the_running_ones(
    make_cgroup: MakeCgroup, balancers: Path, tmp_path: Path
) -> None:
    call(*ATTACH["edge"], "--cgroup", str(balancers))
    place = make_cgroup("place")
    before = state(edge.DATAPATH, balancers, place)
    wrong = variant(
        edge.DATAPATH, tmp_path, old="ctx->user_ip6[3] = 0;", new="*(volatile int *)0 = 0;"
    )
    with pytest.raises(ToaError, match=r"^kernel \S+ refused the eBPF programs .*doctor$"):
        Attachments(wrong).attach([place], b"\xc8\xfe\x07")
    assert state(edge.DATAPATH, balancers, place) == before


def test_a_file_that_is_no_program_is_told(balancers: Path, tmp_path: Path) -> None:
    broken = variant(edge.DATAPATH, tmp_path, old="ctx->user_ip6[3] = 0;", new="")
    broken.compiled.write_bytes(b"\x7fELF")
    with pytest.raises(ToaError, match=r"edge\.bpf\.o is not a BPF object"):
        Attachments(broken).attach([balancers], b"\xfe\xfe\x07")
    assert whole(edge.DATAPATH, [], [balancers])


def test_a_cgroup_that_goes_away_during_the_command_is_told(
    make_cgroup: MakeCgroup, balancers: Path
) -> None:
    gone = make_cgroup("gone")
    gone.rmdir()
    before = state(edge.DATAPATH, balancers)
    with pytest.raises(ToaError, match=f"^{gone} was removed"):
        Attachments(edge.DATAPATH).attach([balancers, gone], b"\xfe\xfe\x07")
    assert state(edge.DATAPATH, balancers) == before
