# SPDX-License-Identifier: Apache-2.0
"""Who is served, how many at a time, and by which origin."""

from collections import Counter
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from cloud_toa.demo.lab import EDGE, Lab
from tests.netns.edge_node import running, write
from tests.netns.edge_services import (
    CLIENT,
    CLIENT6,
    FIRST,
    ORIGIN,
    SECOND,
    THIRD,
    ask,
    connected,
    is_refused,
    is_seen,
    origin,
    service,
    start_origin,
    visit,
    wait_until_refused,
    wait_until_served,
)
from tests.netns.traffic import wait_until

pytestmark = pytest.mark.one_kernel

OTHER = "203.0.113.77"
BOTH = origin(FIRST) + origin(SECOND)


def only_v4(text: str, port: int) -> str:
    """The service, without its IPv6 address: no IPv4 client shows as IPv6 there."""
    return text.replace(f', "[{EDGE[6]}]:{port}"', "")


def test_allow_and_deny(lab: Lab, receiver: Path) -> None:
    start_origin(lab, receiver, "web", FIRST)
    allow = f'allow = ["203.0.113.0/28", "{OTHER}", "2001:db8:1::/112"]'
    deny = 'deny = ["203.0.113.10", "2001:db8:1::10/124"]'
    path = write(
        lab,
        service("both", 8080, allow, deny)
        + service("denied", 8081, deny)
        + only_v4(service("four", 8082, 'allow = ["203.0.113.8/31"]'), 8082)
        + service("six", 8083, 'allow = ["2001:db8::/32"]'),
    )
    served = {
        8080: (CLIENT, OTHER, CLIENT6),
        8081: (CLIENT, "203.0.113.11", CLIENT6),
        8082: (CLIENT,),
        8083: (CLIENT6,),
    }
    refused = {
        8080: ("203.0.113.10", "203.0.113.16", "2001:db8:1::11", "2001:db8:1::1:1"),
        8081: ("203.0.113.10", "2001:db8:1::1f"),
        8082: ("203.0.113.10",),
        8083: (CLIENT,),
    }
    with running(lab, "--config", str(path)):
        for port, clients in served.items():
            assert all(is_seen(visit(lab, port, client=client)) for client in clients), port
        for port, clients in refused.items():
            assert all(is_refused(lab, port, client=client) for client in clients), port


def test_an_address_of_6to4(lab: Lab, receiver: Path) -> None:
    """It is no address of the IPv4 network that it is made of."""
    lab.client.ip("address add 2002:cb00:7109::1/128 dev eth0 nodad")
    lab.edge.ip("route add 2002:cb00:7109::/48 via fd08::2")
    start_origin(lab, receiver, "web", FIRST)
    path = write(
        lab,
        service("allow", 8080, 'allow = ["203.0.113.0/28"]')
        + service("deny", 8081, 'deny = ["203.0.113.0/28"]'),
    )
    with running(lab, "--config", str(path)):
        assert is_seen(visit(lab, 8080))
        assert is_refused(lab, 8081)
        assert is_refused(lab, 8080, client="2002:cb00:7109::1")
        assert is_seen(visit(lab, 8081, client="2002:cb00:7109::1"))


def test_numbers_of_connections(lab: Lab, receiver: Path) -> None:
    """Of a client more are refused; of a service and an origin, they wait, or go elsewhere."""
    start_origin(lab, receiver, "web", FIRST)
    start_origin(lab, receiver, "spare", SECOND)

    def text(of_service: int = 2, of_origin: int = 2) -> str:
        return (
            service("client", 8080, "max_connections_per_client = 2")
            + service("whole", 8081, f"max_connections = {of_service}")
            + service("origin", 8082, origins=origin(FIRST, f"max_connections = {of_origin}"))
            + service("spare", 8083, origins=origin(FIRST, "max_connections = 1") + origin(SECOND))
        )

    path = write(lab, text())
    with running(lab, "--config", str(path)) as node:
        for client in (CLIENT, CLIENT6):
            with ExitStack() as two:
                for _ in range(2):
                    assert ask(two.enter_context(connected(lab, 8080, client=client)))
                assert is_refused(lab, 8080, client=client)
                assert is_seen(visit(lab, 8080, client=OTHER))
            wait_until_served(lab, 8080, client=client)

        with ExitStack() as held:
            while ask(held.enter_context(connected(lab, 8083)))["name"] != "web":
                pass
            assert names(lab, 8083, 3) == {"spare": 3}

        for port, more, applied in (
            # Not told at run time: HAProxy 2.6 locks up when connections wait for it.
            (8081, text(of_service=3), "by a reload"),
            (
                8082,
                text(of_origin=3),
                f"without a reload: set maxconn server origin/{ORIGIN}:{FIRST} 3",
            ),
        ):
            with ExitStack() as held:
                for _ in range(2):
                    assert ask(held.enter_context(connected(lab, port)))
                third = held.enter_context(connected(lab, port))
                third.settimeout(0.5)
                with pytest.raises(TimeoutError):
                    ask(third)
                third.settimeout(120)
                write(lab, more)
                assert applied in node.until("applied")
                assert third.recv(1 << 12).startswith(b"{")
            write(lab, text())
            node.until("applied")


def test_new_connections_in_a_second(lab: Lab, receiver: Path) -> None:
    start_origin(lab, receiver, "web", FIRST)
    path = write(lab, service("web", 8080, "new_connections_per_client = 3"))
    with running(lab, "--config", str(path)):
        for client in (CLIENT, CLIENT6):
            # However slow this machine is: more than three of these are in one second, soon.
            wait_until_refused(lab, 8080, client=client)
            assert is_seen(visit(lab, 8080, client=OTHER))
            wait_until_served(lab, 8080, client=client)


def names(lab: Lab, port: int, count: int, client: str = CLIENT) -> Counter[str]:
    """By which origins so many connections are served, all with TOA."""
    said = [visit(lab, port, client=client) for _ in range(count)]
    assert all(map(is_seen, said))
    return Counter(each["name"] for each in said)


def are_served(lab: Lab, expected: dict[str, int]) -> bool:
    """Whether so many connections go to these origins."""
    return names(lab, 8080, sum(expected.values())) == expected


def test_algorithms(lab: Lab, receiver: Path) -> None:
    start_origin(lab, receiver, "one", FIRST)
    start_origin(lab, receiver, "two", SECOND)
    algorithms = ("roundrobin", "leastconn", "source", "random")
    path = write(
        lab,
        "".join(
            service(name, 8080 + number, f'algorithm = "{name}"', origins=BOTH)
            for number, name in enumerate(algorithms)
        )
        + service("weighted", 8090, origins=origin(FIRST, "weight = 3") + origin(SECOND)),
    )
    with running(lab, "--config", str(path)):
        assert names(lab, 8080, 8) == {"one": 4, "two": 4}
        assert names(lab, 8090, 8) == {"one": 6, "two": 2}
        with ExitStack() as busy, ExitStack() as idle:
            held = [
                ask((busy, idle)[at % 2].enter_context(connected(lab, 8081))) for at in range(4)
            ]
            one, other, *again = (said["name"] for said in held)
            assert one != other
            assert again == [one, other]
            idle.close()
            wait_until(lambda: names(lab, 8081, 4) == {other: 4})
        whose = Counter(
            name
            for number in range(20)
            for name in names(lab, 8082, 2, f"203.0.113.{100 + number}").elements()
        )
        assert len(whose) == 2
        assert all(count % 2 == 0 for count in whose.values())
        wait_until(lambda: len(names(lab, 8083, 4)) == 2)


def test_an_origin_is_taken_out_and_back(lab: Lab, receiver: Path) -> None:
    """Without a reload; a connection that it has goes on, also in maintenance."""
    start_origin(lab, receiver, "one", FIRST)
    start_origin(lab, receiver, "two", SECOND)

    def text(*lines: str) -> str:
        return service("web", 8080, origins=origin(FIRST, *lines) + origin(SECOND), check=True)

    path = write(lab, text())
    server = f"server web/{ORIGIN}:{FIRST}"
    with running(lab, "--config", str(path)) as node, connected(lab, 8080) as going_on:
        assert ask(going_on)["name"] == "one"
        for lines, command, expected in (
            (('state = "drain"',), f"set {server} weight 0", {"two": 4}),
            ((), f"set {server} weight 1", {"one": 2, "two": 2}),
            (('state = "maintenance"',), f"set {server} state maint", {"two": 4}),
            (("weight = 3",), f"set {server} state ready", {"one": 6, "two": 2}),
            (("weight = 0",), f"set {server} weight 0", {"two": 4}),
            ((), f"set {server} weight 1", {"one": 2, "two": 2}),
        ):
            write(lab, text(*lines))
            said = node.until("applied")
            assert "without a reload" in said
            assert command in said
            # One that is back from maintenance has its checks before it.
            wait_until(partial(are_served, lab, expected))
            going_on.sendall(b"still here")
            assert going_on.recv(20) == b"still here"


def test_when_haproxy_can_not_be_told(lab: Lab, receiver: Path) -> None:
    """It is reloaded instead."""
    start_origin(lab, receiver, "one", FIRST)
    start_origin(lab, receiver, "two", SECOND)

    def text(weight: int) -> str:
        return service("web", 8080, origins=origin(FIRST, f"weight = {weight}") + origin(SECOND))

    path = write(lab, text(1))
    with running(lab, "--config", str(path)) as node:
        Path(node.state()["edge"]["runtime"]).unlink()
        write(lab, text(3))
        node.until("applied by a reload")
        assert names(lab, 8080, 8) == {"one": 6, "two": 2}


def test_backups(lab: Lab, receiver: Path) -> None:
    """Used when no other origin is there, all of them."""
    for name, port in (("one", FIRST), ("two", SECOND), ("three", THIRD)):
        start_origin(lab, receiver, name, port)

    def text(state: str, backup: str = "true") -> str:
        backups = origin(SECOND, f"backup = {backup}") + origin(THIRD, "backup = true")
        return service("web", 8080, origins=origin(FIRST, f'state = "{state}"') + backups)

    path = write(lab, text("active"))
    with running(lab, "--config", str(path)) as node:
        assert names(lab, 8080, 4) == {"one": 4}
        for state in ("drain", "maintenance"):
            write(lab, text(state))
            node.until("applied without a reload")
            assert names(lab, 8080, 4) == {"two": 2, "three": 2}
            write(lab, text("active"))
            node.until("applied without a reload")
            assert names(lab, 8080, 4) == {"one": 4}
        write(lab, text("active", backup="false"))
        assert "by a reload" in node.until("applied")
        assert names(lab, 8080, 4) == {"one": 2, "two": 2}


def test_a_range_of_ports(lab: Lab, receiver: Path) -> None:
    """An origin without a port is connected to at the client's; it is checked at the first."""
    for port in (8001, 8002):
        start_origin(lab, receiver, str(port), port)
    entry = f'[[service.origin]]\naddress = "{ORIGIN}"\n'
    text = service("web", 8001, "check.interval = '100ms'", origins=entry, check=True)
    path = write(lab, text.replace(':8001"', ':8001-8003"'))
    with running(lab, "--config", str(path)):
        for port in (8001, 8002):
            for client in (CLIENT, CLIENT6):
                said = visit(lab, port, client=client)
                assert said["name"] == str(port)
                assert is_seen(said)
        assert is_refused(lab, 8003)
