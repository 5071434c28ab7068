# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa edge test`` and ``cloud-toa origin echo``: an operator's first question."""

import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloud_toa.demo.lab import EDGE, EDGE_TO_ORIGIN, Lab
from tests.netns.authority import Authority
from tests.netns.edge_node import PORT, SERVICE, EdgeNode, command, running, write
from tests.netns.edge_services import origin
from tests.netns.sender import CLIENT
from tests.netns.test_edge_run import ONE
from tests.netns.test_edge_tls import entry, tls_service
from tests.netns.traffic import SERVER, SERVER6, listen

EVERYWHERE = ONE.replace("10.8.0.1", "0.0.0.0").replace("fd08::1", "::")
SIX = ONE.replace('"10.8.0.1:8080", ', "")


def echo(lab: Lab, place: Path) -> None:
    command = [sys.executable, "-m", "cloud_toa", "origin", "echo", "--listen", str(SERVER[1])]
    lab.start(lab.origin, command, [("::", SERVER[1])], place=place)


def ask(node: EdgeNode, *options: str) -> tuple[int, dict[str, object]]:
    said = node.command("edge", "test", "web", "--json", *options)
    assert said.stdout, said.stderr
    return said.returncode, json.loads(said.stdout)


@pytest.mark.one_kernel
@pytest.mark.parametrize("text", [ONE, EVERYWHERE, SIX], ids=["address", "everywhere", "six"])
def test_the_origin_sees_the_client(lab: Lab, receiver: Path, text: str) -> None:
    echo(lab, receiver)
    with running(lab, "--config", str(write(lab, text))) as node:
        code, shown = ask(node)
        assert code == 0, shown
        assert shown["option_in"] == ["SYN", "ACK", "data"]
        assert shown["origin"] == f"{SERVER[0]}:{SERVER[1]}"
        seen = shown["origin_saw"]
        assert isinstance(seen, dict)
        assert seen["client"] == shown["client"]
        assert "toa-test" not in lab.edge.run("ip", "link")
        if text == ONE:
            code, shown = ask(node, "--client", "198.51.100.9")
            assert code == 0, shown
            assert str(shown["client"]).startswith("198.51.100.9:")
            said = node.command("edge", "test", "web").stdout
            assert f"  option sent to {SERVER[0]}:{SERVER[1]} in: SYN, ACK, data\n" in said
            assert "; TOA named 203.0.113.77:" in said


@pytest.mark.one_kernel
def test_a_service_by_a_name_for_many(lab: Lab, receiver: Path) -> None:
    """TLS: it is asked for a name that ends as its wildcard does, and others have not."""
    echo(lab, receiver)
    certificate = entry(Authority(lab.files).pem("*.web.test"))
    web = 'server_names = ["*.web.test"]'
    other = 'server_names = ["web.test", "www.web.test"]'
    text = "".join(
        tls_service(name, PORT, certificate, lines=lines, origins=origin(port))
        for name, lines, port in (("web", web, SERVER[1]), ("other", other, SERVER[1] + 100))
    )
    with running(lab, "--config", str(write(lab, text))) as node:
        code, shown = ask(node)
        assert code == 0, shown
        assert shown["origin"] == f"{SERVER[0]}:{SERVER[1]}"
        assert shown["origin_saw"], shown


@contextmanager
def busy(lab: Lab) -> Iterator[None]:
    """Packets of others pass all the time."""
    end = threading.Event()

    def send() -> None:
        while not end.wait(0.01):
            sock.sendto(b"another's", ("10.8.0.1", 9))

    with lab.client.entered():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender = threading.Thread(target=send)
    sender.start()
    yield
    end.set()
    sender.join()
    sock.close()


@pytest.mark.one_kernel
def test_it_ends_where_it_is_never_quiet(lab: Lab, receiver: Path) -> None:
    echo(lab, receiver)
    with running(lab, "--config", str(write(lab, ONE))) as node, busy(lab):
        code, shown = ask(node)
        assert (code, shown["option_in"]) == (0, ["SYN", "ACK", "data"])


@pytest.mark.one_kernel
def test_what_can_be_wrong(lab: Lab, servers: Path) -> None:
    """No receiver, an origin that is not there, TOA switched off, and questions amiss."""
    path = write(lab, ONE)
    with running(lab, "--config", str(path)) as node:
        code, shown = ask(node)
        assert code == 1
        assert shown["trouble"] == "closed without an answer: is the origin there?"
        echo(lab, servers)
        code, shown = ask(node)
        assert code == 1
        assert isinstance(shown["origin_saw"], dict)
        assert "client" not in shown["origin_saw"]
        write(lab, ONE + "toa = false\n")
        node.until("applied")
        code, shown = ask(node)
        assert (code, shown["option_in"]) == (1, [])
        for words, why in (
            (["other"], "no service 'other': there is web"),
            (["web", "--client", "nobody"], "--client 'nobody' is not an IP address"),
            (["web", "--client", "::1"], f"can't connect to 10.8.0.1:{PORT}: give an IPv4 client"),
        ):
            said = node.command("edge", "test", *words)
            assert said.returncode == 2
            assert why in said.stderr
        # What runs is tried, and not what the file says by now.
        path.write_text("nonsense")
        node.until("not applied")
        assert ask(node)[0] == 1
        said = node.command("edge", "run", "--config", str(write(lab, ONE)))
        assert said.stderr.splitlines()[-1] == (
            f"cloud-toa: cloud-toa edge run (process {node.process.pid}) is at work here already: "
            "stop that first"
        )
        nobody = ("setpriv", "--reuid=65534", "--clear-groups", "--inh-caps=-all")
        for asked in (("reload",), ("test", "web"), ("status",)):
            said = command(lab, "edge", *asked, before=nobody)
            assert said.returncode == 2
            assert said.stderr.endswith("only root can see: run as root\n")
    said = node.command("edge", "test", "web")
    assert "no 'cloud-toa edge run' is at work here" in said.stderr


@pytest.mark.one_kernel
def test_the_service_of_the_command_line(lab: Lab, receiver: Path) -> None:
    echo(lab, receiver)
    words = ("--listen", f"{EDGE[4]}:{PORT}", "--origin", f"{SERVER[0]}:{SERVER[1]}")
    with running(lab, *words) as node:
        said = node.command("edge", "test", "default", "--json")
        assert said.returncode == 0, said.stderr
        assert json.loads(said.stdout)["option_in"] == ["SYN", "ACK", "data"]


@pytest.mark.one_kernel
def test_an_address_that_is_somebody_s(lab: Lab, receiver: Path, hosts: Path) -> None:
    """It would be taken from him for a while: refused, and his connections go on."""
    hosts.write_text(f"127.0.0.1 localhost\n{SERVER6[0]} named.test\n")
    named = f'[[service.origin]]\naddress = "named.test"\nport = {SERVER[1]}\nbackup = true\n'
    with (
        listen(lab, receiver, SERVER) as listener,
        running(lab, "--config", str(write(lab, ONE + named))) as node,
        lab.connect(CLIENT, SERVICE) as sock,
    ):
        conn, _ = listener.accept()
        for client, whose in (
            (EDGE[4], "is this host's own"),
            (f"::ffff:{EDGE_TO_ORIGIN[4]}", "is this host's own"),
            ("127.0.0.1", "is this host's own"),
            (SERVER[0], "is an origin's of service web"),
            (CLIENT[0], "has a TCP connection with this host"),
            (f"::ffff:{CLIENT[0]}", "has a TCP connection with this host"),
        ):
            said = node.command("edge", "test", "web", "--client", client)
            assert said.returncode == 2, client
            address = client.removeprefix("::ffff:")
            why = f"{address} {whose}: give an address that is nobody's"
            assert said.stderr == f"cloud-toa: {why}\n"
        sock.sendall(b"still here")
        assert conn.recv(20) == b"still here"
        conn.close()
