# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa origin`` where the module is loaded."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_toa import kmod
from cloud_toa.bpf import origin
from cloud_toa.cli import main
from cloud_toa.demo.lab import Lab
from tests.netns.receivers import Module

ATTACH = ["origin", "attach", "--trust", "192.0.2.1", "2001:db8::/32"]


@pytest.fixture
def module() -> Iterator[Module]:
    module = Module()
    module.receive(Path(), trust="10.9.0.1")
    yield module
    module.detach()


def test_attach_status_detach(module: Module, capsys: pytest.CaptureFixture[str]) -> None:
    by_module = [*ATTACH, "--kinds-v4", "200,254", "--datapath", "kmod"]
    assert main(by_module) == 0
    assert capsys.readouterr().out == "origin: toa.ko has these settings\n"
    assert main(by_module) == 0
    assert capsys.readouterr().out == "origin: toa.ko: nothing changed\n"

    assert main(["origin", "status", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["datapath"] == "kmod"
    assert shown["settings"] == {
        "trust": ["192.0.2.1/32", "2001:db8::/32"],
        "kinds_v4": [254, 200],
        "kinds_v6": [254],
        "kinds_client_ip": [],
        "save_syn": False,
        "chain": False,
        "table_size": 1 << 20,
    }
    assert shown["counters"] == {
        "found": 0, "absent": 0, "getname_toa_ok": 0, "getname_toa_mismatch": 0,
        "getname_toa_bypass": shown["counters"]["getname_toa_bypass"], "getname_toa_empty": 0,
        "ip6_address_alloc": 0, "ip6_address_free": 0, "untrusted": 0, "malformed": 0,
        "duplicate": 0, "unusable": 0, "local": 0, "chained": 0, "table_full": 0,
        "no_memory": 0, "probes_missed": 0, "entries": 0,
    }  # fmt: skip
    assert main(["origin", "status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "origin: by toa.ko, on the whole host"
    assert "  trust            192.0.2.1/32,2001:db8::/32" in lines

    assert main(["origin", "detach"]) == 0
    assert capsys.readouterr().out == "origin: toa.ko unloaded\n"
    assert not kmod.loaded()
    assert main(["origin", "status"]) == 1


def test_what_the_module_can_not_do(module: Module, capsys: pytest.CaptureFixture[str]) -> None:
    before = kmod.status()
    for option, why in (("--cgroup=/", "leave --cgroup out"), ("--save-syn", "keeps no SYNs")):
        assert main([*ATTACH, "--datapath", "kmod", option]) == 2
        assert why in capsys.readouterr().err
    assert kmod.status() == before


def test_probes_are_switched_off(module: Module, capsys: pytest.CaptureFixture[str]) -> None:
    module.detach()
    switch = Path("/proc/sys/kernel/ftrace_enabled")
    switch.write_text("0")
    try:
        assert main([*ATTACH, "--datapath", "kmod"]) == 2
        assert "sysctl -w kernel.ftrace_enabled=1" in capsys.readouterr().err
        assert not kmod.loaded()
    finally:
        switch.write_text("1")


def test_both_at_once(
    lab: Lab,
    servers: Path,
    module: Module,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where the kernel takes the programs, they are what is attached; both are shown, both go."""
    assert main([*ATTACH, "--cgroup", str(servers)]) == 0
    assert f"origin: attached to {servers}\n" in capsys.readouterr().out
    assert main(["origin", "status", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["datapath"], shown["beside"]["datapath"]) == ("bpf", "kmod")
    assert shown["beside"]["settings"]["trust"] == ["10.9.0.1/32"]
    assert main(["origin", "detach"]) == 0
    assert not kmod.loaded()
    assert origin.status() is None
