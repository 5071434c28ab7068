# SPDX-License-Identifier: Apache-2.0
"""docs/recipes/edge-toa.md with a process that behaves like such a node."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cloud_toa.bpf import edge, origin
from cloud_toa.demo.lab import EDGE_TO_ORIGIN, Lab
from tests.cli.command import call
from tests.netns.queue_edge import forget
from tests.netns.test_old_client import SERVING
from tests.netns.traffic import SERVER
from tests.recipes import cdn_node
from tests.recipes.page import page

PAGE = page("edge-toa")
OWN = EDGE_TO_ORIGIN[4]
NODE = Path(cdn_node.__file__)
PROGRAM = Path(sys.executable).with_name("cloud-toa")


@pytest.mark.parametrize("datapath", ["bpf", "queue"])
def test_the_node_stays_as_it_is(
    lab: Lab, balancers: Path, servers: Path, tmp_path: Path, datapath: str
) -> None:
    words = PAGE.command("cloud-toa origin attach")
    assert call(*shlex.split(words)[1:], "--cgroup", str(servers)).code == 0
    lab.start(lab.origin, [sys.executable, str(SERVING), "7000"], [SERVER], place=servers)
    script = PAGE.command("exec").replace("/usr/bin/cloud-toa", str(PROGRAM))
    if datapath == "bpf":
        script = script.replace("-datapath queue", f"-datapath bpf -cgroup {balancers}")
    program = tmp_path / "edge-toa" / "edge-toa"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    options = shlex.split(PAGE.command("edge-toa run"))[1:]
    # The first ones after a start may come before it is seen what kind of peer it is.
    once = "begin named unnamed restart"
    command = [sys.executable, str(NODE), str(tmp_path), OWN, SERVER[0], str(SERVER[1])]
    command += [f"{once} {once} begin named", *options]
    node = lab.edge.popen(command, balancers, stdout=subprocess.PIPE)
    try:
        said, _ = node.communicate(timeout=300)
        assert node.returncode == 0
        rounds = list(map(json.loads, said.splitlines()))
        assert len(rounds) == 8
        for number, connections in enumerate(rounds):
            for port, seen in connections:
                edge_seen, client_seen = [OWN, port], ["203.0.113.7", port]
                if number % 3 == 0:
                    assert seen[0] in (edge_seen, client_seen)
                    assert seen[1] in (edge_seen, client_seen)
                else:
                    assert seen == [client_seen if number % 3 == 1 else edge_seen] * 2
        assert not Path(cdn_node.SOCK).exists()
        assert edge.status() is None
    finally:
        node.kill()
        node.wait()
        forget(lab)
        origin.detach()


def test_called_by_its_name(tmp_path: Path) -> None:
    link = shlex.split(PAGE.command("ln -sf"))
    link[2] = str(PROGRAM)
    subprocess.run(link, cwd=tmp_path, check=True)
    words = shlex.split(PAGE.command("edge-toa run"))
    shown = subprocess.run(
        [str(tmp_path / words[0]), *words[1:], "-datapath=bpf", "-print-rules"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "--origin any --control --only-named" in shown
    shown = subprocess.run(
        [str(tmp_path / words[0]), *words[1:], "-datapath=queue", "-print-rules"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "100-111" in shown
    assert "fib saddr type local" in shown
    assert "fib saddr type != local" not in shown
