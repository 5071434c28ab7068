# SPDX-License-Identifier: Apache-2.0
"""A client's way to a server that sees it: a load balancer, a sender, a receiver; any of each."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path

import edge_node
import haproxy
import own_balancer
import queued
import virtual_machine
from nstat import nstat

from cloud_toa import kmod
from cloud_toa.bpf import edge, origin
from cloud_toa.config import EdgeSettings, OriginSettings
from cloud_toa.demo.lab import EDGE, EDGE_TO_ORIGIN, ORIGIN, Lab
from cloud_toa.isolation import Namespace
from cloud_toa.trust import Trust

Counters = dict[str, int]

SENDERS = ("bpf", "queue")
RECEIVERS = ("bpf", "kmod", "saved-syn")
BALANCERS = ("haproxy", "nginx", "edge run")
PORT = 8001
"""Load balancers', of both families; edge run has the next as well, to the other family."""
SERVER_PORTS = {"haproxy": 7001, "nginx": 7002, "edge run": 7003,
                "own, md5": 7004, "own, fast-open": 7005}  # fmt: skip
"""Each balancer's own: on another's TIME_WAIT, a client's clock may seem late."""

ODD = {
    *("syn_without", "syn_magic", "no_room", "no_port", "wildcard", "unusable", "no_memory"),
    *("elsewhere", "not_stored", "passed", "errors", "unhandled", "restarts"),
    *("absent", "untrusted", "malformed", "duplicate", "late", "probes_missed", "table_full"),
    "by_syn_cookie",
}
"""Counters that say why an option was not written, or not believed."""


_NGINX = """
load_module modules/ngx_stream_module.so;
user root; daemon off; master_process off; error_log stderr; pid {files}/soak-nginx.pid;
events {{ worker_connections 8192; }}
stream {{
  proxy_connect_timeout 30s;
  server {{
    listen {edge[4]}:{port};
    proxy_bind $remote_addr:$remote_port transparent;
    proxy_pass {origin[4]}:{to};
  }}
  server {{
    listen [{edge[6]}]:{port};
    proxy_bind [$remote_addr]:$remote_port transparent;
    proxy_pass [{origin[6]}]:{to};
  }}
}}
"""


def receive(
    name: str,
    place: Path,
    undo: ExitStack,
    trust: Iterable[str] = EDGE_TO_ORIGIN.values(),
    host: Namespace | None = None,
) -> Callable[[], Counters]:
    """Attach a receiver that believes these sources; answer what asks for its counters.

    Saved SYNs have none. With ``host``, their server's, its kernel counts where it saved none.
    """
    settings = OriginSettings(Trust.parse(trust))
    if name == "bpf":
        undo.callback(origin.detach)
        origin.attach([place], settings)
        return _bpf_received
    if name == "kmod":
        undo.callback(kmod.detach)
        kmod.attach(settings, virtual_machine.module())
        return _module_received
    return partial(_not_saved, host) if host is not None else dict


def _not_saved(host: Namespace) -> Counters:
    return {"by_syn_cookie": nstat(host)["TcpExtSyncookiesRecv"]}


def _bpf_received() -> Counters:
    found = origin.status()
    return found.counters if found else {}


def _module_received() -> Counters:
    found = kmod.status()
    return found.counters if found else {}


def _node_sent(host: Namespace) -> Counters:
    """What a node counts, with ``restarts`` of its workers.

    Packets that are ``unhandled`` went past a worker that was away or too slow.
    """
    status = edge_node.status(host)
    counters = status["counters"]
    missed = counters.get("queued", 0) - counters.get("packets", 0)
    restarts = sum(worker["restarts"] for worker in status.get("workers", ()))
    return {**counters, "unhandled": max(0, missed), "restarts": restarts}


def _bpf_sent() -> Counters:
    found = edge.status()
    return found.counters if found else {}


@contextmanager
def send(
    lab: Lab, name: str, place: Path, origins: Iterable[str] = ORIGIN.values()
) -> Iterator[Callable[[], Counters]]:
    """Have a sender for a load balancer in ``place``; yields what asks for its counters.

    ``origins`` are those that the queue writes for.
    """
    if name == "bpf":
        edge.attach([place], EdgeSettings())
        try:
            yield _bpf_sent
        finally:
            edge.detach()
    else:
        with queued.running(lab.edge, list(origins), 2, every=False):
            yield partial(_node_sent, lab.edge)


def _haproxy(lab: Lab, to: int) -> list[str]:
    file = lab.files / "haproxy.conf"
    listen = {version: [address] for version, address in EDGE.items()}
    file.write_text(haproxy.configuration(listen, PORT, to))
    return ["haproxy", "-db", "-f", str(file)]


def _nginx(lab: Lab, to: int) -> list[str]:
    file = lab.files / "nginx.conf"
    file.write_text(_NGINX.format(edge=EDGE, origin=ORIGIN, port=PORT, to=to, files=lab.files))
    return ["nginx", "-c", str(file)]


def _own(how: str, _lab: Lab, to: int) -> list[str]:
    command = [sys.executable, own_balancer.__file__, how]
    for version in (4, 6):
        command += [EDGE[version], str(PORT), ORIGIN[version], str(to)]
    return command


@contextmanager
def _by_program(
    command: Callable[[Lab, int], list[str]], lab: Lab, sender: str, to: int
) -> Iterator[Callable[[], Counters]]:
    place = lab.cgroup("edge")
    with send(lab, sender, place) as counters:
        lab.start(lab.edge, command(lab, to), [("", PORT)], place=place)
        yield counters


@contextmanager
def _by_edge_run(lab: Lab, sender: str, to: int) -> Iterator[Callable[[], Counters]]:
    ways = [(PORT, client, client) for client in (4, 6)]
    if sender == "bpf":
        ways += [(PORT + 1, client, 10 - client) for client in (4, 6)]
    text = f'[toa]\ndatapath = "{sender}"\nauto_setup = true\n'
    for port, client, version in ways:
        listen = _address(EDGE[client], port)
        text += edge_node.service(f"{client}-{version}", listen, ORIGIN[version], to)
    with edge_node.running(lab.edge, text, lab.files):
        yield partial(_node_sent, lab.edge)


BY_BALANCER: dict[
    str, Callable[[Lab, str, int], AbstractContextManager[Callable[[], Counters]]]
] = {
    "haproxy": partial(_by_program, _haproxy),
    "nginx": partial(_by_program, _nginx),
    "edge run": _by_edge_run,
    "own, md5": partial(_by_program, partial(_own, "md5")),
    "own, fast-open": partial(_by_program, partial(_own, "fast-open")),
}
"""A load balancer at work, with a sender: the lab, the sender's name, the server's port. Yields
what asks for the sender's counters."""


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
