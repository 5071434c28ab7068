# SPDX-License-Identifier: Apache-2.0
"""Files of certificates and keys: one that comes later, and what is left of those of before."""

import signal
from pathlib import Path

import pytest

from cloud_toa.demo.lab import Lab
from tests.netns.authority import Authority
from tests.netns.edge_node import EdgeNode, running, write
from tests.netns.edge_services import FIRST, is_seen, start_origin, trusting, visit
from tests.netns.test_edge_tls import PORT, entry, tls_service

pytestmark = pytest.mark.one_kernel


@pytest.fixture
def authority(lab: Lab) -> Authority:
    return Authority(lab.files)


def test_a_certificate_that_comes_later(lab: Lab, receiver: Path, authority: Authority) -> None:
    """The file that named it was refused, and is applied once all that it names is there."""
    start_origin(lab, receiver, "web", FIRST)
    first = entry(authority.pem("a.test"))
    key = lab.files / "b.key"
    certificate, made = authority.issue("b.test")
    path = write(lab, tls_service("web", PORT, first))
    with running(lab, "--config", str(path)) as node:
        write(lab, tls_service("web", PORT, entry(certificate, key)))
        assert "b.key can't be read" in node.until("not applied")
        key.write_text("of somebody else")
        assert "b.key has no key" in node.until("not applied")
        write(lab, "what is no TOML")
        node.until("not applied")
        write(lab, tls_service("web", PORT, entry(certificate, key)))
        assert "b.key has no key" in node.until("not applied")
        key.write_text(made.read_text())
        node.until("applied by a reload")
        assert is_seen(visit(lab, PORT, tls=trusting(authority.certificate), name="b.test"))


def test_a_key_that_nothing_names_any_more(lab: Lab, receiver: Path, authority: Authority) -> None:
    """HAProxy's copies of it are gone; but not before others are in force."""
    first, second, third = (authority.pem(f"{name}.test") for name in "abc")
    path = write(lab, tls_service("web", PORT, entry(first), entry(second)))

    def copies(node: EdgeNode) -> set[str]:
        folder = Path(node.state()["edge"]["runtime"]).with_name("certificates")
        return {each.read_text() for each in folder.glob("*.pem")}

    with running(lab, "--config", str(path)) as node:
        assert copies(node) == {first.read_text(), second.read_text()}
        write(lab, tls_service("web", PORT, entry(third), tls='ciphers = "NOPE"\n'))
        node.until("not applied")
        assert copies(node) >= {first.read_text(), second.read_text()}
        write(lab, tls_service("web", PORT, entry(second)))
        node.until("applied by a reload")
        assert copies(node) == {second.read_text()}
        node.stop(signal.SIGUSR2)
        write(lab, tls_service("web", PORT, entry(first)))
        with running(lab, "--config", str(path)) as next_node:
            assert copies(next_node) == {first.read_text()}
