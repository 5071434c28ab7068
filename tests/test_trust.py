# SPDX-License-Identifier: Apache-2.0
"""trust.py: what a list believes, and that one with a fault is refused whole."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_toa.errors import ToaError
from cloud_toa.option import IPAddress, plain
from cloud_toa.trust import Trust, TrustError

ADDRESSES = "is not an address or CIDR: write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32"
EMPTY = "the trust list is empty: name the edges, such as 192.0.2.0/24, or any"


TAKEN = [
    (["192.0.2.7"], ["192.0.2.7/32"]),
    (["192.0.2.0/24"], ["192.0.2.0/24"]),
    (["2001:db8::7"], ["2001:db8::7/128"]),
    (["2001:db8::/32"], ["2001:db8::/32"]),
    (["192.0.2.0/24,2001:db8::/32"], ["192.0.2.0/24", "2001:db8::/32"]),
    (["192.0.2.7 192.0.2.8"], ["192.0.2.7/32", "192.0.2.8/32"]),
    (["192.0.2.7", "", "192.0.2.8,"], ["192.0.2.7/32", "192.0.2.8/32"]),
    (["192.0.2.7", "192.0.2.7/32"], ["192.0.2.7/32"]),
    (["128.0.0.0/1"], ["128.0.0.0/1"]),
    (["8000::/1"], ["8000::/1"]),
    (["10.0.0.0/255.0.0.0"], ["10.0.0.0/8"]),
    (["::ffff:192.0.2.7"], ["192.0.2.7/32"]),
    (["::ffff:192.0.2.0/120"], ["192.0.2.0/24"]),
    (["::ffff:128.0.0.0/97"], ["128.0.0.0/1"]),
]


@pytest.mark.parametrize(("entries", "networks"), TAKEN)
def test_parse(entries: list[str], networks: list[str]) -> None:
    trust = Trust.parse(entries)
    assert trust.networks == tuple(map(ip_network, networks))
    assert not trust.everyone
    assert str(trust) == " ".join(networks)
    assert Trust.parse([str(trust)]) == trust


REFUSED = [
    ([], EMPTY),
    ([""], EMPTY),
    ([" , "], EMPTY),
    (["edge"], f"'edge' {ADDRESSES}"),
    (["ANY"], f"'ANY' {ADDRESSES}"),
    (["192.0.2"], f"'192.0.2' {ADDRESSES}"),
    (["192.0.2.256"], f"'192.0.2.256' {ADDRESSES}"),
    (["192.0.2.0/33"], f"'192.0.2.0/33' {ADDRESSES}"),
    (["192.0.2.0/"], f"'192.0.2.0/' {ADDRESSES}"),
    (["192.0.2.0/-1"], f"'192.0.2.0/-1' {ADDRESSES}"),
    (["192.0.2.0/24/24"], f"'192.0.2.0/24/24' {ADDRESSES}"),
    (["010.0.0.1"], f"'010.0.0.1' {ADDRESSES}"),
    (["192.0.2.7:80"], f"'192.0.2.7:80' {ADDRESSES}"),
    (["[2001:db8::7]"], f"'[2001:db8::7]' {ADDRESSES}"),
    (["2001:db8::/129"], f"'2001:db8::/129' {ADDRESSES}"),
    (["3221225985"], f"'3221225985' {ADDRESSES}"),
    (["192.0.2.0/24", "wrong"], f"'wrong' {ADDRESSES}"),
    (
        ["192.0.2.7/24"],
        "'192.0.2.7/24' has bits set behind its prefix: did you mean 192.0.2.0/24?",
    ),
    (
        ["2001:db8::7/64"],
        "'2001:db8::7/64' has bits set behind its prefix: did you mean 2001:db8::/64?",
    ),
    (
        ["192.0.2.7/0"],
        "'192.0.2.7/0' has bits set behind its prefix: did you mean 0.0.0.0/0?",
    ),
    (["0.0.0.0/0"], "'0.0.0.0/0' trusts everyone: if that is meant, write any"),
    (["0.0.0.0/0.0.0.0"], "'0.0.0.0/0.0.0.0' trusts everyone: if that is meant, write any"),
    (["::/0"], "'::/0' trusts everyone: if that is meant, write any"),
    (
        ["::ffff:0:0/96"],
        "'::ffff:0:0/96' holds every IPv4 address: if that is meant, write any",
    ),
    (["::/64"], "'::/64' holds every IPv4 address: if that is meant, write any"),
    (["::/1"], "'::/1' holds every IPv4 address: if that is meant, write any"),
    (
        ["fe80::1%eth0"],
        "'fe80::1%eth0' names an interface, which trust can't depend on: leave it out",
    ),
    (
        ["any", "192.0.2.7"],
        "'any' trusts everyone: leave the other entries of --trust out",
    ),
    (["192.0.2.7,any"], "'any' trusts everyone: leave the other entries of --trust out"),
    (["any", "wrong"], "'any' trusts everyone: leave the other entries of --trust out"),
]


@pytest.mark.parametrize(("entries", "message"), REFUSED)
def test_refused(entries: list[str], message: str) -> None:
    with pytest.raises(TrustError) as refused:
        Trust.parse(entries)
    assert str(refused.value) == message
    assert isinstance(refused.value, ToaError)


def test_any_is_everyone() -> None:
    trust = Trust.parse(["any"])
    assert trust == Trust(everyone=True)
    assert str(trust) == "any"
    assert ip_address("192.0.2.7") in trust
    assert ip_address("2001:db8::7") in trust


def test_nobody_is_trusted_unless_listed() -> None:
    assert ip_address("127.0.0.1") not in Trust()
    assert ip_address("::1") not in Trust()


@pytest.mark.parametrize(
    ("source", "believed"),
    [
        ("192.0.2.0", True),
        ("192.0.2.255", True),
        ("192.0.1.255", False),
        ("192.0.3.0", False),
        ("::ffff:192.0.2.7", True),
        ("::ffff:192.0.3.7", False),
        ("::192.0.2.7", False),
        ("2001:db8::", True),
        ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", True),
        ("2001:db9::", False),
        ("198.51.100.7", True),
        ("198.51.100.8", False),
    ],
)
def test_contains(source: str, believed: bool) -> None:
    trust = Trust.parse(["192.0.2.0/24", "::ffff:198.51.100.7", "2001:db8::/32"])
    assert (ip_address(source) in trust) is believed


@given(st.text(max_size=30))
def test_any_text_is_a_list_or_a_trust_error(text: str) -> None:
    try:
        trust = Trust.parse([text])
    except TrustError:
        return
    assert trust.everyone or trust.networks


addresses = st.ip_addresses().filter(lambda ip: plain(ip) == ip)


@given(addresses, addresses, st.integers(1, 128))
def test_contains_compares_the_prefix(edge: IPAddress, source: IPAddress, prefix: int) -> None:
    network = ip_network(f"{edge}/{min(prefix, edge.max_prefixlen)}", strict=False)
    trust = Trust((network,))
    assert edge in trust
    host_bits = network.max_prefixlen - network.prefixlen
    same = int(source) >> host_bits == int(edge) >> host_bits
    assert (source in trust) is (same and source.version == edge.version)
