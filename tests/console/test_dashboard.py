# SPDX-License-Identifier: Apache-2.0
"""What the dashboard says of a node, and of a service on it."""

import re

from tests.console.conftest import Cluster
from tests.console.test_saving import Nodes

_FIGURE = re.compile(r"<dt>([^<]*)</dt><dd>([^<]*)")


def figures(cluster: Cluster, query: str) -> dict[str, str]:
    """By label."""
    answer = cluster.api.client.get(f"/dashboard/figures?{query}")
    assert answer.status_code == 200, answer.text
    return dict(_FIGURE.findall(answer.text))


def test_the_share_with_toa_is_of_all_services_together(cluster: Cluster, nodes: Nodes) -> None:
    good, _ = nodes
    good.sample()
    label = "Share of connections to origins with TOA"
    of_node = f"node={good.id}"
    of_web = f"{of_node}&service=web"
    assert figures(cluster, of_node)[label] == "98.0 %"
    said = figures(cluster, of_web)
    assert said[label] == "–"
    assert said["New connections"].endswith("/s")
    data = cluster.api.client.get(f"/dashboard/data?{of_web}").json()
    assert set(data["share"]) == {None}
    assert any(data["connections"])
