# SPDX-License-Identifier: Apache-2.0
"""A flood of forged packets, and real clients meanwhile: who is seen, and who is served?"""

import time
from collections import Counter
from contextlib import ExitStack
from ipaddress import ip_address, ip_network
from pathlib import Path

import flood
import kernel_memory
import paths
import told_server
import visitors
from attacker import link
from nstat import nstat
from outcome import Outcome
from tally import Tally

from cloud_toa.demo.lab import CLIENTS, EDGE, EDGE_TO_ORIGIN, Lab
from cloud_toa.errors import ToaError
from cloud_toa.isolation import Namespace

_AT_ONCE = 16
_SETTLE = 5.0
"""Seconds until the kernel has given back what ended."""
_PATIENCE = 120.0
"""Seconds until the first client was there; emulated, they are many."""
_KEPT = 20
_COUNTS = (
    *("SyncookiesSent", "SyncookiesRecv", "SyncookiesFailed", "TCPReqQFullDoCookies"),
    *("TCPReqQFullDrop", "ListenOverflows", "ListenDrops"),
)
_THERE = [*map(ip_network, CLIENTS.values()), *map(ip_network, EDGE_TO_ORIGIN.values())]


def assault(
    lab: Lab, attacker: Namespace, log: Path, packets: list[str], seconds: float, *, clients: bool
) -> Tally:
    """Send these packets, if any, and have real clients come meanwhile, or none.

    Without clients, every connection that the server accepts is false.

    Args:
        lab: with a server that writes ``log``, and HAProxy.
        attacker: the host at the origin's switch.
        log: see `told_server.Serve`.
        packets: see `flood`.
        seconds: how long new clients come, from the first one on. The last ones may take longer.
        clients: whether they come.

    Raises:
        ToaError: none came.
    """
    before, outcome = kernel_memory.sample(lab.origin), Outcome()
    counted = nstat(lab.origin)
    with ExitStack() as undo:
        if packets:
            undo.enter_context(flood.sending(lab, attacker, packets))
        begun, sent, received = time.monotonic(), link(attacker).sent, link(lab.origin).received
        if clients:
            ways = [visitors.Way(CLIENTS[each], EDGE[each], paths.PORT) for each in (4, 6)]
            task = visitors.Visit(ways, list(EDGE_TO_ORIGIN.values()), at_once=_AT_ONCE)
            real = visitors.Visitors(lab.client, task)
            _wait(log)
        until = time.monotonic() + seconds
        most = kernel_memory.most(lab.origin, lambda: time.monotonic() > until)
        if clients:
            real.stop()
            outcome = real.outcome()
            if not outcome.total:
                raise ToaError("no client came: give it more --seconds")
        took = time.monotonic() - begun
        sent, received = link(attacker).sent - sent, link(lab.origin).received - received
    time.sleep(_SETTLE)  # nothing tells when memory has been given back
    now = nstat(lab.origin)
    seen = told_server.read_log(log)
    false = seen.accepted | seen.heard
    if clients:
        false = Counter({peer: count for peer, count in false.items() if not _is_there(peer)})
    return Tally(
        # A real client whose server saw another one was told so; the log can't know.
        false=false.total() + outcome.wrong,
        false_ones=[*false][:_KEPT] + outcome.wrong_ones[:_KEPT],
        accepted=seen.accepted.total(),
        packets=sent if packets else 0,
        rate=sent / took if packets else 0.0,
        arrived=received / took,
        clients=outcome.total,
        right=outcome.right,
        without=outcome.without,
        failed=outcome.failed,
        failures=outcome.failures,
        p50=outcome.p50,
        p99=outcome.p99,
        before=before,
        most=most,
        after=kernel_memory.sample(lab.origin),
        kernel_counts={name: now[f"TcpExt{name}"] - counted[f"TcpExt{name}"] for name in _COUNTS},
    )


def _wait(log: Path) -> None:
    """Until a client was there, or will not be soon."""
    deadline = time.monotonic() + _PATIENCE
    while not log.stat().st_size and time.monotonic() < deadline:
        time.sleep(0.02)  # nothing tells that another process has written


def _is_there(peer: str) -> bool:
    if peer.count(" ") > 1:  # one by accept() and another by getpeername()
        return False
    address = ip_address(peer.partition(" ")[0])
    return any(address in network for network in _THERE)
