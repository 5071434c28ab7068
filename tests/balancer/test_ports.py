# SPDX-License-Identifier: Apache-2.0
"""ports.py: what is in use is refused, and who has it is named."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cloud_toa.balancer import ports
from cloud_toa.balancer.addresses import Listen
from cloud_toa.errors import ToaError
from cloud_toa.isolation import Namespace
from cloud_toa.node import edge_file
from tests.balancer.edges import EDGES

ME = f"(process {os.getpid()})"


@pytest.fixture(scope="module", autouse=True)
def namespace() -> Iterator[Namespace]:
    network = Namespace("ports")
    network.ip("address add 192.0.2.1/24 dev lo", "address add 2001:db8::1/64 dev lo nodad")
    with network.entered():
        yield network
    network.remove()


def listening(stack: ExitStack, *places: tuple[str, int]) -> None:
    for address, port in places:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        stack.enter_context(socket.create_server((address, port), family=family))


def refusal(*listens: str) -> str:
    try:
        ports.check([Listen.parse(text) for text in listens])
    except ToaError as error:
        return str(error)
    return ""


def test_free() -> None:
    assert refusal("0.0.0.0:80", "[::]:80", "192.0.2.1:1-200", "[2001:db8::1]:443") == ""


@pytest.mark.parametrize(
    ("taken", "wanted", "place"),
    [
        ("192.0.2.1", "192.0.2.1:80", "192.0.2.1:80"),
        ("0.0.0.0", "192.0.2.1:80", "192.0.2.1:80"),
        ("192.0.2.1", "0.0.0.0:80", "0.0.0.0:80"),
        ("192.0.2.1", "192.0.2.1:70-90", "192.0.2.1:80"),
        ("::", "[2001:db8::1]:80", "[2001:db8::1]:80"),
        ("2001:db8::1", "[::]:79-80", "[::]:80"),
    ],
)
def test_in_use(taken: str, wanted: str, place: str) -> None:
    with ExitStack() as stack:
        listening(stack, (taken, 80))
        said = refusal("192.0.2.1:443", wanted)
    assert said.startswith(f"{place} is in use by ")
    assert said.endswith(f" {ME}: stop that, or listen elsewhere")
    assert refusal(wanted) == ""


def test_a_holder_of_both_families() -> None:
    with socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True):
        assert ME in refusal("192.0.2.1:80")
        assert ME in refusal("[::1]:80")


@pytest.mark.parametrize(
    ("taken", "wanted"),
    [
        ("192.0.2.1", "127.0.0.1:80"),
        ("0.0.0.0", "[::]:80"),
        ("::", "0.0.0.0:80"),
        ("2001:db8::1", "[::1]:80"),
    ],
)
def test_in_use_elsewhere(taken: str, wanted: str) -> None:
    with ExitStack() as stack:
        listening(stack, (taken, 80))
        assert refusal(wanted) == ""


def test_the_holder_is_who_has_this_address(namespace: Namespace) -> None:
    code = (
        "import socket; s = socket.create_server(('127.0.0.1', 80)); print(flush=True); s.accept()"
    )
    with ExitStack() as stack:
        command = [sys.executable, "-c", code]
        other = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
        assert other.stdout is not None
        other.stdout.readline()
        for address in ("127.0.0.2", "192.0.2.1"):
            listening(stack, (address, 80))
            assert ME in refusal(f"{address}:80")
        assert f"(process {other.pid})" in refusal("127.0.0.1:80")
        other.kill()


def test_no_address_of_this_host() -> None:
    words = "is no address of this host: ip address shows those it has"
    assert refusal("198.51.100.1:80") == f"198.51.100.1 {words}"
    assert refusal("[2001:db8:9::1]:80") == f"2001:db8:9::1 {words}"


def test_a_host_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def only_ipv4(family: int = socket.AF_INET, *rest: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, *rest)

    monkeypatch.setattr(socket, "socket", only_ipv4)
    assert refusal("0.0.0.0:80") == ""
    assert refusal("[::]:80") == "[::]:80: Address family not supported by protocol"


def test_without_ss_the_holder_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with ExitStack() as stack:
        listening(stack, ("192.0.2.1", 80))
        said = refusal("192.0.2.1:80")
    assert said == (
        "192.0.2.1:80 is in use: stop that, or listen elsewhere "
        "(ss -ltnp 'sport = :80' as root shows by whom)"
    )


def test_a_holder_that_may_not_be_seen() -> None:
    """As in a unit's sandbox: ss shows that there is one, and not who."""
    code = (
        "from cloud_toa.balancer import ports; from cloud_toa.balancer.addresses import Listen\n"
        "ports.check([Listen.parse('192.0.2.1:8080')])"
    )
    blind = ("setpriv", "--reuid=65534", "--clear-groups", "--inh-caps=-all")
    with ExitStack() as stack:
        listening(stack, ("192.0.2.1", 8080))
        command = [*blind, "--ambient-caps=-all", sys.executable, "-c", code]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert "192.0.2.1:8080 is in use: stop that, or listen elsewhere (ss -ltnp 'sport" in said


@pytest.mark.parametrize("name", EDGES)
def test_where_haproxy_listens_by_its_configuration(name: str) -> None:
    services = edge_file.parse(EDGES[name], name).service
    wanted = {listen for service in services for listen in service.addresses}
    text = Path(__file__).with_name("expected").joinpath(f"{name}.cfg").read_text()
    assert set(ports.of(text)) == wanted


def test_a_port_that_is_given_up_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        place = Listen.parse(f"127.0.0.1:{other.getsockname()[1]}")
        with pytest.raises(ToaError, match="is in use by "):
            ports.check([place])

        def gone(_: Listen) -> str:
            other.close()
            return ""

        monkeypatch.setattr(ports, "_holder", gone)
        ports.check([place])
