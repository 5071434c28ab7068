# SPDX-License-Identifier: Apache-2.0
"""The path that is measured: one HAProxy, one nginx, and the ways to name the client.

Every mode (modes.py) has a frontend and, where the origin must be told differently, a listener of
its own in the same two processes, so that nothing but the mode differs.

Plain means plain: eBPF is attached for the rounds that need it and taken off again.
"""

import os
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import edge_node
import noop
import queued
import virtual_machine
from modes import TABLE, Mode

from cloud_toa import kmod
from cloud_toa.bpf import edge, origin
from cloud_toa.config import EdgeSettings, OriginSettings
from cloud_toa.demo.lab import EDGE, EDGE_TO_ORIGIN, ORIGIN, Lab, stop
from cloud_toa.errors import ToaError
from cloud_toa.isolation import run
from cloud_toa.trust import Trust

PROGRAMS = {"haproxy": "haproxy", "nginx": "nginx-light", "go-mmproxy": "go-mmproxy", "wrk": "wrk"}
"""What the benchmarks run, and the Debian packages that have it."""

FILE_SIZE = 64 << 20
"""Bytes of the file at /file: more than any buffer, little enough to stay in memory."""

_CLIENT = ("203.0.113.7", 40007)

_DEFAULTS = """
global
  maxconn 4000
defaults
  mode tcp
  timeout connect 10s
  timeout client 60s
  timeout server 60s
"""
_PLAIN = f"""
listen plain
  bind {EDGE[4]}:{{port}}
  server origin {ORIGIN[4]}:8001
"""
_HAPROXY = f"""{_DEFAULTS}{_PLAIN.format(port=8001)}
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
        self.queue: queued.Running | None = None
        """The queue datapath, while a mode has it."""
        self.node: tuple[int, ...] = ()
        """Processes of ``cloud-toa edge run``, while a mode has it; the node is the first."""
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
            if mode.attached or mode.queues or mode.node:
                self._receive(mode.receiver, undo)
            if mode.attached:
                undo.callback(edge.detach)
                edge.attach([self.edge_cgroup], EdgeSettings())
            if mode.queues:
                edge_run = queued.running(self.lab.edge, [ORIGIN[4]], mode.queues, every=mode.every)
                self.queue = undo.enter_context(edge_run)
                undo.callback(setattr, self, "queue", None)
            if mode.node:
                listen = f"{EDGE[4]}:{mode.port}"
                text = edge_node.web(listen)
                if mode.log:
                    text += edge_node.access_log(self.lab.files)
                node = edge_node.running(self.lab.edge, text, self.lab.files)
                self.node = undo.enter_context(node)
                undo.callback(setattr, self, "node", ())
            if mode.new:
                self.node = (undo.enter_context(self._new_haproxy(mode.port)),)
                undo.callback(setattr, self, "node", ())
            if mode.node or mode.new:
                # What it is compared with has had connections before.
                self.lab.client.run(
                    *("wrk", "-t1", "-c32", "-d1s", "-H", "Connection: close"),
                    f"http://{EDGE[4]}:{mode.port}/",
                )
            if mode.floor:
                at = (self.edge_cgroup, self.origin_cgroup)
                undo.enter_context(noop.attached(*at, noop.SAME_CALLS))
            if mode.rule:
                self._rule("add", *mode.rule)
                undo.callback(self._rule, "del", *mode.rule)
            yield EDGE[4], mode.port

    @contextmanager
    def _new_haproxy(self, port: int) -> Iterator[int]:
        """A HAProxy of the hand-written configuration's ``plain``; yields its process."""
        file = self.lab.files / "new-haproxy.cfg"
        file.write_text(_DEFAULTS + _PLAIN.format(port=port))
        command = ["setsid", "haproxy", "-db", "-f", str(file)]
        process = self.lab.start(self.lab.edge, command, [(EDGE[4], port)], place=self.edge_cgroup)
        try:
            yield process.pid
        finally:
            stop(process)

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
        pids += self.node
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
            host.run("ip", "route", "add", "local", "default", "dev", "lo", "table", TABLE)

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
        # In sessions of their own, as services are and edge run's HAProxy is: the kernel shares
        # processors among sessions first (sched(7), autogroup), which is half of bulk's speed.
        self._servers = [
            lab.start(host, ["setsid", *command], [(address, port) for port in ports], place=place)
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
            kmod.attach(settings, virtual_machine.module())

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
