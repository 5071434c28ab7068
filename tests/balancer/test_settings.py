# SPDX-License-Identifier: Apache-2.0
"""settings.py: what can't be meant is refused, with the value, the remedy and the place."""

from typing import Any

import msgspec
import pytest

from cloud_toa.balancer.allowed import SettingsError
from cloud_toa.balancer.settings import Origin, Service

TLS = {"certificates": [{"certificate": "/etc/web.pem"}]}


def service(**given: Any) -> Service:
    data = {"name": "web", "listen": ["0.0.0.0:80"], "origin": [{"address": "192.0.2.7"}], **given}
    return msgspec.convert(data, Service)


def origin(**given: Any) -> Origin:
    return service(origin=[{"address": "app.example", **given}]).origin[0]


@pytest.mark.parametrize(
    ("given", "message", "at"),
    [
        (
            {"name": "a b"},
            "service name 'a b': write 1 to 64 letters, digits, '.', '_' or '-'",
            ("name",),
        ),
        (
            {"listen": ["[::]:80", "80"]},
            ("'80' is no address to listen on: "
            "write 0.0.0.0:8080, [::]:8080 or 192.0.2.1:8000-8099"),
            ("listen", 1),
        ),
        (
            {"listen": ["[::]:80", "[0::0]:80"]},
            "service web listens on [::]:80 twice: leave one out",
            ("listen", 1),
        ),
        (
            {"listen": ["0.0.0.0:80", "192.0.2.1:79-81"]},
            ("service web listens on 0.0.0.0:80 and 192.0.2.1:79-81, "
            "which have addresses in common: leave one out"),
            ("listen", 1),
        ),
        (
            {"protocol": "tls"},
            "service web has protocol = 'tls': add [service.tls] with certificates",
            ("protocol",),
        ),
        ({"tls": TLS}, "service web has protocol = 'tcp': write 'tls'", ("tls",)),
        (
            {"server_names": ["a.example"]},
            ("service web has server_names, which only TLS shows: "
            "leave them out, or have TLS end here by protocol = 'tls'"),
            ("server_names",),
        ),
        (
            {"protocol": "tls", "tls": TLS, "server_names": ["a.example", "a b"]},
            "'a b' is no name: write www.example.com or *.example.com",
            ("server_names", 1),
        ),
        *(
            (
                {key: ["192.0.2.0/24", "any"]},
                "'any' is everybody: leave it out, or write smaller networks",
                (key, 1),
            )
            for key in ("allow", "deny", "proxy_from")
        ),
        (
            {"origin": [{"address": "a"}, {"address": "b"}, {"address": "a"}]},
            "service web has origin a twice: leave one out",
            ("origin", 2),
        ),
    ],
)  # fmt: skip
def test_services_that_can_t_be(
    given: dict[str, Any], message: str, at: tuple[str | int, ...]
) -> None:
    refused(given, message, at)


def refused(given: dict[str, Any], message: str, at: tuple[str | int, ...]) -> None:
    with pytest.raises(msgspec.ValidationError) as error:
        service(**given)
    assert str(error.value).partition(" - at ")[0] == message
    assert isinstance(error.value.__cause__, SettingsError)
    assert error.value.__cause__.at == at


PATH = "write it from / on, without spaces, quotes, \\, # and $"


@pytest.mark.parametrize(
    ("given", "message", "at"),
    [
        *(
            ({"certificates": [{"certificate": "/a", key: "b"}]}, f"'b' is no path: {PATH}", (key,))
            for key in ("certificate", "key")
        ),
        ({**TLS, "client_ca": "/a b"}, f"'/a b' is no path: {PATH}", ("client_ca",)),
        *(
            (
                {**TLS, key: "A B"},
                f"'A B' is no list of {key}: write it as OpenSSL does, with colons between",
                (key,),
            )
            for key in ("ciphers", "ciphersuites")
        ),
    ],
)
def test_tls_that_can_t_be(given: dict[str, Any], message: str, at: tuple[str | int, ...]) -> None:
    refused({"protocol": "tls", "tls": given}, message, at)


@pytest.mark.parametrize(
    ("given", "message", "at"),
    [
        (
            {"address": "192.0.2.7", "toa": True, "proxy": "v2"},
            ("origin 192.0.2.7 has toa = true and proxy = 'v2': "
            "one of them names the client, leave the other out"),
            ("proxy",),
        ),
        *(
            (
                {"address": "192.0.2.7", "tls": tls},
                ("origin 192.0.2.7 has TLS, and an address says nothing of its certificate: "
                "give tls.server_name, or tls.verify = false"),
                ("tls",),
            )
            for tls in (True, {}, {"verify": True})
        ),
        ({"tls": {"ca": "a"}}, f"'a' is no path: {PATH}", ("ca",)),
        ({"tls": {"certificate": "a"}}, f"'a' is no path: {PATH}", ("certificate",)),
        ({"tls": {"certificate": "/a", "key": "a"}}, f"'a' is no path: {PATH}", ("key",)),
        (
            {"tls": {"key": "/a"}},
            "key '/a' is without its certificate: name both, or neither",
            ("key",),
        ),
        (
            {"tls": {"server_name": "192.0.2.7"}},
            "server_name '192.0.2.7' is no host name: write one that stands in the certificate",
            ("server_name",),
        ),
    ],
)  # fmt: skip
def test_origins_that_can_t_be(
    given: dict[str, Any], message: str, at: tuple[str | int, ...]
) -> None:
    refused({"origin": [{"address": "app.example", **given}]}, message, at)


@pytest.mark.parametrize(
    ("whole", "own", "has_toa"),
    [
        (True, {}, True),
        (True, {"toa": False}, False),
        (True, {"proxy": "v1"}, False),
        (False, {}, False),
        (False, {"toa": True}, True),
        (False, {"proxy": "v1"}, False),
    ],
)
def test_who_has_toa(whole: bool, own: dict[str, Any], has_toa: bool) -> None:
    one = service(toa=whole, origin=[{"address": "192.0.2.7", **own}])
    assert one.has_toa(one.origin[0]) is has_toa


def test_what_an_origin_s_certificate_must_be_for() -> None:
    assert origin(tls=True).server_name == "app.example"
    assert origin(tls={"server_name": "other.example"}).server_name == "other.example"
    assert origin(address="192.0.2.7", tls={"verify": False}).server_name is None
    assert origin().verified is None
    assert origin(tls=False).verified is None
    verified = origin(tls=True).verified
    assert verified is not None
    assert verified.verify


def test_names_of_origins() -> None:
    assert origin().name == "app.example"
    assert origin(port=80).name == "app.example:80"
    assert origin(address="2001:db8::7", port=80).name == "2001:db8::7:80"


def test_files() -> None:
    pair = {"certificate": "/web", "key": "/web.key"}
    one = service(
        protocol="tls",
        tls={"certificates": [{"certificate": "/one"}, pair], "client_ca": "/clients"},
        origin=[
            {"address": "a", "tls": {"ca": "/ca", "certificate": "/own", "key": "/own.key"}},
            {"address": "b", "tls": True},
            {"address": "c"},
        ],
    )
    assert one.files == ["/one", "/web", "/web.key", "/clients", "/ca", "/own", "/own.key"]
    assert service().files == []
