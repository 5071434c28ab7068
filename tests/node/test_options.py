# SPDX-License-Identifier: Apache-2.0
"""options.py and the command line in front of it: the same options in every spelling."""

import argparse
import os
from pathlib import Path
from typing import Any

import pytest

from cloud_toa.cli import run
from cloud_toa.errors import ToaError
from cloud_toa.nfqueue.rules import Queues
from cloud_toa.node import options
from cloud_toa.node.settings import RunSettings
from cloud_toa.origins import EVERYWHERE, Origins

VALUES = {
    "option-type": "252",
    "option-type-v4": "200",
    "option-type-v6": "253",
    "min-queue-id": "3",
    "max-queue-id": "7",
    "datapath": "queue",
    "sock": "/run/toa.sock",
    "sock-group": "haproxy",
    "metrics": "127.0.0.1:9100",
    "compat": "edge-toa",
    "config": "/etc/toa.toml",
}
LISTS = {"origin": "192.0.2.0/24:443", "cgroup": "haproxy.service"}
SWITCHES = ("auto-setup", "debug", "print-rules", "cleanup")


def parsed(*arguments: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    run.add(parser.add_subparsers())
    given = vars(parser.parse_args(["run", *arguments]))
    del given["run"]
    return given


def name_of(option: str) -> str:
    return option.replace("-", "_")


@pytest.mark.parametrize("dashes", ["-", "--"])
@pytest.mark.parametrize("option", [*VALUES, *LISTS])
def test_a_value_behind_an_equals_sign_or_a_space(option: str, dashes: str) -> None:
    value = {**VALUES, **LISTS}[option]
    expected = {name_of(option): [value] if option in LISTS else value}
    assert parsed(f"{dashes}{option}={value}") == expected
    assert parsed(f"{dashes}{option}", value) == expected


@pytest.mark.parametrize("dashes", ["-", "--"])
@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch(switch: str, dashes: str) -> None:
    name = name_of(switch)
    assert parsed(f"{dashes}{switch}") == {name: "true"}
    for value in ("true", "false"):
        assert parsed(f"{dashes}{switch}={value}") == {name: value}
        assert parsed(f"{dashes}{switch}", value) == {name: value}
    assert parsed(f"{dashes}{switch}", "-origin=any") == {name: "true", "origin": ["any"]}


@pytest.mark.parametrize(
    "arguments",
    [["-auto-setup=yes"], ["-option-types=254"], ["-origins=any"], ["any"], ["-sock"]],
    ids=" ".join,
)
def test_what_is_no_option(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parsed(*arguments)
    assert end.value.code == 2
    assert arguments[0].split("=")[0] in capsys.readouterr().err


def test_nothing_given_is_nothing() -> None:
    assert parsed() == {}


def test_the_documented_command_line() -> None:
    given = parsed(
        *("-option-type-v4=254", "-option-type-v6=254", "-min-queue-id=1"),
        *("-max-queue-id=12", "-auto-setup", "-origin=any"),
    )
    assert options.settings(given) == RunSettings(
        EVERYWHERE, Queues(1, 12), 254, 254, auto_setup=True, datapath="auto"
    )


def test_defaults() -> None:
    given = parsed("-origin", "192.0.2.7")
    assert options.settings(given) == RunSettings(
        Origins.parse(["192.0.2.7"]), Queues(1, os.cpu_count() or 1)
    )
    moved = options.settings(parsed("-origin=any", "-min-queue-id=100"))
    assert moved.queues == Queues(100, 99 + (os.cpu_count() or 1))
    last = options.settings(parsed("-origin=any", "-min-queue-id=65535"))
    assert last.queues == Queues(65535, 65535)


def test_all_of_them() -> None:
    words = [f"-{option}={value}" for option, value in {**VALUES, **LISTS}.items()]
    settings = options.settings(parsed(*words, "-origin=2001:db8::7", "-auto-setup=false"))
    assert settings == RunSettings(
        Origins.parse(["192.0.2.0/24:443", "2001:db8::7"]),
        Queues(3, 7),
        200,
        253,
        auto_setup=False,
        datapath="queue",
        cgroups=("haproxy.service",),
        sock=Path("/run/toa.sock"),
        sock_group="haproxy",
        metrics=("127.0.0.1", 9100),
        patience=30.0,
    )


def test_a_drop_in() -> None:
    given = parsed("-option-type=200", "-option-type-v6=253", "-compat", "edge-toa")
    settings = options.settings(given)
    assert (settings.option_type_v4, settings.option_type_v6) == (200, 253)
    assert settings.sock == Path("/tmp/edge-toa.sock")
    assert settings.origins == EVERYWHERE
    assert settings.only_named
    listed = options.settings({**given, "origin": "192.0.2.0/24", "sock": "/run/toa.sock"})
    assert str(listed.origins) == "192.0.2.0/24"
    assert not listed.only_named
    assert listed.sock == Path("/run/toa.sock")
    with pytest.raises(ToaError, match="-compat 'x' is unknown: write edge-toa, or leave it out"):
        options.settings({"compat": "x", "origin": "any"})


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "toa.toml"


def test_a_file_says_the_same(config: Path) -> None:
    config.write_text("""
        origin = ["192.0.2.0/24:443", "2001:db8::7"]
        cgroup = "haproxy.service"
        option_type = 252
        compat = "edge-toa"
        option_type_v4 = 200
        option_type_v6 = 253
        min_queue_id = 3
        max_queue_id = 7
        auto_setup = true
        debug = false
        datapath = "queue"
        sock = "/run/toa.sock"
        sock_group = "haproxy"
        metrics = "127.0.0.1:9100"
    """)
    words = [f"-{option}={value}" for option, value in {**VALUES, **LISTS}.items()]
    given = options.from_file(config)
    assert options.settings(given) == options.settings(
        parsed(*words, "-origin=2001:db8::7", "-auto-setup")
    )
    assert options.is_on(given, "auto_setup")
    assert not options.is_on(given, "debug")
    assert not options.is_on({}, "debug")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("option-type-v4 = 254", "'option-type-v4' is no option: did you mean option_type_v4?"),
        ("orign = 'any'", "'orign' is no option: did you mean origin?"),
        ("speed = 1", "'speed' is no option: known are origin, cgroup, auto_setup, "),
        ("cleanup = true", "'cleanup' is no option: "),
        ("config = 'other.toml'", "'config' is no option: "),
        ("origin = 7", "origin = 7: write a list of strings"),
        ("origin = true", "origin = True: write a list of strings"),
        ("origin = ['any', 1]", "origin = ['any', 1]: write a list of strings"),
        ("cgroup = {a = 1}", "cgroup = {'a': 1}: write a list of strings"),
        ("auto_setup = 1", "auto_setup = 1: write true or false"),
        ("auto_setup = 'true'", "auto_setup = 'true': write true or false"),
        ("option_type_v4 = '254'", "option_type_v4 = '254': write a number"),
        ("option_type_v6 = 254.0", "option_type_v6 = 254.0: write a number"),
        ("min_queue_id = true", "min_queue_id = True: write a number"),
        ("max_queue_id = 1979-05-27", "write a number"),
        ("sock = 1", "sock = 1: write a string"),
        ("metrics = 9100", "metrics = 9100: write a string"),
        ("datapath = ['bpf']", "datapath = ['bpf']: write a string"),
        ("datapath = false", "datapath = False: write a string"),
    ],
)
def test_a_file_with_a_fault(config: Path, line: str, message: str) -> None:
    config.write_text(line)
    with pytest.raises(ToaError) as refused:
        options.from_file(config)
    assert str(refused.value).startswith(f"-config {config}: ")
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [b"origin", b"origin = any", b"a = 1\na = 2", b"\xff\xfe", b"a = " + b"9" * 5000, b"[a", b"\0"],
    ids=lambda content: content[:12],
)
def test_what_is_not_toml(config: Path, content: bytes) -> None:
    config.write_bytes(content)
    with pytest.raises(ToaError, match=f"^-config {config} is not TOML: "):
        options.from_file(config)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ToaError, match=r"^-config .*/none\.toml: No such file or directory$"):
        options.from_file(tmp_path / "none.toml")
    with pytest.raises(ToaError, match="Is a directory"):
        options.from_file(tmp_path)


def test_all_that_is_wrong_in_a_file(tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text('orgin = "any"\nauto_setup = "yes"\nsock = 5\ndebug = true\n')
    with pytest.raises(ToaError) as refused:
        options.from_file(config)
    assert [line.split(": ", 1)[1] for line in refused.value.lines] == [
        "'orgin' is no option: did you mean origin?",
        "auto_setup = 'yes': write true or false",
        "sock = 5: write a string",
    ]
