# SPDX-License-Identifier: Apache-2.0
"""Whether the table of connections holds those of a busy edge.

Every connection through a load balancer has two entries, of which each lingers after
its end: the client's as long as the host says (120 s by default), the origin's as long
as the queue datapath's own rules say (`rules.TIME_WAIT`). IPv4 and IPv6 share the table.

Source: Linux, Documentation/networking/nf_conntrack-sysctl.rst.
"""

from cloud_toa.doctor import remedies
from cloud_toa.doctor.finding import Finding, absent, there
from cloud_toa.nfqueue.rules import TIME_WAIT

NAME = "conntrack"

RATE = 10_000
"""Connections/s that the table should hold; a busy load balancer's."""

DEFAULT_TIME_WAIT = 120
"""Seconds that a closed connection stays unless the host says otherwise."""


def finding(maximum: int | None, count: int, time_wait: int, *, needed: bool) -> Finding:
    """Whether it holds the connections that linger.

    Args:
        maximum: nf_conntrack_max, entries; None while conntrack is not loaded.
        count: nf_conntrack_count, entries.
        time_wait: nf_conntrack_tcp_timeout_time_wait, in seconds.
        needed: whether the queue datapath is.
    """
    if maximum is None:
        load = remedies.both(f"modprobe nf_conntrack && {enlarge(time_wait)}")
        return absent(NAME, "not loaded", load, needed=needed)
    lingering = time_wait + TIME_WAIT
    holds = f"{count} of {maximum} entries, {maximum // lingering} connections/s"
    if maximum < RATE * lingering:
        detail = f"{holds}: {RATE} need {RATE * lingering}"
        return absent(NAME, detail, remedies.both(enlarge(time_wait)), needed=needed)
    return there(NAME, holds)


def enlarge(time_wait: int = DEFAULT_TIME_WAIT) -> str:
    """The command that makes it large enough for `RATE`."""
    wanted = RATE * (time_wait + TIME_WAIT)
    # Chains of four entries a bucket are what the kernel itself long made by default.
    return (
        f"sysctl -w net.netfilter.nf_conntrack_max={wanted} "
        f"net.netfilter.nf_conntrack_buckets={wanted // 4}"
    )
