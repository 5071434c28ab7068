# SPDX-License-Identifier: Apache-2.0
"""mss.py: what an MSS becomes, and devices of every name and MTU."""

import re
from collections.abc import Mapping
from itertools import pairwise

import pytest

from cloud_toa.isolation import Namespace, run
from cloud_toa.nfqueue import mss, rules, setup
from cloud_toa.option import V4_LENGTH, V6_LENGTH
from cloud_toa.origins import EVERYWHERE

LENGTHS = [V4_LENGTH, V6_LENGTH]
RANGE = re.compile(r"(\d+)-(\d+) : (\d+)")
USUAL = (1460, 1440, 1220, 1380, 1400, 8960, 8940, 536)


def lowered(length: int) -> dict[int, int]:
    """What each MSS becomes, as the map has it."""
    text = mss.maps({})
    _, _, behind = text.partition(f"map less_{length} ")
    found = RANGE.findall(behind.partition("}")[0])
    return {
        size: int(less)
        for low, high, less in found
        for size in range(int(low), int(high) + 1)
    }  # fmt: skip


@pytest.mark.parametrize("length", LENGTHS)
def test_every_mss_leaves_room_for_the_option(length: int) -> None:
    less = lowered(length)
    assert set(less) == set(range(140, 65536))
    assert all(0 < less[size] <= size - length for size in less)
    # None loses much more than it must, and a larger one never becomes smaller.
    assert all(less[size] >= (size - length) * 0.75 for size in less)
    assert all(less[size] <= less[larger] for size, larger in pairwise(less))


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("size", USUAL)
def test_usual_ones_lose_just_the_option(size: int, length: int) -> None:
    assert lowered(length)[size] == size - length


def load(mtus: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """The kernel's maps of devices, by map, device."""
    setup._nft(rules.table(EVERYWHERE, True, mtus, "", others=True))
    return kernel()


def kernel() -> dict[str, dict[str, int]]:
    found = {}
    for name in ("mss_ipv4", "mss_ipv4_named", "mss_ipv6"):
        listed = run("nft", "list", "map", *rules.TABLE.split(), name)
        elements = re.findall(r'"([^"]*)" : (\d+)', listed)
        found[name] = {device: int(size) for device, size in elements}
    return found


@pytest.mark.usefixtures("network")
@pytest.mark.parametrize("mtu", [256, 257, 576, 1280, 1500, 9000, 65535, 65536, 65575, 2**31 - 1])
def test_mtus(mtu: int) -> None:
    most = min(mtu, 65535)
    assert load({"eth0": mtu}) == {
        "mss_ipv4": {"eth0": most - 48},
        "mss_ipv4_named": {"eth0": most - 60},
        "mss_ipv6": {"eth0": most - 80},
    }


@pytest.mark.usefixtures("network")
@pytest.mark.parametrize("mtu", [0, 68, 255])
def test_a_device_that_takes_no_tcp_to_speak_of(mtu: int) -> None:
    assert load({"lo": 65536, "narrow": mtu})["mss_ipv6"] == {"lo": 65455}


@pytest.mark.usefixtures("network")
def test_no_device_at_all() -> None:
    assert load({}) == {"mss_ipv4": {}, "mss_ipv4_named": {}, "mss_ipv6": {}}


@pytest.mark.usefixtures("network")
def test_devices_come_change_and_go() -> None:
    load({"lo": 65536, "eth0": 1500})
    setup.follow({"eth0": 9000, "wg0": 1420})
    assert kernel()["mss_ipv6"] == {"eth0": 8920, "wg0": 1340}
    setup.follow({})
    assert kernel()["mss_ipv6"] == {}


NAMES = (
    "eth0.100", "br-1a2b", "a'b", "$x", "#x", "@x", "!x", "-x", "a;b", "a{b}", "a,b", "a*b",
    "any", "0", "123", "a\\", "a\\b", "a\\nb", "ünü", "END", "EOF", "iifname", "elements",
)  # fmt: skip
UNWRITABLE = ('a"b', '"', "wg0*", "*", "a\\*", "\x01", "\x7f", "a\udcff")


@pytest.mark.parametrize("name", NAMES)
def test_names_of_devices(network: Namespace, name: str) -> None:
    _add_device(name)
    assert setup.device_mtus() == {"lo": 65536, name: 1400, "peer": 1500}
    assert load(setup.device_mtus())["mss_ipv4"] == {"lo": 65487, name: 1352, "peer": 1452}
    setup.follow({name: 1300})
    assert kernel()["mss_ipv4"] == {name: 1252}


@pytest.mark.parametrize("name", UNWRITABLE, ids=ascii)
def test_names_that_nft_cannot_write_are_left_out(network: Namespace, name: str) -> None:
    """nft would take a last ``*`` for any device whose name begins so."""
    _add_device(name)
    assert setup.device_mtus() == {"lo": 65536, name: 1400, "peer": 1500}
    assert load(setup.device_mtus())["mss_ipv4"] == {"lo": 65487, "peer": 1452}


def _add_device(name: str) -> None:
    run("ip", "link", "add", "name", name, "mtu", "1400", "type", "veth", "peer", "name", "peer")
