# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa config``: what is said of a file, with exit code 0 or 2."""

import json
from pathlib import Path

import pytest

from cloud_toa.node import edge_file
from tests.cli.command import Said, call

EXAMPLE = Path(__file__).parents[2] / "packaging" / "edge.toml"
SERVICE = """
[[service]]
name = "web"
listen = ["0.0.0.0:80"]
[[service.origin]]
address = "192.0.2.7"
"""


def test_good(tmp_path: Path) -> None:
    assert call("config", "check", str(EXAMPLE)) == Said(
        0, f"{EXAMPLE}: 1 service, 2 origins: good\n", ""
    )
    file = tmp_path / "edge.toml"
    file.write_text(SERVICE + SERVICE.replace("web", "api").replace(":80", ":81"))
    assert call("config", "check", str(file)).out == f"{file}: 2 services, 2 origins: good\n"
    file.write_text(SERVICE)
    assert call("config", "check", str(file)).out == f"{file}: 1 service, 1 origin: good\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            SERVICE.replace("name", "nmae"),
            ", line 3: unknown key 'nmae': did you mean 'name'?",
        ),
        (SERVICE + "backup = yes\n", ", line 7: backup = yes: Invalid value: "),
        (SERVICE + "port = 0\n", ", line 7: port = 0: write a number from 1 to 65535"),
    ],
)
def test_wrong(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "edge.toml"
    file.write_text(text)
    said = call("config", "check", str(file))
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"cloud-toa: {file}{message}")
    assert said.err.count("\n") == 1


def test_no_file(tmp_path: Path) -> None:
    said = call("config", "check", str(tmp_path / "none"))
    assert said == Said(
        2, "", f"cloud-toa: {tmp_path}/none can't be read: No such file or directory\n"
    )


def test_an_access_log_that_can_t_be_one(tmp_path: Path) -> None:
    """But /dev/stdout is not this process's."""
    file = tmp_path / "edge.toml"
    file.write_text(f"{SERVICE}[access_log]\nfile = '{tmp_path}'\n")
    said = call("config", "check", str(file))
    why = f"access_log.file {tmp_path} is a folder: name a file in it"
    assert said == Said(2, "", f"cloud-toa: {why}\n")
    file.write_text(f"{SERVICE}[access_log]\nfile = '/dev/stdout'\n")
    assert call("config", "check", str(file)).code == 0


@pytest.mark.parametrize("arguments", [[], ["check"], ["check", "a", "b"], ["schema", "a"], ["x"]])
def test_usage(arguments: list[str]) -> None:
    said = call("config", *arguments)
    assert (said.code, said.out) == (2, "")
    assert "--help" in said.err


def test_schema() -> None:
    said = call("config", "schema")
    assert (said.code, said.err) == (0, "")
    assert json.loads(said.out) == json.loads(json.dumps(edge_file.schema()))
