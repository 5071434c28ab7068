# SPDX-License-Identifier: Apache-2.0
"""docs/recipes/sshd-fail2ban.md with a real HAProxy, sshd, fail2ban and ssh."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloud_toa.demo.lab import EDGE, EDGE_TO_ORIGIN, ORIGIN, Lab
from tests.netns.traffic import wait_until
from tests.recipes.page import page
from tests.recipes.ssh_origin import USER, Login, SshOrigin, login, start_origin

PAGE = page("sshd-fail2ban")
PORT = 2222
ATTACKER = {4: "203.0.113.66", 6: "2001:db8:1::66"}
VISITOR = {4: "203.0.113.7", 6: "2001:db8:1::7"}
IN_HOSTS_DENY = {4: "ALL: 203.0.113.66\n", 6: "ALL: [2001:db8:1::66]\n"}
FAILURES = 5
"""fail2ban's own default."""

TELL = """
import socket, sys
control = socket.socket(socket.AF_UNIX)
control.connect("{}")
control.sendall(sys.stdin.buffer.read())
assert control.recv(4096).strip() == b""
"""


@dataclass(frozen=True)
class Services:
    lab: Lab
    origin: SshOrigin

    def visit(self, version: int, source: str, command: str = "") -> Login:
        """Log in through the edge with the right key."""
        server = (EDGE[version], PORT)
        return login(self.lab.client, source, server, USER, self.origin.key, command)

    def attack(self, version: int) -> None:
        for _ in range(FAILURES):
            server = (EDGE[version], PORT)
            failed = login(self.lab.client, ATTACKER[version], server, "admin", self.origin.key)
            assert failed.code == 255
            assert "Permission denied" in failed.err

    def banned(self) -> str:
        return self.origin.run(*shlex.split(PAGE.command("fail2ban-client status")))

    def unban(self, version: int) -> None:
        command = PAGE.command("fail2ban-client unban").replace(ATTACKER[4], ATTACKER[version])
        self.origin.run(*shlex.split(command))

    def said(self, words: str, log: str = "auth") -> None:
        """Wait until a log has these words."""
        path = f"var/log/{log}.log"
        wait_until(lambda: words in self.origin.read(path), reason=lambda: self.origin.read(path))


def assert_refused(tried: Login) -> None:
    """Before anybody asked for a key."""
    assert tried.code == 255
    assert "Connection reset" in tried.err or "Connection closed" in tried.err
    assert "Permission denied" not in tried.err


@pytest.fixture
def services(request: pytest.FixtureRequest, lab: Lab, balancers: Path, servers: Path) -> Services:
    """All of the page at once; with another of fail2ban's actions if a test says so."""
    PAGE.attach("haproxy.service", balancers)
    denied, control = lab.files / "banned.lst", lab.files / "admin.sock"
    denied.touch()

    def here(text: str) -> str:
        return text.replace("/etc/haproxy/banned.lst", str(denied))

    deny = PAGE.block("in the sections of /etc/haproxy/haproxy.cfg").splitlines()[1]
    sections = PAGE.block("/etc/haproxy/haproxy.cfg").replace("mode tcp\n", f"mode tcp\n  {deny}\n")
    file = lab.files / "haproxy.cfg"
    file.write_text(here(f"global\n  stats socket {control} level admin\n{sections}"))
    lab.start(lab.edge, ["haproxy", "-db", "-f", str(file)], [("", PORT)], place=balancers)

    action = f"banaction = {getattr(request, 'param', 'hostsdeny')}"
    jail = PAGE.block("/etc/fail2ban/jail.local").replace("banaction = hostsdeny", action)
    # Instead of ssh to the edge, and socat there.
    tell = lab.files / "tell.py"
    tell.write_text(TELL.format(control))
    remote = "ssh root@10.9.0.1 socat - /run/haproxy/admin.sock"
    on_the_edge = PAGE.block("/etc/fail2ban/action.d/edge.conf")
    assert on_the_edge.count(remote) == 2
    files = {
        "fail2ban/jail.local": jail,
        "fail2ban/action.d/edge.conf": here(on_the_edge).replace(
            remote, f"nsenter --target {os.getpid()} --mount /usr/bin/python3 {tell}"
        ),
    }
    return Services(lab, start_origin(lab, servers, files))


@pytest.mark.parametrize("version", [4, 6])
def test_who_fails_too_often_is_refused_and_nobody_else(services: Services, version: int) -> None:
    shown = PAGE.command("echo $SSH_CONNECTION")
    seen = services.visit(version, VISITOR[version], shown)
    address, port, *here = seen.out.split()
    assert (address, here) == (VISITOR[version], [ORIGIN[version], "22"])
    services.said(f"from {address} port {port} ")

    services.attack(version)
    services.said(f"Invalid user admin from {ATTACKER[version]} port ")
    services.said(f"[sshd] Ban {ATTACKER[version]}\n", "fail2ban")
    wait_until(lambda: services.origin.read("etc/hosts.deny") == IN_HOSTS_DENY[version])
    assert ATTACKER[version] in services.banned()

    # Not even with the right key.
    assert_refused(services.visit(version, ATTACKER[version]))
    services.said(f"refused connect from {ATTACKER[version]} ")
    assert services.visit(version, VISITOR[version]).code == 0

    services.unban(version)
    assert services.origin.read("etc/hosts.deny") == ""
    assert services.visit(version, ATTACKER[version]).code == 0


@pytest.mark.parametrize("services", ["nftables"], indirect=True)
def test_a_ban_in_the_firewall_of_the_origin_stops_nobody(services: Services) -> None:
    services.attack(4)
    wait_until(lambda: ATTACKER[4] in services.lab.origin.run("nft", "list", "ruleset"))
    assert ATTACKER[4] in services.banned()
    assert services.visit(4, ATTACKER[4]).code == 0


@pytest.mark.parametrize("version", [4, 6])
def test_the_edge_is_never_banned(services: Services, version: int) -> None:
    """As when TOA fails: every client fails from the edge's address."""
    server, source = (ORIGIN[version], 22), EDGE_TO_ORIGIN[version]
    for _ in range(FAILURES + 1):
        failed = login(services.lab.edge, source, server, "admin", services.origin.key)
        assert "Permission denied" in failed.err
    ignored = f"Ignore {source} by ip"
    log = "var/log/fail2ban.log"
    wait_until(lambda: services.origin.read(log).count(ignored) >= FAILURES + 1)
    assert "Ban " not in services.origin.read(log)
    assert f"`{ignored.replace(EDGE_TO_ORIGIN[6], EDGE_TO_ORIGIN[4])}`" in PAGE.text


@pytest.mark.parametrize("services", ["edge"], indirect=True)
@pytest.mark.parametrize("version", [4, 6])
def test_a_ban_on_the_edge(services: Services, version: int) -> None:
    services.attack(version)
    services.said(f"[sshd] Ban {ATTACKER[version]}\n", "fail2ban")
    wait_until(lambda: services.visit(version, ATTACKER[version]).code != 0)
    assert_refused(services.visit(version, ATTACKER[version]))
    # sshd was not even asked.
    assert "refused connect" not in services.origin.read("var/log/auth.log")
    assert services.visit(version, VISITOR[version]).code == 0

    services.unban(version)
    assert services.visit(version, ATTACKER[version]).code == 0
