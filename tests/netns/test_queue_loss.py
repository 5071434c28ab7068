# SPDX-License-Identifier: Apache-2.0
"""Packets between edge and origin get lost, late and out of order: no client is taken for another.

Only on kernels with netem, such as those of tests/vm.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloud_toa.bpf import edge
from cloud_toa.config import EdgeSettings
from cloud_toa.demo.lab import EDGE_TO_ORIGIN, Lab
from cloud_toa.errors import ToaError
from cloud_toa.isolation import Namespace
from tests.netns import told
from tests.netns.conftest import receive
from tests.netns.queue_edge import running
from tests.netns.receivers import Bpf
from tests.netns.test_soak import HAPROXY

pytestmark = pytest.mark.only_on(kernel="6.1")

NETEM = "loss 2% delay 5ms 2ms reorder 25% 50%"
EACH = 50
"""Connections of one client process."""
VERSIONS = (4, 6, 4, 6)
"""The IP version of each."""
TOTAL = EACH * len(VERSIONS)


@pytest.fixture
def lossy(lab: Lab) -> Iterator[Lab]:
    """The lab, with a bad cable between edge and origin; it must really lose packets both ways."""
    ends = ((lab.edge, "to-origin"), (lab.origin, "eth0"))
    try:
        for host, device in ends:
            host.run("tc", "qdisc", "add", "dev", device, "root", "netem", *NETEM.split())
    except ToaError as error:
        if "qdisc kind is unknown" not in str(error):
            raise
        pytest.skip("this kernel has no sch_netem")
    yield lab
    for host, device in ends:
        assert dropped(host, device) > 0


def dropped(host: Namespace, device: str) -> int:
    (shown,) = json.loads(host.run("tc", "-s", "-j", "qdisc", "show", "dev", device))
    return int(shown["drops"])


@contextmanager
def sender(lab: Lab, balancers: Path, datapath: str) -> Iterator[None]:
    """One of the two datapaths; it must have written every packet that it was given."""
    if datapath == "ebpf":
        edge.attach([balancers], EdgeSettings())
        yield
        status = edge.status()
        assert status is not None
        assert status.counters["connections"] >= TOTAL
        return
    with running(lab, "-max-queue-id=4") as queues:
        yield
        now = queues.counters()
        assert now["written"] == now["packets"] >= 3 * TOTAL
        assert sum(worker["counters"]["packets"] > 0 for worker in queues.workers()) > 1


@pytest.mark.parametrize("save_syn", [False, True], ids=["ack", "save_syn"])
@pytest.mark.parametrize("datapath", ["queue", "ebpf"])
def test_the_server_sees_the_client_or_the_edge(
    lossy: Lab, balancers: Path, servers: Path, datapath: str, save_syn: bool
) -> None:
    lab = lossy
    receive(servers, save_syn=save_syn)
    config = lab.files / "haproxy.conf"
    config.write_text(HAPROXY)
    told.serve(lab, servers)
    haproxy = ["haproxy", "-db", "-f", str(config)]
    with sender(lab, balancers, datapath):
        lab.start(lab.edge, haproxy, [("", 8080)], place=balancers)
        right, wrong = visit(lab)
    counted = Bpf().counted()
    print(f"\n{datapath} save_syn={save_syn}: {right} of {TOTAL} right, {wrong[:3]}, {counted}")
    # Whoever was not recognized at once is the edge to the server, never somebody else.
    assert right + len(wrong) == TOTAL
    assert {host for host in wrong if host not in EDGE_TO_ORIGIN.values()} == set()
    absent, late = counted.get("absent", 0), counted.get("late", 0)
    # A client that came late may have come before accept(), or after it.
    assert absent <= len(wrong) <= absent + late
    assert counted["found"] + absent >= TOTAL


def visit(lab: Lab) -> tuple[int, list[str]]:
    """Connect from random clients; answer how many the server saw right, and whom else it saw."""
    found = told.visit(lab, VERSIONS, EACH, seed=0)
    wrong = [answer.split("saw ")[1].split()[0] for each in found for answer in each["wrong_ones"]]
    return sum(each["right"] for each in found), wrong
