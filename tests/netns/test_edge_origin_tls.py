# SPDX-License-Identifier: Apache-2.0
"""TLS with origins: whom the edge believes, whom it asks for, and what it shows."""

from pathlib import Path

import pytest

from cloud_toa.balancer.allowed import SettingsError
from cloud_toa.balancer.tls import OriginTls
from cloud_toa.demo.lab import Lab
from tests.netns.authority import Authority
from tests.netns.edge_node import running, write
from tests.netns.edge_services import (
    CLIENT,
    CLIENT6,
    FIRST,
    ORIGIN,
    SECOND,
    Log,
    is_refused,
    is_seen,
    origin,
    service,
    start_origin,
    trusting,
    visit,
)

pytestmark = pytest.mark.one_kernel

WRONG_NAME = "Layer6 invalid response"


@pytest.fixture
def authority(lab: Lab) -> Authority:
    return Authority(lab.files)


def tls(port: int, *settings: str) -> str:
    return origin(port, f"tls = {{ {', '.join(settings)} }}")


def test_verification(lab: Lab, receiver: Path, authority: Authority) -> None:
    """By default: another name or an unknown authority is no origin, and the log says so."""
    start_origin(lab, receiver, "web", FIRST, "--tls", authority.pem("origin.test"))
    other = Authority(lab.files, "other")
    ours, theirs = f'ca = "{authority.certificate}"', f'ca = "{other.certificate}"'
    name, wrong = 'server_name = "origin.test"', 'server_name = "wrong.test"'
    good = {8080: (ours, name), 8081: ("verify = false",), 8082: ("verify = false", wrong)}
    bad = {8090: (ours, wrong), 8091: (theirs, name), 8092: (name,)}
    log = Log(lab)
    path = write(
        lab,
        "".join(
            service(f"s{port}", port, origins=tls(FIRST, *lines))
            for port, lines in (good | bad).items()
        )
        + service(
            "checked", 8093, "check.interval = '500ms'", origins=tls(FIRST, ours, wrong), check=True
        )
        + log.settings,
    )
    with running(lab, "--config", str(path)) as node:
        for port, asked in ((8080, "origin.test"), (8081, None), (8082, "wrong.test")):
            for client in (CLIENT, CLIENT6):
                said = visit(lab, port, client=client)
                assert is_seen(said)
                assert said["sni"] == asked
                assert log.next()["error"] == "-"
        for port in bad:
            assert is_refused(lab, port)
            line = log.next()
            assert line["service"] == f"s{port}"
            assert line["end"] == "SC"
            assert "SSL" in line["error"]
        down = f"Server checked/{ORIGIN}:{FIRST} is DOWN"
        if down not in node.log:
            node.until(down)
        assert WRONG_NAME in node.log


def test_what_the_edge_shows(lab: Lab, receiver: Path, authority: Authority) -> None:
    """TLS on both sides, the client still seen; the edge's certificate, in one file or two."""
    options = ("--tls", authority.pem("origin.test"), "--client-ca", authority.certificate)
    start_origin(lab, receiver, "web", FIRST, *options)
    certificate, key = authority.issue("edge.test")
    both = authority.pem("edge2.test")
    common = (f'ca = "{authority.certificate}"', 'server_name = "origin.test"')
    ends = f'[service.tls]\ncertificates = [{{certificate = "{authority.pem("a.test")}"}}]'
    path = write(
        lab,
        service(
            "two", 8443, 'protocol = "tls"', ends,
            origins=tls(FIRST, *common, f'certificate = "{certificate}", key = "{key}"'),
        )
        + service("one", 8080, origins=tls(FIRST, *common, f'certificate = "{both}"'))
        + service("none", 8081, origins=tls(FIRST, *common)),
    )  # fmt: skip
    with running(lab, "--config", str(path)):
        said = visit(lab, 8443, tls=trusting(authority.certificate))
        assert is_seen(said)
        assert said["certificate"] == {"commonName": "edge.test"}
        said = visit(lab, 8080)
        assert is_seen(said)
        assert said["certificate"] == {"commonName": "edge2.test"}
        assert is_refused(lab, 8081)


def test_origins_without_a_port(lab: Lab, receiver: Path, authority: Authority) -> None:
    """Checks are as connections are: TLS that is wrong takes an origin out."""
    start_origin(lab, receiver, "web", SECOND, "--tls", authority.pem("origin.test"))
    believed = f'ca = "{authority.certificate}"'

    def text(name: str) -> str:
        entry = tls(SECOND, believed, f'server_name = "{name}"').replace(f"port = {SECOND}\n", "")
        return service("web", SECOND, "check.interval = '500ms'", origins=entry, check=True)

    path = write(lab, text("origin.test"))
    with running(lab, "--config", str(path)) as node:
        assert is_seen(visit(lab, SECOND))
        write(lab, text("wrong.test"))
        # By the new worker, which may say so before the reload is known to have succeeded.
        assert WRONG_NAME in node.until(f"Server web/{ORIGIN} is DOWN")


def test_an_address_is_no_name_of_a_certificate() -> None:
    """HAProxy compares host names alone."""
    with pytest.raises(SettingsError, match=r"'10\.9\.0\.2' is no host name"):
        OriginTls(server_name=ORIGIN)
