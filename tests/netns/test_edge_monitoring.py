# SPDX-License-Identifier: Apache-2.0
"""packaging/monitoring: what it names is served, by eBPF or by the queue."""

import json
import re
import socket
from pathlib import Path

import pytest

from cloud_toa.demo.lab import EDGE, Lab
from tests.netns.edge_node import PORT, running, write
from tests.netns.sender import CLIENT
from tests.netns.test_edge_run import ONE, visit
from tests.netns.traffic import SERVER, listen

MONITORING = Path(__file__).parents[2] / "packaging" / "monitoring"
METRICS = EDGE[4], 9100
# The queue wants one IP version.
FOUR = ONE.replace(f', "[{EDGE[6]}]:{PORT}"', "")
_NAME = re.compile(r"(?:haproxy|cloud_toa)_\w+")


def served(lab: Lab, place: Path, datapath: str) -> set[str]:
    """Names of what a node serves after a connection."""
    path = write(
        lab,
        f'metrics = "{METRICS[0]}:{METRICS[1]}"\n[toa]\ndatapath = "{datapath}"\nmax_queue_id = 2\n'
        + FOUR,
    )
    with listen(lab, place, SERVER) as listener, running(lab, "--config", str(path)):
        assert visit(lab, listener, CLIENT) == CLIENT
        with lab.edge.entered():
            sock = socket.create_connection(METRICS)
        with sock, sock.makefile("rw") as file:
            file.write("GET /metrics HTTP/1.0\r\n\r\n")
            file.flush()
            return set(re.findall(r"(?m)^(\w+)[ {]", file.read()))


def alerts() -> dict[str, set[str]]:
    """What each names in its expression."""
    parts = (MONITORING / "alerts.yml").read_text().split("- alert: ")[1:]
    return {part.split()[0]: set(_NAME.findall(part.split("annotations:")[0])) for part in parts}


def panels() -> list[set[str]]:
    """What each expression of the dashboard names."""
    dashboard = json.loads((MONITORING / "grafana.json").read_text())
    return [
        set(_NAME.findall(target["expr"]))
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    ]


@pytest.mark.only_on(kernel="6.12")
def test_every_name_is_served(lab: Lab, receiver: Path) -> None:
    """Those of an expression together: one whose series are not all there says nothing."""
    there = {datapath: served(lab, receiver, datapath) for datapath in ("bpf", "queue")}
    expressions = [*alerts().values(), *panels()]
    assert len(set().union(*expressions)) > 10
    for names in expressions:
        assert any(names <= each for each in there.values()), names
    for datapath, all_of_it in there.items():
        other = next(each for name, each in there.items() if name != datapath)
        ours = [name for name, names in alerts().items() if names <= all_of_it and names - other]
        # What is said of connections or packets without TOA is each datapath's own.
        assert [name for name in ours if name.endswith("WithoutToa")], datapath
