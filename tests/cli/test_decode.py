# SPDX-License-Identifier: Apache-2.0
"""The real command over options in hexadecimal: the vectors, and what it refuses."""

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.cli.decoding import UNPRIVILEGED, refused, run

OPTIONS = Path(__file__).parents[1] / "vectors" / "options.json"
VECTORS = {vector["name"]: vector for vector in json.loads(OPTIONS.read_text())["vectors"]}


def decode_vector(vector: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    kinds = [
        f"--kinds-{layout.replace('_', '-')}={','.join(map(str, kinds))}"
        for layout, kinds in vector["kinds"].items()
    ]
    return run("--options", vector["options"], *kinds, "--json")


@pytest.fixture(scope="module")
def vectors_decoded() -> dict[str, subprocess.CompletedProcess[str]]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # each waits for a process of its own
        return dict(zip(VECTORS, pool.map(decode_vector, VECTORS.values()), strict=True))


@pytest.mark.parametrize("name", VECTORS)
def test_vector(name: str, vectors_decoded: dict[str, subprocess.CompletedProcess[str]]) -> None:
    done, client = vectors_decoded[name], VECTORS[name]["client"]
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert said["client"] == client
    if client is None:
        assert set(said) == {"client", "reason"}
        assert said["reason"] in ("absent", "malformed", "unusable")
    else:
        assert set(said) == {"client"}


@pytest.mark.parametrize(
    ("options", "said", "text"),
    [
        ("", {"client": None, "reason": "absent"}, "no client (absent): no option of these kinds"),
        (
            "fe07",
            {"client": None, "reason": "malformed"},
            (
                "no client (malformed): an option list that breaks off, or an option of a length "
                "that TOA has not"
            ),
        ),
        (
            "fe080000cb0071de",
            {"client": None, "reason": "unusable"},
            "no client (unusable): an address or a port that no client can have",
        ),
        (
            "FE 08 93 4d CB 00 71 de",
            {"client": {"ip": "203.0.113.222", "port": 37709}},
            "203.0.113.222:37709",
        ),
    ],
)
def test_options(options: str, said: dict[str, Any], text: str) -> None:
    done = run("--options", options, "--json")
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, said, "")
    done = run("--options", options)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{text}\n", "")


def test_a_client_without_a_port() -> None:
    done = run("--options", "1c0701cb0071de", "--kinds-client-ip", "28")
    assert done.stdout == "203.0.113.222\n"
    done = run("--options", "1c0701cb0071de01fe08934dcb0071de", "--kinds-client-ip", "28")
    assert done.stdout == "203.0.113.222:37709\n"


def test_another_kind_is_said() -> None:
    options = ("--options", "c808934dcb0071de")
    done = run(*options)
    assert (done.returncode, done.stdout) == (0, "no client (absent): no option of these kinds\n")
    assert done.stderr.endswith("; to read it: --kinds-v4 254,200\n")
    done = run(*options, "--json")
    assert (json.loads(done.stdout), done.stderr) == ({"client": None, "reason": "absent"}, "")
    done = run(*options, "--json", "--find-kinds")
    assert json.loads(done.stdout)["kind"] == 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--options", "fe0x"],
            (
                "--options: 'x' is not a hexadecimal digit: "
                "write two for each byte, such as fe08934dcb0071de"
            ),
        ),
        (["--options", "fe0"], "--options: 3 digits are no whole bytes: write two for each"),
        (
            ["--options", "01" * 41],
            "--options: 41 bytes are too many: a TCP header has 40 at most, leave out its first 20",
        ),
        (
            ["--options", "", "--kinds-v4", "256"],
            "option kind 256 is out of range: a kind is one byte, 0 to 255",
        ),
        (
            ["--options", "", "--kinds-v6", "254,8"],
            "option kind 8 is in use for Timestamps: choose one such as 254, 253 or 200",
        ),
        (
            ["--options", "", "--kinds-client-ip", "x"],
            "option kind 'x' is not a number: write 0 to 255, such as 254",
        ),
        (
            ["-i", "lo", "--count", "0"],
            "--count '0' is not a number of packets: write 1 or more",
        ),
        (
            ["-i", "lo", "--count", "-1"],
            "--count '-1' is not a number of packets: write 1 or more",
        ),
        (["/no/such.pcap"], "can't read '/no/such.pcap': No such file or directory"),
        (["/proc"], "can't read '/proc': Is a directory"),
        (
            ["-i", "lo", "--options", ""],
            (
                "argument --options: not allowed with argument "
                "-i/--interface (cloud-toa decode --help)"
            ),
        ),
        (
            [],
            (
                "one of the arguments FILE -i/--interface --options is required "
                "(cloud-toa decode --help)"
            ),
        ),
    ],
)
def test_refused(arguments: list[str], message: str) -> None:
    assert refused(*arguments) == message


def test_options_need_no_root() -> None:
    done = run("--options", "fe08934dcb0071de", before=UNPRIVILEGED)
    assert (done.returncode, done.stdout) == (0, "203.0.113.222:37709\n")
