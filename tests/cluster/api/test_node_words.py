# SPDX-License-Identifier: Apache-2.0
"""What a node says that can't be: it is refused, and nobody else's page or chart breaks."""

import time
from typing import Any

import httpx
import pytest

from tests.cluster.api.serving import Serving, join, status

LONG = int("9" * 401)
RATES = {"": 1.0, "web": 1.0}


def sample(**more: Any) -> dict[str, Any]:
    rates = {"connections": RATES, "bytes": RATES, "with_toa": 1.0, "without_toa": 0.0}
    return {"time": time.time() - 20, **rates, **more}


def refusal(node: httpx.Client, method: str, path: str, said: object) -> str:
    answer = node.request(method, path, json=said)
    assert answer.status_code in (400, 422), answer.status_code
    return str(answer.json()["detail"])


@pytest.mark.parametrize(
    "more",
    [
        {"with_toa": 1e308},
        {"without_toa": -1.0},
        {"with_toa": LONG},
        {"time": 1e308},
        {"connections": {"": 1e308}},
        {"bytes": {"": -1}},
        {"connections": {"x" * 65: 1.0}},
        {"bytes": {"no name": 1.0}},
        {"bytes": {"web\n": 1.0}},
        {"connections": {f"s{number}": 1.0 for number in range(1002)}},
        {"bytes": {f"s{number}": 1.0 for number in range(1002)}},
    ],
)
def test_samples(server: Serving, operator: httpx.Client, more: dict[str, Any]) -> None:
    id_, node = join(server, operator, f"sampler-{time.time_ns()}")
    with node:
        assert refusal(node, "POST", "/node/samples", [sample(**more)])
        assert node.post("/node/samples", json=[sample()]).status_code == 204
        wish: dict[str, Any] = {"node": id_, "minutes": 5, "step": 10}
        (point,) = operator.get("/api/samples", params=wish).json()["points"]
        assert point["connections"] == point["with_toa"] == 1.0
    assert operator.delete(f"/api/nodes/{id_}").status_code == 204


@pytest.mark.parametrize(
    "more",
    [
        {"memory_bytes": LONG},
        {"memory_bytes": -1},
        {"cpu_percent": 1e308},
        {"cpu_percent": -1.0},
        {"time": 1e308},
        {"time": -1.0},
        {"counters": {"connections": LONG}},
        {"services": {"web": {"connections": LONG}}},
        {"services": {"web": {"bytes_to_clients": -1}}},
        {"services": {"x" * 65: {}}},
        {"origins": {"x" * 65: {}}},
        {"applied": {"revision": LONG, "wanted": 1}},
        {"applied": {"revision": 1, "wanted": -1}},
    ],
)
def test_status(server: Serving, operator: httpx.Client, more: dict[str, Any]) -> None:
    id_, node = join(server, operator, f"stater-{time.time_ns()}")
    with node:
        assert node.put("/node/status", json=status(1)).status_code == 204
        assert refusal(node, "PUT", "/node/status", {**status(1), **more})
    assert operator.get(f"/api/nodes/{id_}").json()["status"]["memory_bytes"] == 0
    assert operator.delete(f"/api/nodes/{id_}").status_code == 204


def test_a_busy_node_is_believed(server: Serving, operator: httpx.Client) -> None:
    """Years at 400 Gbit/s, of a thousand services, on the largest of hosts."""
    id_, node = join(server, operator, "enormous")
    counts = {"connections": 10**15, "bytes_from_clients": 10**18, "bytes_to_clients": 10**18}
    usage = {"cpu_percent": 51_200.0, "memory_bytes": 1 << 45, "counters": {"written": 1 << 62}}
    rates = {"": 5e10, **{f"service-{number}": 5e7 for number in range(1000)}}
    with node:
        said = {**status(1), **usage, "services": {"web": counts}}
        assert node.put("/node/status", json=said).status_code == 204
        # An hour ago: so many names take the room that the cluster's sums have for services.
        told = [sample(connections=rates, bytes=rates, with_toa=5e10, time=time.time() - 3600)]
        assert node.post("/node/samples", json=told).status_code == 204
    assert operator.delete(f"/api/nodes/{id_}").status_code == 204
