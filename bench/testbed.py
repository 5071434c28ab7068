# SPDX-License-Identifier: Apache-2.0
"""The path that is measured: one HAProxy, one nginx, and the ways to name the client.

Every mode has a frontend and, where the origin must be told differently, a listener of
its own in the same two processes, so that nothing but the mode differs::

    plain        HAProxy ------------------------------> nginx :8001
    toa          HAProxy, usesrc client, eBPF ---------> nginx :8001
    proxy-v2     HAProxy, send-proxy-v2 ---------------> nginx :8003 proxy_protocol
    go-mmproxy   HAProxy, send-proxy-v2 -> go-mmproxy -> nginx :8001 on loopback
    idle         as plain, with eBPF attached that has nothing to do
    transparent  as toa, but by IP_TRANSPARENT and policy routing instead of eBPF
    floor        as transparent, with programs at TOA's hooks that do nothing, as often
    queue-N      as toa, by the queue datapath with N queues instead of eBPF
    every        as queue-1, with every packet queued
    unread       as toa, with nobody to read the option at the origin
    kmod         as toa, read by toa.ko

Plain means plain: eBPF is attached for the rounds that need it and taken off again.
"""

import os
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import noop
import queued

from cloud_toa import kmod
from cloud_toa.bpf import edge, origin
from cloud_toa.config import EdgeSettings, OriginSettings
from cloud_toa.demo.isolation import run
from cloud_toa.demo.lab import EDGE, EDGE_TO_ORIGIN, ORIGIN, Lab
from cloud_toa.errors import ToaError
from cloud_toa.trust import Trust

# A routing table of the edge and of the origin in which every address is their own.
_TABLE = "100"


_TO_HAPROXY = ("edge", "iif", "to-origin", "table", _TABLE)


@dataclass(frozen=True)
class Mode:
    """A way to tell the origin who the client is.

    ``port`` is HAProxy's for it, ``seen`` whether the origin sees the client, ``attached``
    whether by eBPF, ``rule`` the policy routing it needs: a host, and an ``ip rule``;
    ``floor`` whether programs that do nothing are attached; ``queues`` how many the queue
    datapath has, ``every`` whether every packet goes through one; ``receiver`` who reads the
    option where one is written: bpf, kmod, or nobody.
    """

    name: str
    port: int
    title: str
    seen: bool = True
    attached: bool = False
    rule: tuple[str, ...] = ()
    floor: bool = False
    queues: int = 0
    every: bool = False
    receiver: str = "bpf"


MODES = {
    mode.name: mode
    for mode in (
        Mode("plain", 8001, "plain", seen=False),
        Mode("toa", 8002, "TOA", attached=True),
        Mode("proxy-v2", 8003, "PROXY v2"),
        # As its manual wants it: what nginx answers to a client goes back to go-mmproxy.
        Mode(
            "go-mmproxy",
            8004,
            "PROXY v2 + go-mmproxy",
            rule=("origin", "from", "127.0.0.1/8", "iif", "lo", "table", _TABLE),
        ),
        Mode("idle", 8001, "plain, eBPF attached", seen=False, attached=True),
        # What the origin answers to a client's address goes to HAProxy's own socket.
        Mode(
            "transparent",
            8002,
            "IP_TRANSPARENT + routing",
            rule=_TO_HAPROXY,
        ),
        Mode("floor", 8002, "programs that do nothing", rule=_TO_HAPROXY, floor=True),
        Mode("queue-1", 8005, "TOA by 1 queue", queues=1),
        Mode("queue-4", 8005, "TOA by 4 queues", queues=4),
        Mode("every", 8005, "every packet queued, 1 queue", queues=1, every=True),
        Mode("unread", 8002, "TOA, no receiver", seen=False, attached=True, receiver=""),
        Mode("kmod", 8002, "TOA, read by toa.ko", attached=True, receiver="kmod"),
    )
}

PROGRAMS = {"haproxy": "haproxy", "nginx": "nginx-light", "go-mmproxy": "go-mmproxy", "wrk": "wrk"}
"""What the benchmarks run, and the Debian packages that have it."""

FILE_SIZE = 64 << 20
"""Bytes of the file at /file: more than any buffer, little enough to stay in memory."""

_CLIENT = ("203.0.113.7", 40007)

_HAPROXY = f"""
global
  maxconn 4000
defaults
  mode tcp
  timeout connect 10s
  timeout client 60s
  timeout server 60s
listen plain
  bind {EDGE[4]}:8001
  server origin {ORIGIN[4]}:8001
listen toa
  bind {EDGE[4]}:8002
  source 0.0.0.0 usesrc client
  server origin {ORIGIN[4]}:8001
# With an origin's port of its own: on another mode's TIME_WAIT, a client's clock may seem late.
listen queue
  bind {EDGE[4]}:8005
  source 0.0.0.0 usesrc client
  server origin {ORIGIN[4]}:8005
listen proxy-v2
  bind {EDGE[4]}:8003
  server origin {ORIGIN[4]}:8003 send-proxy-v2
listen go-mmproxy
  bind {EDGE[4]}:8004
  server origin {ORIGIN[4]}:8004 send-proxy-v2
"""

_NGINX = """
daemon off; master_process off; error_log stderr; pid %(files)s/nginx.pid;
events { worker_connections 8192; }
http {
  # As the Debian package has it: a log line for each request, and a page from a file.
  access_log %(files)s/access.log;
  sendfile on;
  keepalive_requests 1000000;
  server {
    listen 8001; listen 8005;
    listen 8003 proxy_protocol;
    set_real_ip_from %(edge)s;
    real_ip_header proxy_protocol;
    root %(served)s;
    location = /client { return 200 "$remote_addr $remote_port\\n"; }
  }
}
"""


class Testbed:
    """The lab with everything running; a mode is entered with `ready`."""

    def __init__(self) -> None:
        require(PROGRAMS)
        self.module: Path | None = None
        """The toa.ko to load; None for the one that is installed."""
        self.queue: queued.Running | None = None
        """The queue datapath, while a mode has it."""
        # A benchmark is often run under a time limit: ended so, it cleans up as well.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with ExitStack() as undo:
            self.lab = undo.enter_context(Lab())
            self._start(undo)
            self._undo = undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop everything."""
        self._undo.close()

    @contextmanager
    def ready(self, mode: Mode) -> Iterator[tuple[str, int]]:
        """Have the host as the mode wants it; yields the address where to connect."""
        with ExitStack() as undo:
            if mode.attached or mode.queues:
                self._receive(mode.receiver, undo)
            if mode.attached:
                undo.callback(edge.detach)
                edge.attach([self.edge_cgroup], EdgeSettings())
            if mode.queues:
                edge_run = queued.running(self.lab.edge, ORIGIN[4], mode.queues, mode.every)
                self.queue = undo.enter_context(edge_run)
                undo.callback(setattr, self, "queue", None)
            if mode.floor:
                at = (self.edge_cgroup, self.origin_cgroup)
                undo.enter_context(noop.attached(*at, noop.SAME_CALLS))
            if mode.rule:
                self._rule("add", *mode.rule)
                undo.callback(self._rule, "del", *mode.rule)
            yield EDGE[4], mode.port

    def check(self, mode: Mode) -> None:
        """Ask the origin whom it sees.

        Raises:
            ToaError: not the client; or the client, where nobody told it.
        """
        with self.ready(mode) as address, self.lab.connect(_CLIENT, address) as sock:
            sock.sendall(b"GET /client HTTP/1.0\r\n\r\n")
            answer = b""
            while received := sock.recv(4096):
                answer += received
        shown = answer.decode().rsplit("\r\n", 1)[-1].split()
        right = shown == [_CLIENT[0], str(_CLIENT[1])] if mode.seen else shown[0] == _edge_source()
        if not right:
            raise ToaError(f"mode {mode.name} does not work: the origin sees {' '.join(shown)}")

    def pin(self, processors: set[int]) -> None:
        """Hold all servers on these processors."""
        for process in self._servers:
            for thread in Path(f"/proc/{process.pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), processors)

    def cpu_time(self) -> float:
        """Seconds of processor time that servers, clients that ended, and we have used.

        What the kernel does for a packet, to its receiver's end, counts for who sent it.
        """
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        # As clock_getcpuclockid(3) makes it: the clock of another process, all threads.
        pids = [process.pid for process in self._servers]
        pids += self.queue.pids if self.queue else ()
        clocks = (~pid << 3 | 2 for pid in pids)
        ours = time.process_time() + children.ru_utime + children.ru_stime
        return ours + sum(map(time.clock_gettime, clocks))

    def _start(self, undo: ExitStack) -> None:
        lab = self.lab
        at_edge, at_origin = lab.cgroup("edge"), lab.cgroup("origin")
        self.edge_cgroup, self.origin_cgroup = at_edge, at_origin
        for host in (lab.client, lab.edge, lab.origin):
            # Some 100,000 connections a round, and each leaves its port in TIME_WAIT.
            host.run("sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65535")
            host.run("sysctl", "-qw", "net.ipv4.tcp_tw_reuse=1")
        # Where connections come from the clients' own addresses, answers pass the edge.
        lab.origin.run("ip", "route", "add", "default", "via", _edge_source())
        for host in (lab.edge, lab.origin):
            host.run("ip", "route", "add", "local", "default", "dev", "lo", "table", _TABLE)

        # In memory, for a disk would be measured otherwise; and gone with this process's mounts.
        served = lab.files / "served"
        served.mkdir()
        run("mount", "-t", "tmpfs", "cloud-toa", str(served))
        undo.callback(run, "umount", "--lazy", str(served))
        shutil.copy("/usr/share/nginx/html/index.html", served)
        with (served / "file").open("wb") as file:
            file.write(os.urandom(1 << 20) * (FILE_SIZE >> 20))
        nginx, haproxy = lab.files / "nginx.conf", lab.files / "haproxy.cfg"
        nginx.write_text(_NGINX % {"files": lab.files, "served": served, "edge": _edge_source()})
        haproxy.write_text(_HAPROXY)
        mmproxy = ["go-mmproxy", "-l", f"{ORIGIN[4]}:8004", "-4", "127.0.0.1:8001"]
        self._servers = [
            lab.start(host, command, [(address, port) for port in ports], place=place)
            for host, place, command, address, ports in (
                (lab.origin, at_origin, ["nginx", "-c", str(nginx)], "0.0.0.0", (8001, 8003)),
                (lab.origin, at_origin, mmproxy, ORIGIN[4], (8004,)),
                (
                    lab.edge,
                    at_edge,
                    ["haproxy", "-db", "-f", str(haproxy)],
                    EDGE[4],
                    range(8001, 8006),
                ),
            )
        ]

    def _receive(self, receiver: str, undo: ExitStack) -> None:
        settings = OriginSettings(Trust.parse([_edge_source()]))
        if receiver == "bpf":
            undo.callback(origin.detach)
            origin.attach([self.origin_cgroup], settings)
        elif receiver == "kmod":
            undo.callback(kmod.detach)
            kmod.attach(settings, self.module)

    def _rule(self, verb: str, host: str, *rule: str) -> None:
        {"edge": self.lab.edge, "origin": self.lab.origin}[host].run("ip", "rule", verb, *rule)


def require(programs: dict[str, str]) -> None:
    """Check that programs are installed.

    Raises:
        ToaError: some are not; says what to do.
    """
    missing = [package for program, package in programs.items() if not shutil.which(program)]
    if missing:
        raise ToaError(f"missing packages: {' '.join(missing)}: run scripts/install bench")


def _edge_source() -> str:
    return EDGE_TO_ORIGIN[4]
