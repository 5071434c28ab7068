# SPDX-License-Identifier: Apache-2.0
"""toa.ko's parameters: what it refuses, says and shows. Where the module can be loaded."""

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cloud_toa import kmod
from cloud_toa.config import OriginSettings
from cloud_toa.errors import ToaError
from cloud_toa.kmod import SYS
from cloud_toa.option import Kinds
from cloud_toa.trust import Trust
from tests.netns.module_kernel import KernelLog
from tests.netns.receivers import MODULE
from tests.test_trust import REFUSED, TAKEN

PROBES = Path("/sys/kernel/debug/kprobes/list")
JUNK = [
    (["trust=10.0.0.1/8"], "trust: '10.0.0.1/8' has bits set behind its prefix"),
    (["trust=10.0.0.0/8,edge"], "trust: 'edge' is not an address or CIDR"),
    (["trust=any,10.0.0.0/8"], "trust: 'any' trusts everyone: leave the other entries out"),
    (["trust=0.0.0.0/0"], "trust: '0.0.0.0/0' trusts everyone: if that is meant, write any"),
    (["trust=" + ",".join(["::1"] * 513)], "trust: '::1' is one network more than the 512"),
    (["kinds_v4=34"], "kinds_v4: '34' is in use for something else"),
    (["kinds_v6=256"], "kinds_v6: '256' is not an option kind"),
    (["kinds_v4=+254"], "kinds_v4: '+254' is not an option kind"),
    (["kinds_client_ip=x"], "kinds_client_ip: 'x' is not an option kind"),
    (["kinds_v4=", "kinds_v6="], "kinds_v4, kinds_v6 and kinds_client_ip leave no option kind"),
    (["chain=perhaps"], "chain: 'perhaps' is not yes or no: write Y or N"),
    (["chain=Y", "trust=any"], "chain and trust any exclude each other"),
    (["table_size=0"], "table_size: '0' is not a number from 1 to"),
    (["table_size=many"], "table_size: 'many' is not a number from 1 to"),
]


@pytest.fixture
def said() -> Iterator["KernelLog"]:
    yield KernelLog()
    kmod.detach()


def probes() -> list[str]:
    if not PROBES.exists():
        subprocess.run(["mount", "-t", "debugfs", "debugfs", "/sys/kernel/debug"], check=True)
    return PROBES.read_text().splitlines()


def refused(parameter: Path, text: str) -> None:
    with suppress(OSError):
        parameter.write_text(text)
        pytest.fail(f"{text!r} was taken")


@pytest.mark.parametrize(("parameters", "line"), JUNK, ids=[line for _, line in JUNK])
def test_junk_is_refused(said: KernelLog, parameters: list[str], line: str) -> None:
    done = subprocess.run(["insmod", str(MODULE), *parameters], capture_output=True, check=False)
    assert done.returncode
    assert f"toa: {line}" in str(said)
    assert not kmod.loaded()
    assert not kmod.STATS.exists()
    assert probes() == []


def test_hooks_and_their_end(said: KernelLog) -> None:
    subprocess.run(["insmod", str(MODULE), "trust=10.9.0.1"], check=True)
    assert len(probes()) == 5
    assert kmod.STATS.exists()
    assert kmod.detach()
    assert probes() == []
    assert "toa: unloaded" in str(said)


def test_nobody_is_trusted_unless_named(said: KernelLog) -> None:
    subprocess.run(["insmod", str(MODULE)], check=True)
    assert "toa: trust is empty, so no client is believed" in str(said)
    status = kmod.status()
    assert status is not None
    assert status.settings.trust == Trust()


def test_the_lists_that_python_takes_and_refuses(said: KernelLog) -> None:
    """A list that is refused leaves the one before."""
    subprocess.run(["insmod", str(MODULE), "trust=192.0.2.1"], check=True)
    parameter = SYS / "parameters/trust"
    for entries, networks in TAKEN:
        if "/255." in entries[0]:
            continue  # a netmask, which the module leaves to Python
        parameter.write_text(" ".join(entries))
        assert dict.fromkeys(parameter.read_text().strip().split(",")) == dict.fromkeys(networks)
    before = parameter.read_text()
    for entries, _ in REFUSED:
        if not " ".join(entries).strip(" ,"):
            continue  # nobody, which is for the command line to refuse
        refused(parameter, " ".join(entries))
        assert parameter.read_text() == before
    assert "toa: trust: " in str(said)


@pytest.mark.parametrize("shape", ["192.168.100.{}", "192.168.100.{}/32"])
def test_a_list_that_is_longer_than_a_page(said: KernelLog, shape: str) -> None:
    """Where it is shown; and as it is given, which the kernel would hand on in pieces."""
    many = ",".join(shape.format(each) for each in range(240))
    assert (len(many) < 4096) == (shape[-1] == "}")
    done = subprocess.run(
        ["insmod", str(MODULE), f"trust={many}"], capture_output=True, check=False
    )
    assert done.returncode
    subprocess.run(["insmod", str(MODULE), "trust=192.0.2.1"], check=True)
    parameter = SYS / "parameters/trust"
    refused(parameter, many)
    assert parameter.read_text() == "192.0.2.1/32\n"
    assert "toa: trust: '' is longer than a page" in str(said)


def test_kinds_can_not_all_be_taken_away(said: KernelLog) -> None:
    subprocess.run(["insmod", str(MODULE), "kinds_v6="], check=True)
    parameter = SYS / "parameters/kinds_v4"
    parameter.write_text("200, 254")
    assert parameter.read_text() == "254,200\n"
    refused(parameter, "\n")
    assert parameter.read_text() == "254,200\n"
    assert "would leave no option kind to read" in str(said)


def test_attach_from_python_to_one_that_is_there(said: KernelLog) -> None:
    first = OriginSettings(
        Trust.parse(["10.9.0.1 2001:db8::/32"]), Kinds((254, 200), (253,), (28,))
    )
    assert kmod.attach(first, MODULE)
    assert not kmod.attach(first, MODULE)
    status = kmod.status()
    assert status is not None
    assert status.settings == first
    second = OriginSettings(Trust.parse(["any"]), Kinds((), (254,)))
    assert kmod.attach(second, MODULE)
    status = kmod.status()
    assert status is not None
    assert status.settings == second
    # A chain and trust in everyone exclude each other, in whatever order they are written.
    third = OriginSettings(Trust.parse(["10.9.0.1"]), Kinds((), (254,)), chain=True)
    for settings in (third, second, third):
        assert kmod.attach(settings, MODULE)
        status = kmod.status()
        assert status is not None
        assert status.settings == settings
    refused(SYS / "parameters/trust", "any")
    assert "toa: trust: '' and trust any exclude each other" in str(said)
    assert (SYS / "parameters/chain").read_text() == "Y\n"
    with pytest.raises(ToaError, match="keeps no SYNs"):
        kmod.attach(OriginSettings(Trust.parse(["any"]), save_syn=True), MODULE)
