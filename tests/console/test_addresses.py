# SPDX-License-Identifier: Apache-2.0
"""Paths and queries that no link has: each answers in words, never with a fault of the server."""

import httpx
import pytest

from tests.console.conftest import Cluster, Opened
from tests.console.server import SERVICE
from tests.console.test_saving import Nodes

ODD = (
    "/history?before=1234567890123456x",
    "/history?before=-1",
    "/history/99999999999",
    "/audit?before=nan",
    "/audit?before=1e999",
    "/logs?since=yesterday&until=0001-01-01T00:00&level=loud&node=none",
    "/logs?before=nan&until=0001-01-01T00:00",
    "/?range=year&node=none&service=none",
    "/dashboard/data?range=&node=%00",
    "/nodes/none",
    "/services/none",
    "/users/%2e%2e",
    "/quick-test/none",
    "/logs?language=xx&theme=pink&said=nothing",
)


@pytest.mark.parametrize("path", ODD)
def test_odd_addresses(cluster: Cluster, nodes: Nodes, path: str) -> None:
    answer = cluster.api.client.get(path, headers={"Accept": "text/html"})
    assert answer.status_code in (200, 404), answer.text


def test_what_is_no_language_or_theme_is_not_kept(cluster: Cluster) -> None:
    path = "/logs?language=xx&theme=pink"
    assert "Set-Cookie" not in cluster.api.client.get(path).headers


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/toa", {"seen": "x"}),
        ("/toa", {}),
        ("/toa", {"seen": "99999"}),
        ("/save", {"seen": "1", "text": ""}),
        ("/text", {"seen": "1", "text": "a = ["}),
        ("/services/none", {"seen": "1"}),
        ("/new-service", {"seen": "1", "remove": "origin.x", "add": "origin.0.tls"}),
        ("/nodes/join", {"uses": "many"}),
        ("/users", {"name": "x", "password": "", "role": "king"}),
        ("/tokens", {"name": "x", "role": "viewer", "days": "-1"}),
        ("/language", {"language": "xx", "next": "//example.com"}),
        ("/language", {"language": "xx", "next": "//[example.com"}),
        ("/nodes/none/drain", {}),
    ],
)
def test_odd_forms(cluster: Cluster, nodes: Nodes, path: str, data: dict[str, str]) -> None:
    client = cluster.api.client
    answer = client.post(path, data=data, headers={"Accept": "text/html"})
    assert answer.status_code in (200, 303, 404, 422), answer.text
    if answer.status_code == 303:
        assert answer.headers["Location"].startswith("/")
        assert not answer.headers["Location"].startswith("//")
    assert cluster.api.call("GET", "/api/settings")["text"] == SERVICE


def test_static_files_are_kept_and_nothing_else_is(cluster: Cluster, opened: Opened) -> None:
    page = opened("viewer")
    page.goto("/nodes")
    style = page.locator("link[rel=stylesheet]").last.get_attribute("href")
    with httpx.Client(base_url=cluster.server.url) as client:
        assert "immutable" in client.get(style or "").headers["Cache-Control"]
        assert client.get("/static/console.css").headers["Cache-Control"] == "no-store"
        assert client.get("/static/../page.py").status_code in (401, 404)
        assert client.get("/static/%2e%2e/page.py").status_code == 404


def test_a_service_may_be_called_new(opened: Opened, cluster: Cluster, nodes: Nodes) -> None:
    cluster.api.save(SERVICE.replace('"web"', '"new"'))
    page = opened("operator")
    page.goto("/services")
    page.get_by_role("link", name="new", exact=True).click()
    assert page.locator("[name=name]").input_value() == "new"
