# SPDX-License-Identifier: Apache-2.0
"""Access logs that are no files: standard output, a pipe, nothing at all; who has no line."""

import json
import os
import select
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from cloud_toa.demo.lab import Lab
from cloud_toa.isolation import run
from tests.netns.edge_node import running, write
from tests.netns.edge_services import (
    CLIENT,
    FIRST,
    Log,
    ask,
    connected,
    is_refused,
    is_seen,
    service,
    start_origin,
    visit,
)
from tests.netns.logged import PATIENCE

pytestmark = pytest.mark.one_kernel


def settings(file: str | Path) -> str:
    return service("web", 8080) + f'[access_log]\nfile = "{file}"\n'


def test_standard_output(lab: Lab, receiver: Path) -> None:
    start_origin(lab, receiver, "web", FIRST)
    path = write(lab, settings("/dev/stdout"))
    with running(lab, "--config", str(path), stdout=subprocess.PIPE) as node:
        out = node.process.stdout
        assert out is not None
        with out:
            for _ in range(2):
                said = visit(lab, 8080)
                assert is_seen(said)
                line = json.loads(out.readline())
                assert (line["client"], int(line["client_port"])) == tuple(said["own"])
        assert "access log" not in node.log


@pytest.mark.parametrize(
    "limit", ['deny = ["203.0.113.66"]', "max_connections_per_client = 1"], ids=["deny", "limit"]
)
@pytest.mark.parametrize("proxied", [False, True])
def test_who_is_turned_away_is_counted(lab: Lab, receiver: Path, limit: str, proxied: bool) -> None:
    """There is no session yet that HAProxy could log; behind a proxy there is."""
    start_origin(lab, receiver, "web", FIRST)
    log = Log(lab)
    # Of the PROXY header, if there is one.
    turned, first = "203.0.113.66", b""
    lines = [limit]
    if proxied:
        lines.append('proxy_from = ["203.0.113.66"]')
        first = b"PROXY TCP4 203.0.113.66 10.8.0.1 4000 8080\r\n"
    path = write(lab, service("web", 8080, *lines) + log.settings)
    with running(lab, "--config", str(path)) as node:
        with ExitStack() as held:
            if "max" in limit:
                own = held.enter_context(connected(lab, 8080, client=turned, first=first))
                assert ask(own)["client"][0] == turned
            assert is_refused(lab, 8080, client=turned, first=first)
        assert is_seen(visit(lab, 8080))
        there = [CLIENT] + [turned] * (("max" in limit) + proxied)
        assert sorted(log.next()["client"] for _ in there) == sorted(there)
        ends = [each["end"] for each in log.entries() if each["origin"] == "-"]
        assert ends == (["PR"] if proxied else [])
        (web,) = json.loads(node.command("edge", "status", "--json").stdout)["edge"]["services"]
        assert web["refused"] == 1


def test_a_full_disk(lab: Lab, receiver: Path) -> None:
    """Traffic goes on; it is said once, and what is in the file is whole lines."""
    start_origin(lab, receiver, "web", FIRST)
    small = lab.files / "small"
    small.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=8k", "cloud-toa", str(small))
    try:
        file = small / "connections.log"
        path = write(lab, settings(file))
        with running(lab, "--config", str(path)) as node:
            for _ in range(60):
                assert is_seen(visit(lab, 8080))
            node.until("did not fit: connections are not logged until that is mended")
            for _ in range(60):
                assert is_seen(visit(lab, 8080))
        assert node.log.count("connections are not logged") == 1
        lines = file.read_text().splitlines()
        assert 5 < len(lines) < 60
        assert all(json.loads(line)["service"] == "web" for line in lines)
    finally:
        run("umount", "--lazy", str(small))


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX], ids=["udp", "unix"])
def test_syslog(lab: Lab, receiver: Path, family: socket.AddressFamily) -> None:
    start_origin(lab, receiver, "web", FIRST)
    with lab.edge.entered():
        syslog = socket.socket(family, socket.SOCK_DGRAM)
    with syslog:
        at = str(lab.files / "dev-log")
        syslog.bind(at if family == socket.AF_UNIX else ("127.0.0.1", 0))
        syslog.settimeout(PATIENCE)
        if family == socket.AF_INET:
            at = "127.0.0.1:{1}".format(*syslog.getsockname())
        path = write(lab, service("web", 8080) + f'[access_log]\nsyslog = "{at}"\n')
        with running(lab, "--config", str(path)):
            said = visit(lab, 8080)
            header, brace, line = syslog.recv(4096).decode().partition("{")
    # Facility local0, level info; RFC 3164.
    assert header.startswith("<134>")
    line = json.loads(brace + line)
    assert (line["service"], line["client"]) == ("web", CLIENT)
    assert int(line["client_port"]) == said["own"][1]


def test_standard_output_that_can_t_be_opened(lab: Lab) -> None:
    """As the journal's, which is a socket."""
    path = write(lab, settings("/dev/stdout"))
    own, other = socket.socketpair()
    with own, other:
        ours = [sys.executable, "-m", "cloud_toa", "edge", "run", "--config", str(path)]
        process = lab.edge.popen(ours, stdout=other.fileno(), stderr=subprocess.PIPE)
        said = process.communicate()[1].decode()
    assert process.returncode == 2
    assert "access_log.file /dev/stdout is a socket, which can't be opened" in said


def test_a_pipe_and_nothing(lab: Lab, receiver: Path) -> None:
    """That nobody reads a pipe costs lines, and nothing else."""
    start_origin(lab, receiver, "web", FIRST)
    fifo = lab.files / "lines"
    os.mkfifo(fifo)
    path = write(lab, settings(fifo))
    with running(lab, "--config", str(path)) as node:
        assert is_seen(visit(lab, 8080))
        node.until(f"access log {fifo}: nobody reads it: connections are not logged")
        assert is_seen(visit(lab, 8080))
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        try:
            port = visit(lab, 8080)["own"][1]
            ports: list[int] = []
            while port not in ports:
                assert select.select([reader], [], [], PATIENCE)[0]
                lines = os.read(reader, 1 << 16).splitlines()
                ports += (int(json.loads(line)["client_port"]) for line in lines)
        finally:
            os.close(reader)
        write(lab, settings("/dev/null"))
        node.until("applied")
        assert is_seen(visit(lab, 8080))
        write(lab, settings(lab.files))
        assert "is a folder: name a file in it" in node.until("not applied")
        assert is_seen(visit(lab, 8080))
