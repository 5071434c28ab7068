# SPDX-License-Identifier: Apache-2.0
"""Idle connections: what each takes of every process, and of the kernel.

A client opens a connection, asks nginx once whom it sees, and is silent. When all are there,
memory is compared with what it was before them; then each asks again and must be answered
its own address. Before, some connections come and go, for what is allotted once.

In a virtual machine, HAProxy's cgroup counts what it takes with the sockets that are its; and
a process may have as many open files as HAProxy needs, two for each connection.
"""

import argparse
import os
import resource
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import edge_node
import report
import virtual_machine
from testbed import require

from cloud_toa.bpf import cgroup, origin
from cloud_toa.config import OriginSettings
from cloud_toa.demo.lab import EDGE, EDGE_TO_ORIGIN, ORIGIN, Lab
from cloud_toa.errors import ToaError
from cloud_toa.isolation import isolate
from cloud_toa.trust import Trust

Memory = dict[str, int]
"""Bytes, by what has them."""

_LISTEN, _SERVER = (EDGE[4], 8006), (ORIGIN[4], 8001)
_CLIENT = "203.0.113.7"
_WARM = 200
_MORE = 500
"""Connections that HAProxy may have beside those that are measured."""
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PLAIN = "HAProxy alone"
_OFF = "edge run, TOA off"
_TOA = "edge run"
_CACHES = 12

_HAPROXY = f"""
global
  maxconn {{most}}
defaults
  mode tcp
  timeout connect 10s
  timeout client 1h
  timeout server 1h
listen plain
  bind {_LISTEN[0]}:{_LISTEN[1]}
  server origin {_SERVER[0]}:{_SERVER[1]}
"""
_NGINX = f"""
daemon off; master_process off; error_log stderr; pid {{files}}/nginx.pid;
events {{{{ worker_connections {{most}}; }}}}
http {{{{
  access_log off;
  keepalive_timeout 1d;
  server {{{{
    listen {_SERVER[1]} backlog=4096;
    location = / {{{{ return 200 "$remote_addr $remote_port\\n"; }}}}
  }}}}
}}}}
"""


def main() -> int:
    """Run the benchmark here, or in the machines."""
    parser = argparse.ArgumentParser(description="Memory of idle connections.")
    parser.add_argument("--connections", type=int, default=20_000, help="how many (default 20000)")
    virtual_machine.add_option(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every figure there")
    parser.add_argument("--markdown", action="store_true", help="print for docs/performance.md")
    asked = parser.parse_args()
    if asked.vm and asked.json:
        raise ToaError("--json: a virtual machine's files vanish with it: leave it out with --vm")
    if asked.vm and not virtual_machine.is_inside():
        print(virtual_machine.run(asked.vm))
        return 0
    return measure_here(asked.connections, asked.json, markdown=asked.markdown)


def measure_here(connections: int, keep: Path | None, *, markdown: bool) -> int:
    """Print what this machine needs."""
    require({"haproxy": "haproxy", "nginx": "nginx-light"})
    needed = 2 * (connections + _MORE) + 2000
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError, OSError):  # said below
        most = max(most, needed)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if (most := resource.getrlimit(resource.RLIMIT_NOFILE)[1]) < needed:
        raise ToaError(
            f"the limit of open files (ulimit -Hn) is {most}, enough for --connections "
            f"{(most - 2000) // 2 - _MORE}; or take --vm"
        )
    isolate()
    found = {}
    for mode in (_PLAIN, _OFF, _TOA):
        found[mode] = measure(mode, connections)
    machine = report.facts()
    print(report.describe(machine), end="\n\n")
    print(table(found, connections).text(markdown), end="\n\n")
    print(caches(found, connections).text(markdown))
    report.keep(keep, {"machine": machine, "connections": connections, "bytes": found})
    return 0


def measure(mode: str, connections: int) -> Memory:
    """What so many connections took."""
    with Lab() as lab, ExitStack() as undo:
        pids = undo.enter_context(_path(lab, mode, connections + _MORE))
        toa = mode == _TOA
        with _open(lab, _WARM, toa=toa):
            pass
        _settle()
        before = memory(pids)
        with _open(lab, connections, toa=toa) as opened:
            _settle()
            after = memory(pids)
            for sock in opened:
                _ask(sock, toa=toa)
    return {what: after[what] - before.get(what, 0) for what in after}


def table(found: dict[str, Memory], connections: int) -> report.Table:
    """Bytes of a connection by what has them, in every mode."""
    shown = report.Table(f"bytes for each of {connections:,} connections", *found)
    for what in dict.fromkeys(what for sample in found.values() for what in sample):
        if not what.startswith("slab "):
            shown.add(what, *(_each(sample, what, connections) for sample in found.values()))
    return shown


def caches(found: dict[str, Memory], connections: int) -> report.Table:
    """The kernel's caches that grow the most."""
    names = {what for sample in found.values() for what in sample if what.startswith("slab ")}
    order = sorted(names, key=lambda what: -max(each.get(what, 0) for each in found.values()))
    shown = report.Table("kernel's cache", *found)
    for what in order[:_CACHES]:
        row = (_each(sample, what, connections) for sample in found.values())
        shown.add(what.removeprefix("slab "), *row)
    return shown


def _each(sample: Memory, what: str, connections: int) -> str:
    return f"{sample[what] / connections:,.0f}" if what in sample else "–"


@contextmanager
def _path(lab: Lab, mode: str, most: int) -> Iterator[dict[str, int]]:
    """Have nginx and the edge at work; yields their processes."""
    with ExitStack() as undo:
        at_origin = lab.cgroup("origin")
        undo.callback(origin.detach)
        origin.attach([at_origin], OriginSettings(Trust.parse([EDGE_TO_ORIGIN[4]])))
        file = lab.files / "nginx.conf"
        file.write_text(_NGINX.format(files=lab.files, most=2 * most))
        command = ["nginx", "-c", str(file)]
        nginx = lab.start(lab.origin, command, [_SERVER], place=at_origin)
        pids = {"nginx, the origin": nginx.pid, "clients": os.getpid()}
        if mode == _PLAIN:
            file = lab.files / "haproxy.cfg"
            file.write_text(_HAPROXY.format(most=most))
            with _counted():
                place = lab.cgroup("edge")
            command = ["haproxy", "-W", "-f", str(file)]
            master = lab.start(lab.edge, command, [_LISTEN], place=place).pid
            (worker,) = _children(master)
        else:
            text = edge_node.service("web", ":".join(map(str, _LISTEN)), *_SERVER)
            text += f"[haproxy]\nmax_connections = {most}\n[toa]\n"
            text += f"enabled = {str(mode == _TOA).lower()}\n"
            running = edge_node.running(lab.edge, text, lab.files)
            with _counted():
                node, worker = undo.enter_context(running)
            pids["node"] = node
            master = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
        yield {"HAProxy, worker": worker, "HAProxy, master": master, **pids}


@contextmanager
def _counted() -> Iterator[None]:
    """Have the memory of cgroups counted that are made now, where it can be."""
    control = cgroup.root() / "cgroup.subtree_control"
    if "memory" in (cgroup.root() / "cgroup.controllers").read_text().split():
        control.write_text("+memory")
    yield


def _children(process: int) -> list[int]:
    return [
        int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()
    ]


@contextmanager
def _open(lab: Lab, number: int, *, toa: bool) -> Iterator[list[socket.socket]]:
    """So many connections, each of which has asked."""
    with ExitStack() as undo:
        opened = []
        with lab.client.entered():
            for _ in range(number):
                sock = undo.enter_context(socket.create_connection(_LISTEN, 60, (_CLIENT, 0)))
                _ask(sock, toa=toa)
                opened.append(sock)
        yield opened


def _ask(sock: socket.socket, *, toa: bool) -> None:
    """Ask whom the origin sees.

    Raises:
        ToaError: not the client, with TOA; not the edge, without.
    """
    sock.sendall(b"GET / HTTP/1.1\r\nHost: origin\r\n\r\n")
    answer = sock.recv(4096)
    address, port = answer.rpartition(b"\r\n\r\n")[2].decode().split()
    wanted = sock.getsockname() if toa else (EDGE_TO_ORIGIN[4], int(port))
    if (address, int(port)) != wanted:
        raise ToaError(f"a connection from {sock.getsockname()} is seen as {address} {port}")


def _settle() -> None:
    """Let what was freed be given back: RCU, and what has ended."""
    time.sleep(5)


def memory(pids: dict[str, int]) -> Memory:
    """What these processes, HAProxy's cgroup and the kernel have now."""
    used = {name: _pss(pid) for name, pid in pids.items()}
    place = next(
        line[3:]
        for line in Path(f"/proc/{pids['HAProxy, worker']}/cgroup").read_text().splitlines()
        if line.startswith("0::")
    )
    folder = cgroup.root() / place.lstrip("/")
    if (folder / "memory.current").exists():
        used["HAProxy's cgroup, its sockets included"] = int(
            (folder / "memory.current").read_text()
        )
    lines = Path("/proc/meminfo").read_text().splitlines()
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    used["kernel, of all three hosts: slab"] = 1024 * kilobytes["Slab"]
    free = sum(kilobytes[name] for name in ("MemFree", "Buffers", "Cached"))
    used["whole machine"] = 1024 * (kilobytes["MemTotal"] - free)
    sockets = Path("/proc/net/sockstat").read_text().splitlines()
    tcp = next(line.split() for line in sockets if line.startswith("TCP:"))
    used["kernel: buffers of TCP"] = _PAGE * int(tcp[tcp.index("mem") + 1])
    for line in Path("/proc/slabinfo").read_text().splitlines()[2:]:
        # name <active_objs> <num_objs> <objsize> ...
        words = line.split()
        used[f"slab {words[0]}"] = int(words[1]) * int(words[3])
    return used


def _pss(process: int) -> int:
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ToaError as error:
        sys.exit(f"bench/idle: {error}")
