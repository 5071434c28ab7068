# SPDX-License-Identifier: Apache-2.0
"""toa.ko while other things happen: loads and unloads, parameters, threads, missed probes."""

import contextlib
import itertools
import subprocess
import threading
from ipaddress import ip_address
from pathlib import Path

from cloud_toa import kmod
from cloud_toa.option import Client, encode
from tests.netns.locked_socket import locked
from tests.netns.module_kernel import entries, numbered
from tests.netns.receivers import MODULE, Module
from tests.netns.traffic import wait_until
from tests.netns.tun_client import SOURCE, Clients, Visit

LOADS = 200
THREADS = 8
ASKED_AT_ONCE = 1024
"""How many calls of inet_getname may be under way (maxactive in toa.c)."""


def test_loads_and_unloads_under_traffic(clients: Clients) -> None:
    """A connection is its client's or, made without the module, the edge's: nobody else's."""
    stop = threading.Event()
    seen = {"client": 0, "edge": 0}
    wrong: list[object] = []

    def come_and_go() -> None:
        held: list[Visit] = []
        for number in itertools.count():
            # Not as fast as can be: the loads are to have their share of the processor.
            if stop.wait(0.005):
                break
            visit = clients.connect(encode(numbered(number)))
            if visit is None:
                wrong.append("refused")
                continue
            if visit.peer == (str(numbered(number).ip), numbered(number).port):
                seen["client"] += 1
            elif visit.peer == (SOURCE, visit.port):
                seen["edge"] += 1
            else:
                wrong.append(visit.peer)
            # Some are open whenever the module goes.
            held.append(visit)
            if len(held) > 50:
                held.pop(0).reset()
        for visit in held:
            visit.reset()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for _ in range(LOADS):
            subprocess.run(["rmmod", "toa"], check=True)
            subprocess.run(["insmod", str(MODULE), f"trust={SOURCE}"], check=True)
    finally:
        stop.set()
        thread.join()
    assert not wrong
    assert min(seen.values()) > LOADS // 4, seen
    assert entries() == 0


def test_missed_probes_are_counted(clients: Clients) -> None:
    """As many ask as the kernel follows, and wait: who comes then is told the edge's address."""
    held, other = (clients.connect(encode(numbered(number))) for number in (1, 2))
    assert held
    assert other
    answers: list[tuple[str, int]] = []

    def missed() -> int:
        status = kmod.status()
        assert status is not None
        return status.counters["probes_missed"]

    def ask() -> None:
        answers.append(held.conn.getpeername())

    before = missed()
    threading.stack_size(1 << 18)
    threads = [threading.Thread(target=ask) for _ in range(ASKED_AT_ONCE + 1)]
    threading.stack_size(0)
    with locked(held.conn):
        for thread in threads:
            thread.start()
        wait_until(lambda: missed() > before)
        assert other.conn.getpeername() == (SOURCE, other.port)
    for thread in threads:
        thread.join()
    port = numbered(1).port
    assert port
    client = (str(numbered(1).ip), port)
    assert len(answers) == len(threads)
    assert answers.count(client) == ASKED_AT_ONCE
    assert set(answers) == {client, (SOURCE, held.port)}
    assert other.conn.getpeername() == (str(numbered(2).ip), numbered(2).port)
    for visit in (held, other):
        visit.reset()
    assert entries() == 0


def test_parameters_while_the_module_comes_and_goes(module: Module) -> None:
    """Read and written until the kernel takes their files away; KASAN found them freed before."""
    stop = threading.Event()
    done = {"read": 0, "written": 0}

    def read() -> None:
        while not stop.is_set():
            for name in ("trust", "kinds_v4", "table_entries"):
                with contextlib.suppress(OSError):
                    (kmod.SYS / "parameters" / name).read_text()
                    done["read"] += 1

    def write() -> None:
        networks = ",".join(f"10.{number}.0.0/16" for number in range(100))
        while not stop.is_set():
            with contextlib.suppress(OSError):
                (kmod.SYS / "parameters/trust").write_text(networks)
                done["written"] += 1

    threads = [threading.Thread(target=work) for work in (read, write)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            module.receive(Path(), trust=SOURCE)
            module.detach()
            # No kind is left: the load fails, with its files there until then.
            refused = ["insmod", str(MODULE), "kinds_v4=", "kinds_v6="]
            if subprocess.run(refused, stderr=subprocess.DEVNULL, check=False).returncode == 0:
                module.detach()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert min(done.values()) > 5, done


def test_many_threads_ask_while_connections_close(clients: Clients) -> None:
    """Every answer is a client's, whole: its port follows from its address."""
    stop = threading.Event()
    current: list[Visit] = []
    asked = [0] * THREADS
    wrong: list[object] = []

    def ask(index: int) -> None:
        while not stop.is_set():
            for visit in current[:]:
                try:
                    host, port = visit.conn.getpeername()
                except OSError:
                    continue  # closed, or reset
                asked[index] += 1
                number = int(ip_address(host)) - 0xCB000000
                if numbered(number) != Client(ip_address(host), port):
                    wrong.append((host, port))

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        for number in range(500):
            visit = clients.connect(encode(numbered(number)))
            assert visit
            current.append(visit)
            if len(current) > 8:
                current.pop(0).reset()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        for visit in current:
            visit.reset()
    assert not wrong
    assert min(asked) > 100, asked
    assert entries() == 0
