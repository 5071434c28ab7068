# SPDX-License-Identifier: Apache-2.0
"""allowed.py: no text ends a word or a line of HAProxy's; each refusal has its exact words."""

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_toa.balancer import allowed
from cloud_toa.balancer.allowed import Duration, SettingsError

PATH = "write it from / on, without spaces, quotes, \\, # and $"
ORIGIN = (
    "is neither an IP address nor a host name: "
    "write 192.0.2.7, 2001:db8::7 or app.example, and the port as port = 80"
)
LONG = "a" * 63
MAPPED = "::ffff:192.0.2.7"


def first(mistakes: Iterable[SettingsError]) -> None:
    for mistake in mistakes:
        raise mistake


CHECKS: dict[str, Callable[[str], Any]] = {
    "name": allowed.check_name,
    "path": allowed.check_path,
    "ciphers": lambda text: allowed.check_ciphers(text, "ciphers"),
    "host": lambda text: allowed.check_host(text, "server_name"),
    "asked": allowed.check_server_name,
    "origin": lambda address: first(allowed.check_origin(address)),
    "network": allowed.network,
    "duration": lambda text: msgspec.convert(text, Duration),
}


@pytest.mark.parametrize(
    ("check", "text"),
    [
        ("name", "a"),
        ("name", "-"),
        ("name", "Web_1.example-2" + "x" * 49),
        ("path", "/etc/ssl/a%b{c}é.pem"),
        ("ciphers", "ECDHE+AESGCM:!aNULL:@SECLEVEL=2"),
        ("ciphers", "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"),
        ("host", "app.example"),
        ("host", f"{LONG}.{LONG}.{LONG}.{LONG[:61]}"),
        ("host", "_tcp.app-1.example"),
        ("asked", "www.example.com"),
        ("asked", "*.example.com"),
        ("asked", "localhost"),
        ("origin", "192.0.2.7"),
        ("origin", "2001:db8::7"),
        ("origin", "app.example"),
        ("origin", "127.0.0.1"),
        ("origin", "1.2.example"),
        ("network", "192.0.2.7"),
        ("network", "192.0.2.0/24"),
        ("network", "2001:db8::/32"),
        *(("duration", text) for text in ("1ms", "500ms", "10s", "5m", "1h", "499h", "2d", "24d")),
    ],
)
def test_taken(check: str, text: str) -> None:
    CHECKS[check](text)


@pytest.mark.parametrize(
    ("check", "text", "message"),
    [
        *(
            ("name", text, f"service name {text!r}: write 1 to 64 letters, digits, '.', '_' or '-'")
            for text in ("", "a b", "a\n", "a:b", "é", "x" * 65)
        ),
        *(
            (
                "name",
                text,
                (f"service name {text!r}: those with cloud-toa. or MASTER in front are "
                "HAProxy's own, choose another"),
            )
            for text in ("cloud-toa.metrics", "MASTER", "MASTER-1")
        ),
        *(
            ("path", text, f"{text!r} is no path: {PATH}")
            for text in (
                "", "/", "etc/a", "./a", "/a b", "/a\n", "/a\tb", "/a#b", "/$HOME", '/a"', "/a'",
                "/a\\b", "/a\0", "/a\x1b", "/a\x7f", "/a\x85", "/a\xa0",
            )
        ),
        *(
            (
                "ciphers",
                text,
                f"{text!r} is no list of ciphers: write it as OpenSSL does, with colons between",
            )
            for text in ("", "AES SHA", "AES,SHA", "AES\n", "AES#", '"AES"')
        ),
        *(
            (
                "host",
                text,
                f"server_name {text!r} is no host name: write one that stands in the certificate",
            )
            for text in ("", "a b", "a\n", "*.example", "192.0.2.7", "::1", "a..b", ".a", "a.")
        ),
        *(
            ("asked", text, f"{text!r} is no name: write www.example.com or *.example.com")
            for text in ("", "*", "*.", "a.*", "*a.b", "-f", "-m", "a b", "a\n", "a..b", LONG + "a")
        ),
        *(
            ("origin", text, f"origin address {text!r} {ORIGIN}")
            for text in (
                "", "192.0.2.7:80", "[::1]", "http://a", "a b", "a\n", "192.0.2", "192.0.2.256",
                "1", "a..b", f"{LONG}a.example", f"{LONG}.{LONG}.{LONG}.{LONG}", "-a", "a/b",
            )
        ),
        *(
            (
                "origin",
                text,
                f"origin address {text!r} names an interface: use an address that needs none",
            )
            for text in ("fe80::1%eth0", "fe80::1%a b\n server x")
        ),
        ("origin", MAPPED, f"origin address {MAPPED!r} is IPv4: write 192.0.2.7"),
        *(
            (
                "origin",
                text,
                f"origin address {text!r} is nobody's: write the address of a server",
            )
            for text in ("0.0.0.0", "::", "224.0.0.1", "ff02::1")
        ),
        *(
            (
                "network",
                text,
                (f"{text!r} is not an address or CIDR: "
                "write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32"),
            )
            for text in ("", "example.com", "192.0.2.0/33", "192.0.2", "192.0.2.0/24 ", "x\ny")
        ),
        *(
            ("network", text, f"{text!r} is everybody: leave it out, or write smaller networks")
            for text in ("0.0.0.0/0", "::/0", "any")
        ),
        (
            "network",
            "10.0.0.1/8",
            "'10.0.0.1/8' has bits set behind its prefix: did you mean 10.0.0.0/8?",
        ),
        (
            "network",
            "::ffff:0:0/96",
            "'::ffff:0:0/96' holds every IPv4 address: leave it out, or write smaller networks",
        ),
        (
            "network",
            "fe80::1%x\ny",
            "'fe80::1%x\\ny' names an interface, which services can't depend on: leave it out",
        ),
    ],
    ids=repr,
)  # fmt: skip
def test_refused(check: str, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as refused:
        CHECKS[check](text)
    assert str(refused.value) == message
    assert "\n" not in message


@pytest.mark.parametrize(
    "text",
    ["", "10", "0s", "-1s", "1.5s", "10s\n", " 10s", "10 s", "25d", "500h", "10S", "1w", "٣s"],
)
def test_no_duration(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(text, Duration)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("192.0.2.0/255.255.255.0", "192.0.2.0/24"),
        ("192.0.2.0/0.0.0.255", "192.0.2.0/24"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
    ],
)
def test_a_network_has_one_form(text: str, network: str) -> None:
    assert str(allowed.network(text)) == network


AWKWARD = st.one_of(
    st.text(),
    st.text(st.sampled_from("aA1._-*:/%[] \t\n\r\0\x85\u2028\"'\\#$@!é")),
    st.builds("".join, st.tuples(st.sampled_from(["::1%", "/a", "10s", "a", "x.y"]), st.text())),
)


@pytest.mark.parametrize("check", CHECKS)
@settings(max_examples=150, deadline=None)
@given(text=AWKWARD)
def test_nothing_ends_a_word(check: str, text: str) -> None:
    with suppress(SettingsError, msgspec.ValidationError):
        CHECKS[check](text)
        assert re.fullmatch(r"[^\s\x00-\x1f\x7f\"'\\#$]+", text)
