# SPDX-License-Identifier: Apache-2.0
"""PROXY protocol: believed from some, and said to some origins in the place of TOA."""

import socket
import struct
from pathlib import Path

import pytest

from cloud_toa.demo.lab import EDGE, EDGE_TO_ORIGIN, Lab
from tests.netns.authority import Authority
from tests.netns.edge_node import running, write
from tests.netns.edge_services import (
    CLIENT,
    CLIENT6,
    FIRST,
    SECOND,
    Log,
    ask,
    connected,
    is_refused,
    is_seen,
    origin,
    service,
    start_origin,
    trusting,
    visit,
    wait_until_refused,
)
from tests.netns.traffic import SERVER, listen

pytestmark = pytest.mark.one_kernel

NAMED, NAMED6 = ("198.51.100.7", 5007), ("2001:db8:2::7", 5007)
BELIEVED = 'proxy_from = ["203.0.113.0/28", "2001:db8:1::/112"]'
STRANGER, STRANGER6 = "203.0.113.99", "2001:db8:1::1:1"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v1(client: tuple[str, int]) -> bytes:
    family, edge = ("TCP6", EDGE[6]) if ":" in client[0] else ("TCP4", EDGE[4])
    return f"PROXY {family} {client[0]} {edge} {client[1]} 443\r\n".encode()


def v2(client: tuple[str, int]) -> bytes:
    """The PROXY protocol's document, section 2.2."""
    version = 6 if ":" in client[0] else 4
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    addresses = b"".join(socket.inet_pton(family, ip) for ip in (client[0], EDGE[version]))
    addresses += struct.pack("!HH", client[1], 443)
    return SIGNATURE + bytes([0x21, 0x21 if version == 6 else 0x11, 0, len(addresses)]) + addresses


def test_whom_proxies_name(lab: Lab, receiver: Path) -> None:
    """TOA carries them, of either family; of others, a header is data as all else is."""
    start_origin(lab, receiver, "web", FIRST)
    authority = Authority(lab.files)
    four = service("four", 8081, BELIEVED).replace(f', "[{EDGE[6]}]:8081"', "")
    certificates = f'[service.tls]\ncertificates = [{{certificate = "{authority.pem("a.test")}"}}]'
    tls = service("tls", 8443, BELIEVED, 'protocol = "tls"', certificates)
    log = Log(lab)
    path = write(lab, service("web", 8080, BELIEVED) + four + tls + log.settings)
    cases = [
        (port, proxy, header, named)
        for port, proxies in ((8080, (CLIENT, CLIENT6)), (8081, (CLIENT,)), (8443, (CLIENT,)))
        for proxy in proxies
        for header in (v1, v2)
        for named in (NAMED, NAMED6)
    ]
    with running(lab, "--config", str(path)):
        for port, proxy, header, named in cases:
            context = trusting(authority.certificate) if port == 8443 else None
            said = visit(lab, port, client=proxy, first=header(named), tls=context)
            assert tuple(said["client"]) == named, (port, proxy, header)
            assert said["before"] == ""
            line = log.next()
            assert (line["client"], line["client_port"]) == (named[0], str(named[1]))
        for port, stranger in ((8080, STRANGER), (8080, STRANGER6), (8081, STRANGER)):
            said = visit(lab, port, client=stranger, first=v1(NAMED))
            assert is_seen(said)
            assert bytes.fromhex(said["before"]) == v1(NAMED)
            assert log.next()["client"] == stranger
        assert is_refused(lab, 8080, first=b"GET / HTTP/1.0")
        assert "PROXY protocol header" in log.next()["error"]


def test_limits_are_for_whom_proxies_name(lab: Lab, receiver: Path) -> None:
    start_origin(lab, receiver, "web", FIRST)
    path = write(
        lab,
        service("number", 8080, BELIEVED, "max_connections_per_client = 1")
        + service("rate", 8081, BELIEVED, "new_connections_per_client = 2")
        + service("list", 8082, BELIEVED, f'deny = ["{NAMED[0]}", "{NAMED6[0]}"]')
        + service("only", 8083, BELIEVED, f'allow = ["{NAMED[0]}", "{NAMED6[0]}"]'),
    )
    others = (("198.51.100.8", 5008), ("2001:db8:2::8", 5008))
    with running(lab, "--config", str(path)):
        for named, other in zip((NAMED, NAMED6), others, strict=True):
            first, second = v1(named), v1(other)
            with connected(lab, 8080, first=first) as sock:
                assert ask(sock)
                assert is_refused(lab, 8080, first=v1((named[0], 5009)))
                assert tuple(visit(lab, 8080, first=second)["client"]) == other
            wait_until_refused(lab, 8081, first=first)
            assert not is_refused(lab, 8081, first=second)
            assert is_refused(lab, 8082, first=first)
            assert not is_refused(lab, 8082, first=second)
            assert not is_refused(lab, 8083, first=first)
            assert is_refused(lab, 8083, first=second)


def test_origins_that_are_told_by_proxy(lab: Lab, receiver: Path) -> None:
    """They see the edge, and the header; the other origin of the service has TOA."""
    start_origin(lab, receiver, "proxy", FIRST)
    start_origin(lab, receiver, "toa", SECOND)
    versions = ("v1", "v2")
    path = write(
        lab,
        "".join(
            service(
                version,
                8080 + number,
                "check.interval = '100ms'",
                origins=origin(FIRST, f'proxy = "{version}"') + origin(SECOND),
                check=True,
            )
            for number, version in enumerate(versions)
        ),
    )
    with running(lab, "--config", str(path)):
        for number, version in enumerate(versions):
            for client in (CLIENT, CLIENT6):
                said = [visit(lab, 8080 + number, client=client) for _ in range(2)]
                assert {each["name"] for each in said} == {"proxy", "toa"}
                for each in said:
                    if each["name"] == "toa":
                        assert is_seen(each)
                        assert each["before"] == ""
                        continue
                    assert each["client"][0] == EDGE_TO_ORIGIN[4]
                    header = bytes.fromhex(each["before"])
                    own = each["own"]
                    if version == "v1":
                        words = header.decode().split()
                        assert words[0] == "PROXY"
                        assert words[2] == own[0] if ":" in own[0] else words[2].endswith(own[0])
                        assert int(words[4]) == own[1]
                    else:
                        assert header.startswith(SIGNATURE)
                        assert struct.pack("!H", own[1]) in header


def test_checks_of_such_origins(lab: Lab, receiver: Path) -> None:
    """They begin with the header as well, with and without a port of the origin's own."""
    own = origin(SERVER[1], 'proxy = "v1"')
    for entry in (own, own.replace(f"port = {SERVER[1]}\n", "")):
        path = write(lab, service("web", SERVER[1], origins=entry, check=True))
        with listen(lab, receiver, SERVER) as listener, running(lab, "--config", str(path)):
            conn, _ = listener.accept()
            with conn:
                conn.settimeout(120)
                assert conn.recv(100).startswith(b"PROXY ")
