# SPDX-License-Identifier: Apache-2.0
"""What ``edge run`` and ``edge reload`` refuse: exit code 2, one line, nothing started."""

from pathlib import Path

import pytest

from cloud_toa.bpf import edge
from tests.cli.command import call

WANTED = "edge run takes --config FILE, or --listen IP:PORT and --origin HOST:PORT"
LISTEN, ORIGIN = ["--listen", "0.0.0.0:80"], ["--origin", "192.0.2.7:80"]


def refused(*arguments: str) -> str:
    said = call("edge", *arguments)
    assert (said.code, said.out) == (2, "")
    assert said.err.count("\n") == 1
    assert edge.status() is None
    return said.err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        LISTEN,
        ORIGIN,
        ["--listen", "", *ORIGIN],
        [*LISTEN, "--origin", ""],
        ["--config", "edge.toml", *LISTEN],
        ["--config", "edge.toml", *ORIGIN],
        ["--config", "edge.toml", *LISTEN, *ORIGIN],
        ["--config", "edge.toml", "--listen", ""],
        ["--debug"],
    ],
    ids=" ".join,
)
def test_a_file_or_one_service(arguments: list[str]) -> None:
    assert refused("run", *arguments) == f"cloud-toa: {WANTED}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--listen", "80", *ORIGIN], "--listen: '80' is no address to listen on: write 0.0.0.0"),
        ([*LISTEN, "--origin", "192.0.2.7"], "--origin '192.0.2.7': write 192.0.2.7:80, "),
        ([*LISTEN, "--origin", "a:0"], "--origin 'a:0': port = 0: write a number from 1 to 65535"),
        (["--config", "/nonexistent"], "/nonexistent can't be read: No such file or directory"),
    ],
)
def test_values(arguments: list[str], words: str) -> None:
    assert refused("run", *arguments).startswith(f"cloud-toa: {words}")


def test_a_file_that_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    file.write_text("[services]\n")
    said = refused("run", "--config", str(file))
    assert said == f"cloud-toa: {file}, line 1: unknown key 'services': did you mean 'service'?\n"


@pytest.mark.parametrize("arguments", [["--config"], ["--listen"], ["--speed", "1"], ["extra"]])
def test_usage(arguments: list[str]) -> None:
    said = call("edge", "run", *arguments)
    assert (said.code, said.out) == (2, "")
    assert "--help" in said.err


def test_nothing_to_reload() -> None:
    assert refused("reload") == "cloud-toa: no 'cloud-toa edge run' is at work here\n"
