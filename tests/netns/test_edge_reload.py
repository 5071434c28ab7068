# SPDX-License-Identifier: Apache-2.0
"""HAProxy reloaded again and again under traffic: nobody is turned away, or taken for another."""

import multiprocessing
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import pytest

from cloud_toa.demo.lab import EDGE, Lab
from tests.netns.edge_node import PORT, SERVICE, running, write
from tests.netns.test_edge_run import ONE
from tests.netns.traffic import SERVER, wait_until

pytestmark = pytest.mark.one_kernel

RELOADS = 100
CLIENTS = 3
NGINX = f"""
daemon off; master_process off; error_log stderr; pid %(files)s/nginx.pid;
events {{ worker_connections 4096; }}
stream {{
  server {{ listen {SERVER[0]}:{SERVER[1]} backlog=4096; return "$remote_addr $remote_port"; }}
}}
"""


class Count:
    """Connections that were served as they should be, and others; shared by processes."""

    def __init__(self) -> None:
        self.good: Synchronized[int] = multiprocessing.Value("i")
        self.failed: Synchronized[int] = multiprocessing.Value("i")
        self.wrong: Synchronized[int] = multiprocessing.Value("i")
        self.stop: Synchronized[int] = multiprocessing.Value("i")

    @property
    def all(self) -> dict[str, int]:
        return {name: getattr(self, name).value for name in ("good", "failed", "wrong")}


def load(lab: Lab, number: int, count: Count) -> None:
    """Connect, read whom the origin sees, and begin anew, from addresses of one's own."""
    lab.client.enter()
    ip = f"203.0.113.{100 + number}"
    while not count.stop.value:
        with socket.socket() as sock:
            try:
                sock.settimeout(120)
                sock.bind((ip, 0))
                sock.connect(SERVICE)
                said = sock.recv(100).decode()
            except OSError:
                count.failed.value += 1
                continue
            if not said:
                count.failed.value += 1
            elif said != f"{ip} {sock.getsockname()[1]}":
                count.wrong.value += 1
            else:
                count.good.value += 1


@contextmanager
def traffic(lab: Lab, servers: Path) -> Iterator[Count]:
    """From an origin that tells whom it sees, to several clients that compare."""
    configuration = lab.files / "nginx.conf"
    module = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n"
    configuration.write_text(module + NGINX % {"files": lab.files})
    lab.start(lab.origin, ["nginx", "-c", str(configuration)], [SERVER], place=servers)
    count = Count()
    context = multiprocessing.get_context("fork")
    loads = [context.Process(target=load, args=(lab, number, count)) for number in range(CLIENTS)]
    for each in loads:
        each.start()
    try:
        yield count
    finally:
        count.stop.value = 1
        for each in loads:
            each.join()


@pytest.mark.slow
def test_many_reloads_under_traffic(lab: Lab, receiver: Path) -> None:
    more = ONE.replace(f'"{EDGE[4]}:{PORT}"', f'"{EDGE[4]}:{PORT}", "{EDGE[4]}:8099"')
    path = write(lab, ONE)
    with running(lab, "--config", str(path)) as node, traffic(lab, receiver) as count:
        begin = time.monotonic()
        for number in range(RELOADS):
            write(lab, ONE if number % 2 else more)
            said = node.command("edge", "reload")
            assert said.returncode == 0, said.stderr
        assert node.log.count("ended") == 0
        seconds, seen = time.monotonic() - begin, count.all
    assert seen["failed"] == seen["wrong"] == 0, seen
    assert seen["good"] > RELOADS * 10, seen
    print(f"{seen}, {seen['good'] / seconds:.0f}/s")


HELD = """#!/bin/sh
if [ "$1" = -c ]; then
    for name in first second; do
        if grep -q "$name" "$3"; then
            touch "{files}/$name-waits"
            while [ -e "{files}/$name-held" ]; do sleep 0.02; done
            [ "$name" = first ] || exit 1
        fi
    done
fi
exec haproxy "$@"
"""


def test_a_reload_is_not_answered_by_a_reading_of_before(lab: Lab, receiver: Path) -> None:
    """Wrong settings are saved while right ones are being applied by themselves."""
    files = lab.files
    program = files / "program"
    program.write_text(HELD.format(files=files))
    program.chmod(0o755)
    held = {name: files / f"{name}-held" for name in ("first", "second")}
    for each in held.values():
        each.touch()

    def named(name: str) -> str:
        return f'[haproxy]\nprogram = "{program}"\n' + ONE.replace('"web"', f'"{name}"')

    with running(lab, "--config", str(write(lab, named("web")))) as node:
        write(lab, named("first"))
        wait_until((files / "first-waits").exists)
        write(lab, named("second"))
        node.process.send_signal(signal.SIGSTOP)
        command = [sys.executable, "-m", "cloud_toa", "edge", "reload"]
        reload = lab.edge.popen(command, stderr=subprocess.PIPE)
        wait_until(lambda: signal.SIGHUP in pending(node.process.pid))
        node.process.send_signal(signal.SIGCONT)
        held["first"].unlink()
        wait_until((files / "second-waits").exists)
        with pytest.raises(subprocess.TimeoutExpired):  # as there is no answer yet
            reload.wait(1)
        held["second"].unlink()
        _, said = reload.communicate(timeout=60)
        assert (reload.returncode, b"not applied" in said) == (2, True), said


def pending(process: int) -> set[int]:
    """Signals that it has not taken yet."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    bits = int(next(line.split()[1] for line in lines if line.startswith("ShdPnd:")), 16)
    return {number for number in signal.valid_signals() if bits >> number - 1 & 1}
