# SPDX-License-Identifier: Apache-2.0
"""The command that makes a host a node, run with other programs in place of sudo and systemctl."""

import os
import subprocess
from pathlib import Path

from cloud_toa.cluster.console.node_pages import command

TOKEN = "join_0123456789abcdef"


def test_sudo_has_no_token_to_log(tmp_path: Path) -> None:
    etc, called = tmp_path / "etc", tmp_path / "called"
    programs = {"sudo": f'echo "$@" >>{called}; exec "$@"', "systemctl": f'echo "$@" >>{called}'}
    for name, line in programs.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(0o755)
    shown = command("http://console.example:7788", TOKEN)
    subprocess.run(
        ["sh", "-c", shown.replace("/etc/cloud-toa", str(etc))],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        check=True,
        timeout=20,
    )
    said = called.read_text()
    assert said.startswith("sh -c ")
    assert said.endswith("enable cloud-toa-node\nrestart cloud-toa-node\n")
    assert TOKEN not in said
    token = etc / "node.token"
    assert token.read_text() == f"{TOKEN}\n"
    assert token.stat().st_mode & 0o777 == 0o600
    assert (etc / "node.env").read_text() == (
        "OPTIONS=--server http://console.example:7788 --insecure\n"
    )
