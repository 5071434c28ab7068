# SPDX-License-Identifier: Apache-2.0
"""changes.py: told the commands, a running HAProxy is as if started with the new settings."""

from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from cloud_toa.balancer.changes import commands, without
from cloud_toa.balancer.families import Addresses, without_places
from cloud_toa.balancer.log_line import Toa
from cloud_toa.balancer.render import Global, configuration
from cloud_toa.balancer.settings import Service

MOST = 777
HOSTS = ("one.example", "two.example")
FOUR, OTHER_FOUR, SIX, OTHER_SIX = map(
    ip_address, ("192.0.2.7", "192.0.2.8", "2001:db8::7", "2001:db8::8")
)
PLACES = [(), (FOUR,), (OTHER_FOUR,), (SIX,), (FOUR, SIX), (OTHER_FOUR, SIX), (FOUR, OTHER_SIX)]


def text_of(services: tuple[Service, ...], addresses: Addresses, *, ipv6: bool) -> str:
    at = Path("/run/edge")
    settings = Global(MOST, None, None, at, at, at)
    toa = Toa("syn,ack,data")
    return configuration(services, settings, addresses, lambda *_: True, lambda *_: toa, ipv6=ipv6)


class Haproxy:
    """What a running HAProxy knows: by frontend its maximum, by server what can be told."""

    def __init__(self, text: str) -> None:
        self.frontends: dict[str, int] = {}
        self.servers: dict[str, dict[str, Any]] = {}
        section = name = ""
        for line in text.splitlines():
            words = line.split()
            if not line.startswith(" "):
                section, name = words[0], words[-1]
                if section == "frontend":
                    self.frontends[name] = MOST
            elif section == "frontend" and words[0] == "maxconn":
                self.frontends[name] = int(words[1])
            elif words[0] == "server":
                options = dict(pairwise(words))
                self.servers[f"{name}/{words[1]}"] = {
                    "addr": words[2].removesuffix(":80").strip("[]"),
                    "weight": int(options["weight"]),
                    "maxconn": int(options.get("maxconn", 0)),
                    "ready": "disabled" not in words,
                }

    def told(self, command: str) -> None:
        words = command.split()
        if words[:3] == ["set", "maxconn", "server"]:
            self.servers[words[3]]["maxconn"] = int(words[4])
            return
        assert words[:2] == ["set", "server"]
        server, (what, value) = self.servers[words[2]], words[3:]
        if what == "state":
            assert value in ("maint", "ready")
            server["ready"] = value == "ready"
        else:
            assert what in ("weight", "addr")
            server[what] = int(value) if what == "weight" else value

    def known(self) -> tuple[dict[str, int], dict[str, dict[str, Any]]]:
        """All of it, but where a server is that is in maintenance, which nobody needs to know."""
        return self.frontends, {
            name: server if server["ready"] else {**server, "addr": ""}
            for name, server in self.servers.items()
        }


@st.composite
def told(draw: st.DrawFn, services: tuple[Service, ...]) -> tuple[Service, ...]:
    """The same services with anything different that can be told."""
    counts = st.none() | st.integers(1, 9)
    return tuple(
        replace(
            service,
            origin=tuple(
                replace(
                    origin,
                    weight=draw(st.integers(0, 3)),
                    state=draw(st.sampled_from(["active", "drain", "maintenance"])),
                    max_connections=draw(counts),
                )
                for origin in service.origin
            ),
        )
        for service in services
    )


def make(
    listens: list[list[str]], origins: list[list[str | tuple[str, str]]]
) -> tuple[Service, ...]:
    return tuple(
        msgspec.convert(
            {
                "name": f"s{number}",
                "listen": listen,
                "origin": [
                    {"address": address, "port": 80, "backup": at == 2}
                    for at, address in enumerate(addresses)
                ],
            },
            Service,
        )
        for number, (listen, addresses) in enumerate(zip(listens, origins, strict=True))
    )


places = st.sampled_from(PLACES)
known = st.fixed_dictionaries(dict.fromkeys(HOSTS, places)).map(
    lambda found: {name: ips for name, ips in found.items() if ips}
)
literal = st.sampled_from([*HOSTS, "192.0.2.1", "2001:db8::1", ("192.0.2.2", "2001:db8::2")])
some = st.lists(
    st.tuples(st.booleans(), st.lists(literal, min_size=1, unique=True)), min_size=1, max_size=3
)


@settings(max_examples=150, deadline=None)
@given(some, known, known, st.booleans(), st.data())
def test_told_is_as_good_as_started(
    given: list[tuple[bool, list[str | tuple[str, str]]]],
    before: Addresses,
    after: Addresses,
    ipv6: bool,
    data: st.DataObject,
) -> None:
    listens = [[f"[::]:{at}"] if six else [f"0.0.0.0:{at}"] for at, (six, _) in enumerate(given, 1)]
    services = make(listens, [addresses for _, addresses in given])
    old, new = data.draw(told(services)), data.draw(told(services))
    assert without(old) == without(new)
    shapes = [text_of(without(old), without_places(each), ipv6=ipv6) for each in (before, after)]
    if shapes[0] != shapes[1]:
        return  # a name has come to have both addresses, or no longer has: a reload
    haproxy = Haproxy(text_of(old, before, ipv6=ipv6))
    for command in commands(new, old, after, before, ipv6=ipv6):
        haproxy.told(command)
    wanted = Haproxy(text_of(new, after, ipv6=ipv6))
    assert haproxy.known() == wanted.known()
    assert commands(new, new, after, after, ipv6=ipv6) == []


def test_the_words() -> None:
    (old,) = make([["0.0.0.0:80"]], [["one.example"]])
    changed = replace(old.origin[0], weight=5, max_connections=7)
    new = replace(old, origin=(changed,))
    name = "s0/one.example:80"
    assert commands((new,), (old,), {HOSTS[0]: (FOUR,)}, {}, ipv6=True) == [
        f"set server {name} weight 5",
        f"set maxconn server {name} 7",
        f"set server {name} addr ::ffff:192.0.2.7",
        f"set server {name} state ready",
    ]


def test_the_words_for_both_addresses() -> None:
    (old,) = make([["[::]:80"]], [["one.example", "192.0.2.1"]])
    moved, there = {HOSTS[0]: (OTHER_FOUR, OTHER_SIX)}, {HOSTS[0]: (FOUR, SIX)}
    new = replace(old, origin=(old.origin[0], replace(old.origin[1], state="maintenance")))
    assert commands((new,), (old,), moved, there, ipv6=True) == [
        "set server s0/one.example:80 addr ::ffff:192.0.2.8",
        "set server s0/192.0.2.1:80 state maint",
        "set server s0::ipv6/one.example:80 addr 2001:db8::8",
        "set server s0::ipv6/192.0.2.1:80 state maint",
    ]


@pytest.mark.parametrize(
    ("given", "reload"),
    [
        ({"max_connections": 9}, True),
        ({"idle_timeout": "5m"}, True),
        ({"max_connections_per_client": 9}, True),
        ({"allow": ("192.0.2.0/24",)}, True),
        ({"algorithm": "source"}, True),
        ({"listen": ("0.0.0.0:81",)}, True),
        ({"name": "other"}, True),
    ],
    ids=str,
)
def test_what_takes_a_reload(given: dict[str, Any], reload: bool) -> None:
    (old,) = make([["0.0.0.0:80"]], [["192.0.2.7"]])
    texts = [text_of(without((each,)), {}, ipv6=True) for each in (old, replace(old, **given))]
    assert (texts[0] != texts[1]) is reload


@pytest.mark.parametrize(
    ("given", "reload"),
    [
        ({"weight": 9}, False),
        ({"state": "drain"}, False),
        ({"state": "maintenance"}, False),
        ({"max_connections": 9}, False),
        ({"backup": True}, True),
        ({"port": 81}, True),
        ({"address": "192.0.2.8"}, True),
        ({"proxy": "v1"}, True),
    ],
    ids=str,
)
def test_what_of_an_origin_takes_a_reload(given: dict[str, Any], reload: bool) -> None:
    (old,) = make([["0.0.0.0:80"]], [["192.0.2.7"]])
    new = replace(old, origin=(replace(old.origin[0], **given),))
    texts = [text_of(without((each,)), {}, ipv6=True) for each in (old, new)]
    assert (texts[0] != texts[1]) is reload
