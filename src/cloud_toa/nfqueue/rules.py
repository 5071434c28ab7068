# SPDX-License-Identifier: Apache-2.0
"""The nftables table, policy rules and routes of the queue datapath, as text. Pure.

A transparent load balancer's packets come from the client's address. Its SYN to an
origin marks the connection; marked packets go to a worker, which writes the option,
until the origin has answered beyond its SYN-ACK. In postrouting the source becomes
this host's own, in prerouting the answers are marked so that a policy rule delivers
them here, to the load balancer's socket.

All state is the connection's mark, of which the upper 16 bits are ours::

    0x70a0  from a client's address: masquerade, and deliver the answers here
    0x70a1  from this host's own: perhaps the control socket knows the client
       +2   the origin has answered beyond its SYN-ACK: nothing more is queued
       +4   the SYN was sent again: the next one goes without the option, as a
            middlebox may drop SYNs with options that it does not know

It needs no accounting in conntrack, and so no sysctl. Closed connections leave conntrack
after `TIME_WAIT`, not 120 s: their entries hold a port of this host's to the origin, of
which there are 64,000, and a place in conntrack's table. For packets to hold the option
beside a full segment, the MSS in the origin's SYN-ACK is lowered (`mss`).

Sources: nft(8), ip-rule(8); Linux 5.6 (intervals in concatenations), nftables 0.9.4.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cloud_toa.nfqueue import mss
from cloud_toa.origins import Destination, Origins

NAME = "cloud_toa"
FAMILY = "inet"
TABLE = f"{FAMILY} {NAME}"

TO_QUEUE = "to_queue"
"""The chain whose last rule hands a packet to a worker."""

BYSTANDERS = "bystanders"
"""The chain for connections that are not to origins."""

COUNTERS = ("queued", "syn_without")
"""Named counters in the table: packets meant for a worker, and SYNs left without."""

MARK_MASK = 0xFFFF0000
NAMED = 0x70A10000
"""What a packet of a connection from this host's own address is marked with for a worker."""

_TRANSPARENT = 0x70A00000
_KIND = 0xFFF00000
_NAMED, _ANSWERED, _AGAIN = 0x00010000, 0x00020000, 0x00040000
_OTHERS = 0x0000FFFF

TIME_WAIT = 5
"""Seconds that a closed connection stays; long enough for a last packet that was delayed."""
_CLOSE = 2
"""The same, of one that was reset."""

_LATE = "filter + 300"
"""Just before routing: a reverse path filter such as firewalld's, at filter + 10, would take
the mark into account, and drop the packet."""

_ROUTING_TABLE = 1802
PRIORITY = 1802
"""Of the policy rules: before the main table, behind the local one."""
_PROTOCOL = 112
"""Our signature on routes, of the numbers that ip-route(8) leaves to users."""


@dataclass(frozen=True)
class Queues:
    """The queues ``first`` to ``last``; which of them, is for the packet's processor to say."""

    first: int
    last: int

    @property
    def count(self) -> int:
        """How many they are."""
        return self.last - self.first + 1

    def __str__(self) -> str:
        """As nft writes it."""
        if self.first == self.last:
            return f"queue flags bypass to {self.first}"
        return f"queue flags bypass,fanout to {self.first}-{self.last}"


def table(
    origins: Origins, control: bool, mtus: Mapping[str, int], queue: str, *, others: bool
) -> str:
    """What ``nft -f`` reads: the whole table, in place of one that is there.

    Args:
        origins: the destinations that get the option.
        control: whether a control socket names clients of connections that come from this
            host's own addresses.
        mtus: bytes, by device.
        queue: the queue statement; empty where `xtables` puts its own in that place.
        others: whether other tables may look at connections, see `bystanders`.
    """
    sets, begin, tracking = _origins(origins)
    local = to_queue = after = deliver = ""
    if control:
        deliver = f"ct mark & {_NAMED:#010x} == 0"
        local = f"fib saddr type local {_set('ct', NAMED)}"
        to_queue = f"ct mark & {_NAMED:#010x} != 0 {_set('meta', NAMED)}"
        after = f"""
  chain output_after {{
    type filter hook output priority mangle + 1; policy accept;
    meta mark & {MARK_MASK:#010x} == {NAMED:#010x} meta mark set meta mark & {_OTHERS:#010x}
  }}"""
    text = f"""{delete()}table {TABLE} {{
  counter queued {{ }}
  counter syn_without {{ }}
{sets}
{mss.maps(mtus)}
  ct timeout ipv4 {{
    protocol tcp
    l3proto ip
    policy = {{ time_wait : {TIME_WAIT}, close : {_CLOSE} }}
  }}
  ct timeout ipv6 {{
    protocol tcp
    l3proto ip6
    policy = {{ time_wait : {TIME_WAIT}, close : {_CLOSE} }}
  }}
  chain {TO_QUEUE} {{
    {to_queue}
    counter name queued
    {queue}
  }}
  chain forget {{
    meta nfproto ipv4 ct timeout set "ipv4"
    meta nfproto ipv6 ct timeout set "ipv6"
  }}
  chain begin {{
    fib saddr type != local {_set("ct", _TRANSPARENT)} jump forget
    {local}
  }}
  chain syn_again {{
    ct mark & {_AGAIN:#010x} != 0 counter name syn_without accept
    ct mark set ct mark | {_AGAIN:#010x}
  }}
  chain syn {{
    ct mark & {_KIND:#010x} == {_TRANSPARENT:#010x} goto syn_again
    {begin}
  }}
  chain output {{
    type filter hook output priority mangle; policy accept;
    tcp flags & (fin | syn | rst | ack) == syn jump syn
    ct mark & {_KIND | _ANSWERED:#010x} == {_TRANSPARENT:#010x} goto {TO_QUEUE}
  }}{after}
  chain postrouting {{
    type nat hook postrouting priority srcnat + 1; policy accept;
    ct mark & {_KIND | _NAMED:#010x} == {_TRANSPARENT:#010x} masquerade
  }}
{mss.chain(f"ct mark & {_NAMED:#010x} != 0" if control else "")}
  chain prerouting {{
    type filter hook prerouting priority {_LATE}; policy accept;
    ct mark & {_KIND:#010x} == {_TRANSPARENT:#010x} goto answer
  }}
  chain answer {{
    ct direction original accept
    {deliver} {_set("meta", _TRANSPARENT)}
    ct mark & {_ANSWERED:#010x} != 0 accept
    tcp flags & syn == syn goto {mss.CHAIN}
    ct mark set ct mark | {_ANSWERED:#010x}
  }}
{tracking}
}}
{bystanders(others or origins.everywhere)}"""
    return "".join(f"{line}\n" for line in text.splitlines() if line.strip())


def bystanders(others: bool) -> str:
    """What ``nft -f`` reads to have connections that are not to origins tracked, or not.

    Conntrack is at work for all of a network namespace as soon as one rule needs it. Where
    nobody but us does, it would cost others' connections time and room for nothing, and drop
    them when its table is full: so they are not tracked, as they would not be without us.
    Where ``others`` have tables, these may depend on it.
    """
    text = f"flush chain {TABLE} {BYSTANDERS}\n"
    return text if others else f"{text}add rule {TABLE} {BYSTANDERS} notrack\n"


def follow(mtus: Mapping[str, int]) -> str:
    """What ``nft -f`` reads when devices have come, gone, or changed their MTU (bytes)."""
    text = ""
    for name, elements in mss.devices(mtus).items():
        text += f"flush map {TABLE} {name}\n"
        if elements:
            text += f"add element {TABLE} {name} {{ {elements} }}\n"
    return text


def delete() -> str:
    """What ``nft -f`` reads to remove the table, whether it is there or not."""
    return f"table {TABLE}\ndelete table {TABLE}\n"


def policy_rule(family: int, verb: str) -> str:
    """Arguments of ``ip`` that add, show or delete what has marked packets delivered here."""
    shown = f"-{family} rule {verb} priority {PRIORITY} fwmark {_TRANSPARENT:#x}/{MARK_MASK:#x}"
    return f"{shown} lookup {_ROUTING_TABLE}"


def route(family: int) -> str:
    """Arguments of ``ip`` that add the route of that rule's table, in nobody's place."""
    return f"-{family} route add local default dev lo table {_ROUTING_TABLE} proto {_PROTOCOL}"


def our_routes(family: int, verb: str) -> str:
    """Arguments of ``ip`` that show or flush that route, and no other program's."""
    return f"-{family} route {verb} table {_ROUTING_TABLE} proto {_PROTOCOL}"


def _set(where: str, mark: int) -> str:
    return f"{where} mark set {where} mark & {_OTHERS:#010x} | {mark:#010x}"


def _origins(origins: Origins) -> tuple[str, str, str]:
    """The sets of destinations, the rules that look into them, and the chains for all else."""
    empty = f"  chain {BYSTANDERS} {{ }}"
    if origins.everywhere:
        return "", 'oifname != "lo" jump begin', empty
    sets, begin, to, fro = [], [], [], []
    for version, kind, header in ((4, "ipv4_addr", "ip"), (6, "ipv6_addr", "ip6")):
        for port in (False, True):
            listed = [
                each
                for each in _outermost(origins)
                if each.network.version == version and bool(each.port) == port
            ]
            if not listed:
                continue
            name = f"origins_ipv{version}" + "_port" * port
            sets.append(_destinations(name, kind, listed))
            there, back = (
                f"{header} {side}addr" + f" . tcp {side}port" * port + f" @{name}" for side in "ds"
            )
            begin.append(f"{there} meta l4proto tcp jump begin")
            to.append(f"{there} accept")
            fro.append(f"{back} accept")
    chains = [empty]
    for hook, rules in (("prerouting", fro), ("output", to)):
        lines = "\n".join(f"    {rule}" for rule in rules)
        chains.append(f"""  chain raw_{hook} {{
    type filter hook {hook} priority raw; policy accept;
    meta l4proto != tcp accept
{lines}
    goto {BYSTANDERS}
  }}""")
    return "\n".join(sets), "\n    ".join(begin), "\n".join(chains)


def _outermost(origins: Origins) -> list[Destination]:
    """Without destinations that lie in others: the kernel refuses overlapping intervals."""
    return [
        inner
        for inner in origins.destinations
        if not any(
            outer is not inner and outer.port == inner.port and _within(inner, outer)
            for outer in origins.destinations
        )
    ]


def _within(inner: Destination, outer: Destination) -> bool:
    low, high = inner.network[0], inner.network[-1]
    return low in outer.network and high in outer.network


def _destinations(name: str, kind: str, listed: list[Destination]) -> str:
    """A set of them. Single addresses alone are looked up by hash, which is quicker."""
    port = listed[0].port
    single = all(each.network.num_addresses == 1 for each in listed)
    elements = ", ".join(
        str(each.network[0] if single else each.network) + (f" . {each.port}" if port else "")
        for each in listed
    )
    return f"""  set {name} {{
    type {kind}{" . inet_service" if port else ""}
    {"" if single else "flags interval"}
    elements = {{ {elements} }}
  }}"""
