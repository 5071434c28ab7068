# SPDX-License-Identifier: Apache-2.0
"""setup.py: what the kernel has before, between and after, among what others have set up."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_toa.doctor.table import Way, choose
from cloud_toa.errors import ToaError
from cloud_toa.isolation import Namespace, run
from cloud_toa.nfqueue import rules, setup
from cloud_toa.nfqueue.rules import Queues
from cloud_toa.origins import Origins
from tests.nfqueue.kernel import Kernel, kernel

BY_NFT = choose() is Way.NFT
ORIGINS = Origins.parse(["192.0.2.0/24", "[2001:db8::7]:443"])
BOTH = [4, 6]

FOREIGN = """
table inet firewall {
  chain input { type filter hook input priority filter; policy accept; ct state invalid drop; }
}
table ip nat {
  chain postrouting { type nat hook postrouting priority srcnat; oifname "eth9" masquerade; }
}
add table ip cloud_toa
add counter ip cloud_toa queued
add table ip6 cloud_toa
add counter ip6 cloud_toa queued
add table inet cloud_toa_too
add counter inet cloud_toa_too queued
"""
FOREIGN_IP = """
rule add priority 1802 fwmark 0x70a1 lookup 1802
rule add priority 1802 fwmark 0x70a00000 lookup 1802
rule add priority 1803 fwmark 0x70a00000/0xffff0000 lookup 1802
rule add priority 1802 fwmark 0x70a00000/0xffff0000 lookup 1803
rule add priority 100 from 192.0.2.1 lookup 100
route add local 198.51.100.0/24 dev lo table 1802
route add unreachable 203.0.113.0/24 table 1802 proto 99
route add local default dev lo table 1803 proto 112
"""
FOREIGN_IP6 = """
rule add priority 1802 fwmark 0x70a00000 lookup 1802
route add local 2001:db8:9::/48 dev lo table 1802
route add local default dev lo table 1803 proto 112
"""


def install(control: bool = False) -> None:
    setup.install(ORIGINS, control, Queues(1, 2), by_nft=BY_NFT)


@pytest.fixture
def foreign(network: Namespace) -> Kernel:
    """Others' tables, rules and routes; some of them nearly like ours."""
    run("nft", "-f", "-", said=FOREIGN)
    network.ip(*FOREIGN_IP.split("\n"))
    run("ip", "-6", "-n", network.name, "-batch", "-", said=FOREIGN_IP6)
    return kernel()


def test_twice_is_the_same_as_once_and_removal_restores(foreign: Kernel) -> None:
    install()
    once = kernel()
    assert once != foreign
    assert setup.is_there()
    install()
    assert kernel() == once
    assert setup.remove()
    assert kernel() == foreign
    assert not setup.remove()
    assert kernel() == foreign
    assert not setup.is_there()


def test_other_settings_take_the_former_ones_place(foreign: Kernel) -> None:
    install()
    first = kernel()
    install(control=True)
    assert kernel() != first
    install()
    assert kernel() == first
    setup.remove()
    assert kernel() == foreign


@pytest.mark.usefixtures("network")
def test_both_families_get_a_rule_and_a_route() -> None:
    install()
    for family in BOTH:
        assert run("ip", *rules.policy_rule(family, "show").split()).count("\n") == 1
        assert run("ip", *rules.our_routes(family, "show").split()).count("\n") == 1


@pytest.mark.usefixtures("network")
def test_the_queue_is_the_last_thing_in_its_chain() -> None:
    install()
    listed = run("nft", "list", "chain", *rules.TABLE.split(), rules.TO_QUEUE)
    assert "queue" in listed.splitlines()[-3].lower()


def _only_a_rule(family: int) -> None:
    run("ip", *rules.policy_rule(family, "add").split())


def _only_a_route(family: int) -> None:
    run("ip", *rules.route(family).split())


def _only_the_table(_: int) -> None:
    run("nft", "-f", "-", said=rules.table(ORIGINS, False, {}, "", others=True))


@pytest.mark.parametrize("family", BOTH)
@pytest.mark.parametrize("left", [_only_a_rule, _only_a_route, _only_the_table])
def test_left_overs_of_half_a_setup(
    foreign: Kernel, left: Callable[[int], None], family: int
) -> None:
    left(family)
    assert kernel() != foreign
    assert setup.remove()
    assert kernel() == foreign
    left(family)
    install()
    whole = kernel()
    setup.remove()
    install()
    assert kernel() == whole
    setup.remove()
    assert kernel() == foreign


@pytest.mark.parametrize("family", BOTH)
def test_a_default_route_of_others_in_our_table_is_not_replaced(
    foreign: Kernel, family: int
) -> None:
    theirs = f"-{family} route add local default dev lo table 1802 proto 99"
    run("ip", *theirs.split())
    before = kernel()
    with pytest.raises(ToaError, match="File exists"):
        install()
    assert kernel() == before != foreign


@pytest.mark.parametrize("program", ["nft", "ip"])
def test_a_program_that_fails_undoes_all(
    foreign: Kernel, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = tmp_path / program
    failing.write_text("#!/bin/sh\necho 'it is broken' >&2\nexit 1\n")
    failing.chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        with pytest.raises(ToaError, match="it is broken"):
            install()
    assert kernel() == foreign


def test_a_queue_that_the_kernel_has_not_undoes_all(foreign: Kernel) -> None:
    with pytest.raises(ToaError):
        # Numbers have 16 bits in the kernel.
        setup.install(ORIGINS, False, Queues(65535, 65536), by_nft=True)
    assert kernel() == foreign


@pytest.mark.skipif(BY_NFT, reason="this kernel has nft's queue statement")
def test_a_kernel_without_the_queue_statement_undoes_all(foreign: Kernel) -> None:
    with pytest.raises(ToaError, match="nft refused our table"):
        setup.install(ORIGINS, False, Queues(1, 2), by_nft=True)
    assert kernel() == foreign


def test_without_ipv6(network: Namespace) -> None:
    assert setup.families() == [4, 6]
    network.sysctl("net.ipv6.conf.lo.disable_ipv6", 1)
    assert setup.families() == [4]
    before = kernel()
    install()
    assert run("ip", *rules.policy_rule(6, "show").split()) == ""
    setup.remove()
    assert kernel() == before


def test_ipv6_that_is_switched_off_in_the_meantime(network: Namespace) -> None:
    install()
    network.sysctl("net.ipv6.conf.lo.disable_ipv6", 1)
    assert setup.remove()
    assert run("ip", *rules.policy_rule(6, "show").split()) == ""
    assert run("ip", *rules.our_routes(6, "show").split()) == ""


def test_the_tables_counters(network: Namespace) -> None:
    assert setup.counters() == {}
    install()
    assert setup.counters() == {"queued": 0, "syn_without": 0, "local": 0}
    network.ip("link set lo up")
    setup.remove()
    assert setup.counters() == {}


@pytest.mark.parametrize("program", ["nft", "ip"])
def test_what_is_missing_is_said_with_its_remedy(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in {"nft", "ip"} - {program}:
        (tmp_path / other).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    setup.require(auto_setup=False)
    with pytest.raises(ToaError, match=f"^{program} is missing: apt-get install .* or dnf install"):
        setup.require(auto_setup=True)
