# SPDX-License-Identifier: Apache-2.0
"""addresses.py: what can be listened on, and what would be in whose way."""

from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_toa.balancer.addresses import AddressError, Listen, host

FORMS = "write 0.0.0.0:8080, [::]:8080 or 192.0.2.1:8000-8099"
PORTS = "they are 1 to 65535, the lower one first"


@pytest.mark.parametrize(
    ("text", "ip", "first", "last", "shown"),
    [
        ("0.0.0.0:80", "0.0.0.0", 80, 80, "0.0.0.0:80"),
        ("192.0.2.1:8000-8099", "192.0.2.1", 8000, 8099, "192.0.2.1:8000-8099"),
        ("192.0.2.1:80-80", "192.0.2.1", 80, 80, "192.0.2.1:80"),
        ("192.0.2.1:00080", "192.0.2.1", 80, 80, "192.0.2.1:80"),
        ("192.0.2.1:1-65535", "192.0.2.1", 1, 65535, "192.0.2.1:1-65535"),
        ("[::]:443", "::", 443, 443, "[::]:443"),
        ("[2001:DB8:0::1]:443", "2001:db8::1", 443, 443, "[2001:db8::1]:443"),
        ("[64:ff9b::192.0.2.1]:1", "64:ff9b::c000:201", 1, 1, "[64:ff9b::c000:201]:1"),
    ],
)
def test_read(text: str, ip: str, first: int, last: int, shown: str) -> None:
    listen = Listen.parse(text)
    assert (str(listen.ip), listen.first, listen.last) == (ip, first, last)
    assert str(listen) == shown
    assert Listen.parse(shown) == listen


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", f"is no address to listen on: {FORMS}"),
        ("80", f"is no address to listen on: {FORMS}"),
        (":80", f"is no address to listen on: {FORMS}"),
        ("*:80", f"is no address to listen on: {FORMS}"),
        ("0.0.0.0", f"is no address to listen on: {FORMS}"),
        ("localhost:80", f"is no address to listen on: {FORMS}"),
        ("192.0.2.256:80", f"is no address to listen on: {FORMS}"),
        ("192.0.2.01:80", f"is no address to listen on: {FORMS}"),
        ("[192.0.2.1]:80", f"is no address to listen on: {FORMS}"),
        ("[::1]", f"is no address to listen on: {FORMS}"),
        ("[fe80::1%eth0]:80", f"is no address to listen on: {FORMS}"),
        ("fe80::1%eth0:80", f"is no address to listen on: {FORMS}"),
        ("192.0.2.1:80 ", f"is no address to listen on: {FORMS}"),
        ("192.0.2.1:80\n", f"is no address to listen on: {FORMS}"),
        ("192.0.2.1:80-", f"is no address to listen on: {FORMS}"),
        ("192.0.2.1:٨٠", f"is no address to listen on: {FORMS}"),
        ("::1:80", "is no address to listen on: write [::1]:80"),
        ("2001:DB8::7:443", "is no address to listen on: write [2001:db8::7]:443"),
        ("192.0.2.1:0", f"has no such ports: {PORTS}"),
        ("192.0.2.1:65536", f"has no such ports: {PORTS}"),
        ("192.0.2.1:81-80", f"has no such ports: {PORTS}"),
        ("192.0.2.1:0-80", f"has no such ports: {PORTS}"),
        ("[::ffff:192.0.2.1]:80", "is IPv4: write 192.0.2.1:80"),
    ],
    ids=repr,
)
def test_refused(text: str, why: str) -> None:
    with pytest.raises(AddressError) as refused:
        Listen.parse(text)
    assert str(refused.value) == f"{text!r} {why}"


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("192.0.2.1:80", "192.0.2.1:80", True),
        ("192.0.2.1:80", "192.0.2.2:80", False),
        ("192.0.2.1:80", "192.0.2.1:81", False),
        ("0.0.0.0:80", "192.0.2.1:80", True),
        ("[::]:80", "[2001:db8::1]:80", True),
        ("[::]:80", "0.0.0.0:80", False),
        ("[::]:80", "192.0.2.1:80", False),
        ("192.0.2.1:80-90", "192.0.2.1:90-99", True),
        ("192.0.2.1:80-90", "192.0.2.1:91-99", False),
        ("0.0.0.0:80-90", "192.0.2.1:85", True),
    ],
)
def test_overlap(one: str, other: str, overlap: bool) -> None:
    first, second = Listen.parse(one), Listen.parse(other)
    assert first.overlaps(second) is overlap
    assert second.overlaps(first) is overlap


@pytest.mark.parametrize(
    ("text", "plain", "mapped"),
    [
        ("192.0.2.1", "192.0.2.1", "[::ffff:192.0.2.1]"),
        ("0.0.0.0", "0.0.0.0", "[::ffff:0.0.0.0]"),
        ("2001:db8::1", "[2001:db8::1]", "[2001:db8::1]"),
    ],
)
def test_as_haproxy_reads_it(text: str, plain: str, mapped: str) -> None:
    ip = IPv6Address(text) if ":" in text else IPv4Address(text)
    assert host(ip, mapped=False) == plain
    assert host(ip, mapped=True) == mapped


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(AddressError):
        listen = Listen.parse(text)
        assert Listen.parse(str(listen)) == listen


ips = st.ip_addresses().filter(lambda ip: not getattr(ip, "ipv4_mapped", None))
ports = st.integers(1, 65535)


@given(ips, ports, ports)
def test_whatever_is_written_is_read(ip: IPv4Address | IPv6Address, one: int, other: int) -> None:
    listen = Listen(ip, min(one, other), max(one, other))
    assert Listen.parse(str(listen)) == listen
    assert Listen.parse(f"{listen.host(mapped=False)}:{listen.ports}") == listen
