# SPDX-License-Identifier: Apache-2.0
"""origins.py: what a list of destinations holds, and that one with a fault is refused whole."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_toa.errors import ToaError
from cloud_toa.option import IPAddress, plain, usable
from cloud_toa.origins import EVERYWHERE, Destination, Origins, OriginsError

ADDRESSES = (
    "is not an address or CIDR: write 192.0.2.7, 192.0.2.0/24:443, 2001:db8::7 or [2001:db8::7]:443"
)
EMPTY = "the list of origins is empty: name them, such as 192.0.2.7:443, or any"
ALONE = "'any' means every destination: leave the other entries of --origin out"
NAME = "is a host name, which can change its address: write the address, such as 192.0.2.7:443"
NOWHERE = "is nowhere to connect to: write the origin's own address"


def no_port(word: str, port: str) -> str:
    return f"{word!r} has no port {port!r}: write 1 to 65535, or leave it out for every port"


@pytest.mark.parametrize(
    ("entry", "network", "port", "written"),
    [
        ("10.9.0.2", "10.9.0.2/32", None, "10.9.0.2"),
        ("10.9.0.2/32", "10.9.0.2/32", None, "10.9.0.2"),
        ("10.9.0.0/24", "10.9.0.0/24", None, "10.9.0.0/24"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8", None, "10.0.0.0/8"),
        ("10.9.0.2:80", "10.9.0.2/32", 80, "10.9.0.2:80"),
        ("10.9.0.2:65535", "10.9.0.2/32", 65535, "10.9.0.2:65535"),
        ("10.9.0.2:0080", "10.9.0.2/32", 80, "10.9.0.2:80"),
        ("10.9.0.0/24:80", "10.9.0.0/24", 80, "10.9.0.0/24:80"),
        ("128.0.0.0/1:1", "128.0.0.0/1", 1, "128.0.0.0/1:1"),
        ("2001:db8::1", "2001:db8::1/128", None, "2001:db8::1"),
        ("2001:db8::1:80", "2001:db8::1:80/128", None, "2001:db8::1:80"),
        ("2001:db8::/64", "2001:db8::/64", None, "2001:db8::/64"),
        ("[2001:db8::1]", "2001:db8::1/128", None, "2001:db8::1"),
        ("[2001:db8::]/64", "2001:db8::/64", None, "2001:db8::/64"),
        ("[2001:db8::1]:80", "2001:db8::1/128", 80, "[2001:db8::1]:80"),
        ("[2001:db8::]/64:80", "2001:db8::/64", 80, "[2001:db8::]/64:80"),
        ("[2001:db8::/64]:80", "2001:db8::/64", 80, "[2001:db8::]/64:80"),
        ("::ffff:10.9.0.2", "10.9.0.2/32", None, "10.9.0.2"),
        ("[::ffff:10.9.0.2]:80", "10.9.0.2/32", 80, "10.9.0.2:80"),
        ("[::ffff:10.9.0.0]/120:80", "10.9.0.0/24", 80, "10.9.0.0/24:80"),
    ],
)
def test_parse(entry: str, network: str, port: int | None, written: str) -> None:
    origins = Origins.parse([entry])
    assert origins == Origins((Destination(ip_network(network), port),))
    assert str(origins) == written
    assert Origins.parse([written]) == origins


@pytest.mark.parametrize(
    ("entries", "written"),
    [
        (["10.9.0.2:80,10.9.0.3", "fd09::2 [fd09::]/64:1"],
         "10.9.0.2:80 10.9.0.3 fd09::2 [fd09::]/64:1"),
        (["10.9.0.2", "", ",10.9.0.2/32"], "10.9.0.2"),
        (["10.9.0.2", "10.9.0.2:80"], "10.9.0.2 10.9.0.2:80"),
    ],
)  # fmt: skip
def test_lists(entries: list[str], written: str) -> None:
    assert str(Origins.parse(entries)) == written


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], EMPTY),
        (["", " , "], EMPTY),
        (["any", "10.9.0.2"], ALONE),
        (["any,any"], ALONE),
        (["any:80"], "'any:80': 'any' is every port too, write it alone"),
        (["origin.example"], f"'origin.example' {NAME}"),
        (["origin.example:80"], f"'origin.example:80' {NAME}"),
        (["localhost"], f"'localhost' {NAME}"),
        (["ANY"], f"'ANY' {NAME}"),
        (["10.9.0"], f"'10.9.0' {ADDRESSES}"),
        (["10.9.0.256"], f"'10.9.0.256' {ADDRESSES}"),
        (["010.9.0.2"], f"'010.9.0.2' {ADDRESSES}"),
        (["10.9.0.0/33"], f"'10.9.0.0/33' {ADDRESSES}"),
        (["10.9.0.2:80/32"], no_port("10.9.0.2:80/32", "80/32")),
        (["[10.9.0.2]:80"], f"'[10.9.0.2]:80' {ADDRESSES}"),
        (["[fd09::2"], f"'[fd09::2' {ADDRESSES}"),
        (["fd09::2]:80"], f"'fd09::2]:80' {ADDRESSES}"),
        (["[fd09::2]80"], f"'[fd09::2]80' {ADDRESSES}"),
        (["[fd09::/64]/64:80"], f"'[fd09::/64]/64:80' {ADDRESSES}"),
        (["fd09::/64:80"], f"'fd09::/64:80' {ADDRESSES}"),
        (["3221225985"], f"'3221225985' {ADDRESSES}"),
        ([":80"], f"':80' {ADDRESSES}"),
        (["10.9.0.2", "10.9.0"], f"'10.9.0' {ADDRESSES}"),
        (["10.9.0.2:0"], no_port("10.9.0.2:0", "0")),
        (["10.9.0.2:"], no_port("10.9.0.2:", "")),
        (["10.9.0.2:65536"], no_port("10.9.0.2:65536", "65536")),
        (["10.9.0.2:http"], no_port("10.9.0.2:http", "http")),
        (["10.9.0.2:-1"], no_port("10.9.0.2:-1", "-1")),
        (["[fd09::2]:"], no_port("[fd09::2]:", "")),
        (["[fd09::2]:000080"], no_port("[fd09::2]:000080", "000080")),
        (["10.9.0.2/24:80"],
         "'10.9.0.2/24:80' has bits set behind its prefix: did you mean 10.9.0.0/24?"),
        (["fd09::2/64"], "'fd09::2/64' has bits set behind its prefix: did you mean fd09::/64?"),
        (["0.0.0.0/0"], "'0.0.0.0/0' holds every address: if that is meant, write any"),
        (["0.0.0.0/0:80"], "'0.0.0.0/0:80' holds every address: if that is meant, write any"),
        (["::/0"], "'::/0' holds every address: if that is meant, write any"),
        (["::/64"], "'::/64' holds every IPv4 address: if that is meant, write any"),
        (["::ffff:0:0/96"],
         "'::ffff:0:0/96' holds every IPv4 address: if that is meant, write any"),
        (["fe80::1%eth0"],
         "'fe80::1%eth0' names an interface, which origins can't depend on: leave it out"),
        (["[fe80::1%eth0]:80"],
         "'[fe80::1%eth0]:80' names an interface, which origins can't depend on: leave it out"),
        (["0.0.0.0"], f"'0.0.0.0' {NOWHERE}"),
        (["::"], f"'::' {NOWHERE}"),
        (["255.255.255.255"], f"'255.255.255.255' {NOWHERE}"),
        (["224.0.0.0/4:80"], f"'224.0.0.0/4:80' {NOWHERE}"),
        (["[ff02::1]:80"], f"'[ff02::1]:80' {NOWHERE}"),
        (["::ffff:224.0.0.1"], f"'::ffff:224.0.0.1' {NOWHERE}"),
    ],
)  # fmt: skip
def test_refused(entries: list[str], message: str) -> None:
    with pytest.raises(OriginsError) as refused:
        Origins.parse(entries)
    assert str(refused.value) == message
    assert isinstance(refused.value, ToaError)


def test_any_is_everywhere() -> None:
    assert Origins.parse(["any"]) == EVERYWHERE
    assert str(EVERYWHERE) == "any"
    assert (ip_address("192.0.2.7"), 80) in EVERYWHERE
    assert (ip_address("2001:db8::7"), 1) in EVERYWHERE


def test_nothing_is_meant_unless_listed() -> None:
    assert (ip_address("127.0.0.1"), 80) not in Origins()


@pytest.mark.parametrize(
    ("ip", "port", "meant"),
    [
        ("10.9.0.2", 80, True),
        ("10.9.0.2", 81, False),
        ("::ffff:10.9.0.2", 80, True),
        ("10.9.1.255", 1, True),
        ("10.9.2.0", 1, False),
        ("fd09::2", 443, True),
        ("fd09::2", 80, False),
        ("fd0a::2", 443, False),
    ],
)
def test_contains(ip: str, port: int, meant: bool) -> None:
    origins = Origins.parse(["10.9.0.2:80", "10.9.1.0/24", "[fd09::]/64:443"])
    assert ((ip_address(ip), port) in origins) is meant


@given(st.text(max_size=30) | st.text("[]/:.,% 0123456789abcdefny", max_size=30))
def test_any_text_is_a_list_or_an_origins_error(text: str) -> None:
    try:
        origins = Origins.parse([text])
    except OriginsError:
        return
    assert Origins.parse([str(origins)]) == origins


addresses = st.ip_addresses().filter(lambda ip: plain(ip) == ip)
ports = st.integers(1, 65535)
MAPPED = ip_network("::ffff:0:0/96")


def listable(destination: Destination) -> bool:
    """Whether a list may hold it: somewhere to connect to, and not all of IPv4 at once."""
    network = destination.network
    return not (network.version == 6 and network.overlaps(MAPPED)) and (
        usable(network[0]) or usable(network[-1])
    )


@st.composite
def destinations(draw: st.DrawFn) -> Destination:
    ip = draw(addresses)
    prefix = draw(st.integers(8, ip.max_prefixlen))
    port = draw(st.none() | ports)
    return Destination(ip_network(f"{ip}/{prefix}", strict=False), port)


listed_destinations = destinations().filter(listable)


@given(st.lists(listed_destinations, min_size=1, unique=True))
def test_what_is_written_is_read_back(listed: list[Destination]) -> None:
    origins = Origins(tuple(listed))
    assert Origins.parse([str(origins)]) == origins


@given(st.lists(listed_destinations, max_size=3), addresses, ports)
def test_membership(listed: list[Destination], ip: IPAddress, port: int) -> None:
    origins = Origins(tuple(listed))
    for target, at in [(ip, port)] + [(d.network[-1], d.port or port) for d in listed]:
        expected = False
        for destination in listed:
            network = destination.network
            bits = network.max_prefixlen - network.prefixlen
            same = int(target) >> bits == int(network.network_address) >> bits
            if same and network.version == target.version and destination.port in (None, at):
                expected = True
        assert ((target, at) in origins) is expected
    for destination in listed:
        assert (destination.network[0], destination.port or port) in origins
