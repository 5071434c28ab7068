# SPDX-License-Identifier: Apache-2.0
"""Networks and sockets that make it hard for an option to arrive, or to be believed."""

from dataclasses import dataclass, field

import paths
from nstat import nstat

from cloud_toa.demo.lab import Lab


@dataclass(frozen=True)
class Case:
    """What is hard.

    ``netem`` is both ways between edge and origin; ``sysctl`` of both hosts; ``serve`` changes
    what the server asks of its sockets. ``counted`` is a counter of nstat(8) that grows on edge
    or origin when it is so. ``impossible`` are senders and receivers that can't be there, and why.
    """

    title: str
    netem: str = ""
    sysctl: tuple[tuple[str, int], ...] = ()
    serve: tuple[str, ...] = ()
    balancers: tuple[str, ...] = ("haproxy",)
    counted: str = ""
    impossible: dict[str, str] = field(default_factory=dict)


CASES = {
    "plain": Case("as it is", balancers=paths.BALANCERS),
    "loss-1": Case("loss 1 %", netem="loss 1%", counted="TcpRetransSegs"),
    "loss-5": Case("loss 5 %", netem="loss 5%", counted="TcpRetransSegs"),
    "reorder": Case(
        "a quarter reordered", netem="delay 10ms reorder 25% 50%", counted="TcpExtTCPOFOQueue"
    ),
    "duplicate": Case("a tenth twice", netem="duplicate 10%", counted="TcpExtTCPDSACKOldSent"),
    "delay": Case("delay 50 ± 10 ms", netem="delay 50ms 10ms"),
    "cookies": Case(
        "SYN cookies always",
        sysctl=(("net.ipv4.tcp_syncookies", 2),),
        counted="TcpExtSyncookiesRecv",
    ),
    "fast-open": Case(
        "TCP Fast Open",
        sysctl=(("net.ipv4.tcp_fastopen", 3),),
        serve=("fast_open",),
        balancers=("own, fast-open",),
        counted="TcpExtTCPFastOpenPassive",
        impossible={"queue": "Linux has its cookies by both addresses: one for each client"},
    ),
    "mptcp": Case(
        "MPTCP server, TCP edge",
        serve=("mptcp",),
        impossible={"saved-syn": "Linux keeps no SYN for MPTCP sockets"},
    ),
    "md5": Case(
        "TCP-MD5 signatures",
        serve=("md5",),
        balancers=("own, md5",),
        impossible={"queue": "a signature holds the addresses, which NAT changes"},
    ),
    "no-timestamps": Case("no timestamps", sysctl=(("net.ipv4.tcp_timestamps", 0),)),
}


def impose(lab: Lab, case: Case) -> None:
    """Make it hard."""
    for host, device in ((lab.edge, "to-origin"), (lab.origin, "eth0")):
        for name, value in case.sysctl:
            host.sysctl(name, value)
        host.sysctl("net.ipv4.ip_local_port_range", "1024 65535")
        if case.netem:
            words = f"qdisc add dev {device} root netem {case.netem} limit 100000"
            host.run("tc", *words.split())


def happened(lab: Lab, case: Case) -> int:
    """How often, by the kernels of edge and origin since they began; 0 where none counts it."""
    if not case.counted:
        return 0
    return sum(nstat(host)[case.counted] for host in (lab.edge, lab.origin))
