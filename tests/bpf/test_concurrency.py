# SPDX-License-Identifier: Apache-2.0
"""Several commands at once: each has its turn, and the state is one that somebody asked for."""

import json
from pathlib import Path

from cloud_toa.bpf import edge
from tests.bpf.conftest import MakeCgroup
from tests.bpf.kernel import whole
from tests.bpf.loopback import TRUST, marked
from tests.cli.command import call, start

ROUNDS = 5


def test_two_attaches_with_different_settings(balancers: Path, servers: Path) -> None:
    call("origin", "attach", "--cgroup", str(servers), "--trust", *TRUST, "--kinds-v4", "254,200")
    attach = ("edge", "attach", "--cgroup", str(balancers))
    for _ in range(ROUNDS):
        both = [start(*attach), start(*attach, "--option-type-v4", "200")]
        said = [process.communicate(timeout=60) for process in both]
        assert [process.returncode for process in both] == [0, 0]
        assert [err for _, err in said] == ["", ""]
        assert whole(edge.DATAPATH, [balancers], [])
        status = edge.status()
        assert status is not None
        assert status.settings.option_type_v4 in (254, 200)
        assert marked(balancers, servers)
        call("edge", "detach")


def test_attach_and_detach(make_cgroup: MakeCgroup) -> None:
    one, two = make_cgroup("one"), make_cgroup("two")
    for _ in range(ROUNDS):
        call("edge", "attach", "--cgroup", str(one))
        both = [start("edge", "attach", "--cgroup", str(two)), start("edge", "detach")]
        said = [process.communicate(timeout=60) for process in both]
        assert [process.returncode for process in both] == [0, 0]
        assert [err for _, err in said] == ["", ""]
        # Either came first.
        if edge.status() is None:
            assert whole(edge.DATAPATH, [], [one, two])
        else:
            assert whole(edge.DATAPATH, [two], [one])
        call("edge", "detach")


def test_status_meanwhile_answers_and_waits_for_nobody(balancers: Path) -> None:
    """What goes away under it is no error."""
    readers = [start("edge", "status", "--json") for _ in range(4)]
    while any(reader.poll() is None for reader in readers):
        call("edge", "attach", "--cgroup", str(balancers))
        call("edge", "detach")
    for reader in readers:
        out, err = reader.communicate()
        assert err == ""
        assert json.loads(out)["attached"] is (reader.returncode == 0)
