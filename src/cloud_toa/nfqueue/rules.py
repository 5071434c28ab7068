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

from cloud_toa.nfqueue import destinations, mss
from cloud_toa.origins import Origins

NAME = "cloud_toa"
FAMILY = "inet"
TABLE = f"{FAMILY} {NAME}"

TO_QUEUE = "to_queue"
"""The chain whose last rule hands a packet to a worker."""

COUNTERS = ("queued", "syn_without", "local")
"""Named counters in the table: packets meant for a worker, SYNs left without, and connections
for link-local clients, who have nothing sent of them."""

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
    origins: Origins,
    control: bool,
    mtus: Mapping[str, int],
    queue: str,
    *,
    others: bool,
    only_named: bool = False,
) -> str:
    """What ``nft -f`` reads: the whole table, in place of one that is there.

    Args:
        origins: the destinations that get the option.
        control: whether a control socket names clients of connections that come from this
            host's own addresses.
        mtus: bytes, by device.
        queue: the queue statement; empty where `xtables` puts its own in that place.
        others: whether other tables may look at connections, see `bystanders`.
        only_named: whether connections from other addresses than this host's are left alone.
    """
    sets, begin = _origins(origins)
    foreign = f"""fib saddr type != local {_set("ct", _TRANSPARENT)} jump forget
    {_nothing("ip saddr 169.254.0.0/16")}
    {_nothing("ip6 saddr fe80::/10")}"""
    local = again = to_queue = after = not_named = ""
    if control:
        not_named = f"ct mark & {_NAMED:#010x} == 0"
        local = f"fib saddr type local {_set('ct', NAMED)}"
        # A port that is used again at once, before conntrack has taken in that it was given up.
        again = f"""ct mark & {_KIND | _NAMED:#010x} == {NAMED:#010x} \
tcp flags & (fin | syn | rst | ack) == syn ct mark set ct mark & {~_ANSWERED & 0xFFFFFFFF:#010x}"""
        to_queue = f"ct mark & {_NAMED:#010x} != 0 {_set('meta', NAMED)}"
        after = f"""
  chain output_after {{
    type filter hook output priority mangle + 1; policy accept;
    meta mark & {MARK_MASK:#010x} == {NAMED:#010x} meta mark set meta mark & {_OTHERS:#010x}
  }}"""
    text = f"""{delete()}table {TABLE} {{
  counter queued {{ }}
  counter syn_without {{ }}
  counter local {{ }}
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
    {"" if only_named else foreign}
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
    ct state new tcp flags & (fin | syn | rst | ack) == syn jump syn
    {again}
    ct mark & {_KIND | _ANSWERED:#010x} == {_TRANSPARENT:#010x} goto {TO_QUEUE}
  }}{after}
  chain postrouting {{
    type nat hook postrouting priority srcnat + 1; policy accept;
    ct mark & {_KIND | _NAMED:#010x} == {_TRANSPARENT:#010x} masquerade
  }}
{mss.chain(f"ct mark & {_NAMED:#010x} != 0" if control else "")}
  chain prerouting {{
    type filter hook prerouting priority {_LATE}; policy accept;
    ct mark & {_KIND | _NAMED | _ANSWERED:#010x} == {_TRANSPARENT | _ANSWERED:#010x} goto deliver
    ct mark & {_KIND | _ANSWERED:#010x} == {_TRANSPARENT:#010x} ct direction reply goto first
  }}
  chain deliver {{
    ct direction reply {_set("meta", _TRANSPARENT)}
  }}
  chain first {{
    {not_named} {_set("meta", _TRANSPARENT)}
    tcp flags & syn == syn goto {mss.CHAIN}
    ct mark set ct mark | {_ANSWERED:#010x}
  }}
  chain raw_prerouting {{
    type filter hook prerouting priority raw; policy accept;
  }}
  chain raw_output {{
    type filter hook output priority raw; policy accept;
  }}
}}
{bystanders(origins, others)}"""
    return "".join(f"{line}\n" for line in text.splitlines() if line.strip())


def bystanders(origins: Origins, others: bool) -> str:
    """What ``nft -f`` reads to have connections that are not to origins tracked, or not.

    Conntrack is at work for all of a network namespace as soon as one rule needs it. Where
    nobody but us does, it would cost others' connections time and room for nothing, and drop
    them when its table is full: so they are not tracked, as they would not be without us.
    Where ``others`` have tables, these may depend on it. With every destination an origin,
    answers can't be told from clients' packets, and all is tracked.
    """
    chains = (("raw_prerouting", "s"), ("raw_output", "d"))
    text = "".join(f"flush chain {TABLE} {chain}\n" for chain, _ in chains)
    if others or origins.everywhere:
        return text
    for chain, side in chains:
        lines = ["meta l4proto != tcp accept"]
        lines += [f"{group.match(side)} accept" for group in destinations.groups(origins)]
        lines += ["notrack"]
        text += "".join(f"add rule {TABLE} {chain} {line}\n" for line in lines)
    return text


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


def _nothing(source: str) -> str:
    """Translate and deliver connections from here, but queue nothing of them.

    What another host would take for its own link. Loopback can't come here: it is local.
    """
    answered = f"ct mark set ct mark | {_ANSWERED:#010x}"
    return f"{source} ct mark & {_KIND:#010x} == {_TRANSPARENT:#010x} counter name local {answered}"


def _origins(origins: Origins) -> tuple[str, str]:
    """The sets of destinations, and the rules that look into them."""
    if origins.everywhere:
        return "", 'oifname != "lo" jump begin'
    groups = destinations.groups(origins)
    rules = [f"{group.match('d')} meta l4proto tcp jump begin" for group in groups]
    return "\n".join(group.set() for group in groups), "\n    ".join(rules)
