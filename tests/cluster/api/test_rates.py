# SPDX-License-Identifier: Apache-2.0
"""What nodes tell for the charts: kept once, summed over nodes and servers."""

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cluster.api.serving import PATIENCE, Serving, api_token, join, serving, set_up
from tests.netns.traffic import wait_until


def test_samples(server: Serving, operator: httpx.Client) -> None:
    id_, node = join(server, operator, "busy")
    now = time.time()
    with node:
        told = [
            {
                "time": now - 10 * at,
                "connections": {"": 3.0, "busy": 2.0},
                "bytes": {"": 1000.0, "busy": 500.0},
                "with_toa": 2.0,
                "without_toa": 1.0,
            }
            for at in range(2, 20)
        ]
        assert node.post("/node/samples", json=told).status_code == 204
        assert node.post("/node/samples", json=told).status_code == 204  # told twice, kept once
        wish: dict[str, Any] = {"node": id_, "minutes": 5, "step": 10}
        series = operator.get("/api/samples", params=wish).json()
        assert series["services"] == ["busy"]
        assert sum(point["connections"] for point in series["points"]) == pytest.approx(
            18 * 3.0, abs=3.1
        )
        (peak, *_) = sorted({point["bytes"] for point in series["points"]}, reverse=True)
        assert peak == 1000.0
        of_web = operator.get("/api/samples", params={**wish, "service": "busy"}).json()
        assert {point["connections"] for point in of_web["points"]} == {2.0}
        # Nodes count these of all services together: of one nothing is known.
        assert {(each["with_toa"], each["without_toa"]) for each in of_web["points"]} == {
            (None, None)
        }
        share = series["points"][0]
        assert share["with_toa"] / (share["with_toa"] + share["without_toa"]) == pytest.approx(
            2 / 3
        )
        said = operator.get("/api/samples", params={"minutes": 1440, "step": 10})
        assert said.status_code == 422

        def of_cluster() -> list[float]:
            wish: dict[str, Any] = {"minutes": 5, "step": 10, "service": "busy"}
            points = operator.get("/api/samples", params=wish).json()["points"]
            # Of other tests' nodes at the same time, none has this service.
            return [rate for point in points if (rate := point["connections"])]

        wait_until(lambda: len(of_cluster()) >= 17, PATIENCE)  # kept every ten seconds
        assert set(of_cluster()) == {2.0}


def test_rates_of_the_cluster_are_the_sum_over_nodes_and_servers(tmp_path: Path) -> None:
    store = f"sqlite://{tmp_path}/cluster.db"
    now = time.time()
    sample = {
        "time": now - 30,
        "connections": {"": 1.0, "web": 1.0},
        "bytes": {"": 10.0, "web": 10.0},
        "with_toa": 1.0,
        "without_toa": 0.0,
    }
    with serving(store) as one, set_up(one) as admin:
        with serving(store) as other:
            token = api_token(admin, "viewer")
            for name, server in (("edge-1", one), ("edge-2", one), ("edge-3", other)):
                with admin_of(server, admin) as here:
                    _, node = join(server, here, name)
                with node:
                    assert node.post("/node/samples", json=[sample]).status_code == 204
            assert other.end() == 0  # which keeps what it was told
        assert one.end() == 0
    with serving(store) as third, third.client(token) as viewer:
        series = viewer.get("/api/samples", params={"minutes": 5, "step": 10}).json()
        assert [point["connections"] for point in series["points"]] == [3.0]


def admin_of(server: Serving, admin: httpx.Client) -> httpx.Client:
    """The same administrator at another server."""
    headers = {"X-CSRF-Token": admin.headers["X-CSRF-Token"]}
    client = server.client(cookies={"cloud-toa": admin.cookies["cloud-toa"]})
    client.headers.update(headers)
    return client
