# SPDX-License-Identifier: Apache-2.0
"""100,000 connections of random clients through HAProxy to one origin."""

from pathlib import Path

import pytest

from cloud_toa.bpf import edge, origin
from cloud_toa.demo.lab import Lab
from tests.netns import told
from tests.netns.conftest import receive
from tests.netns.traffic import wait_until

CONNECTIONS = 100_000
WARM_UP = 10_000

HAPROXY = """
global
  nbthread 1
  maxconn 2000
defaults
  mode tcp
  timeout connect 10s
  timeout client 60s
  timeout server 60s
listen four
  bind 10.8.0.1:8080
  source 0.0.0.0 usesrc client
  server origin 10.9.0.2:80
listen six
  bind fd08::1:8080
  source :::0 usesrc client
  server origin fd09::2:80
"""


def objects() -> dict[str, int]:
    """Living objects per slab cache where socket storage could be; spare ones given back."""
    for cache in Path("/sys/kernel/slab").glob("kmalloc-*"):
        (cache / "shrink").write_text("1")
    lines = [line.split() for line in Path("/proc/slabinfo").read_text().splitlines()[2:]]
    return {words[0]: int(words[1]) for words in lines if words[0].startswith(("kmalloc-", "TCP"))}


def run(lab: Lab, count: int, seed: int) -> None:
    """Half by IPv4, half by IPv6, at the same time."""
    for found in told.visit(lab, (4, 6), count // 2, seed):
        assert (found["right"], found["wrong_ones"]) == (count // 2, [])


@pytest.mark.slow
def test_every_address_is_right_and_nothing_stays(lab: Lab, sender: Path, servers: Path) -> None:
    receive(servers)
    config = lab.files / "haproxy.conf"
    config.write_text(HAPROXY)
    for host in (lab.client, lab.edge, lab.origin):
        host.sysctl("net.ipv4.ip_local_port_range", "1024 65535")
        # The kernel's own memory of closed connections and their peers, counted below.
        host.sysctl("net.ipv4.tcp_max_tw_buckets", "0")
        host.sysctl("net.ipv4.tcp_no_metrics_save", "1")
    told.serve(lab, servers)
    lab.start(lab.edge, ["haproxy", "-db", "-f", str(config)], [("", 8080)], place=sender)

    run(lab, WARM_UP, seed=1)
    before = objects()
    run(lab, CONNECTIONS, seed=3)

    sent, received = edge.status(), origin.status()
    assert sent is not None
    assert received is not None
    total = WARM_UP + CONNECTIONS
    assert sent.counters["connections"] == received.counters["found"] == total
    assert received.counters["absent"] == 0

    # A leak of one object per connection would show as 100,000; caches per CPU move by some.
    def grown() -> dict[str, int]:
        growth = {name: count - before.get(name, 0) for name, count in objects().items()}
        return {name: count for name, count in growth.items() if count > CONNECTIONS / 20}

    wait_until(lambda: not grown(), 30, grown)
