# SPDX-License-Identifier: Apache-2.0
"""The ways to name the client that are measured.

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
    edge-run     HAProxy of cloud-toa edge run, eBPF --> nginx :8001
    plain-new    as plain, by a HAProxy as new as edge-run's
    edge-run-log as edge-run, with an access log
"""

from dataclasses import dataclass

TABLE = "100"
"""A routing table of the edge and of the origin in which every address is their own."""

_TO_HAPROXY = ("edge", "iif", "to-origin", "table", TABLE)


@dataclass(frozen=True)
class Mode:
    """A way to tell the origin who the client is.

    ``port`` is HAProxy's for it, ``seen`` whether the origin sees the client, ``attached``
    whether by eBPF, ``rule`` the policy routing it needs: a host, and an ``ip rule``;
    ``floor`` whether programs that do nothing are attached; ``queues`` how many the queue
    datapath has, ``every`` whether every packet goes through one; ``receiver`` who reads the
    option where one is written: bpf, kmod, or nobody; ``node`` whether edge run runs, and ``log``
    whether it has an access log; ``new`` whether HAProxy is started for it, as edge run's is.
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
    node: bool = False
    log: bool = False
    new: bool = False


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
            rule=("origin", "from", "127.0.0.1/8", "iif", "lo", "table", TABLE),
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
        Mode("edge-run", 8006, "cloud-toa edge run", node=True),
        Mode("edge-run-log", 8006, "cloud-toa edge run, access log", node=True, log=True),
        Mode("plain-new", 8007, "plain, new HAProxy", seen=False, new=True),
        Mode("kmod", 8002, "TOA, read by toa.ko", attached=True, receiver="kmod"),
    )
}
