# SPDX-License-Identifier: Apache-2.0
"""Every route, asked by those who may not."""

import re

import httpx
import pytest
from starlette.routing import BaseRoute

from cloud_toa.cluster.api import gate, operations
from cloud_toa.cluster.api.operation import Operation
from cloud_toa.cluster.console.pages import pages
from tests.cluster.api.conftest import Company
from tests.cluster.api.serving import Serving, join

OPEN = {"/health", "/login", "/setup", "/api/login", "/api/setup"}
BY_NAME = pytest.mark.parametrize("each", operations.ALL, ids=lambda each: each.name)


def ask(client: httpx.Client, each: Operation) -> httpx.Response:
    path = re.sub(r"{\w+:int}", "1", each.path)
    path = re.sub(r"{\w+}", "x", path)
    body: dict[str, str] | None = None if each.body is None else {}
    return client.request(each.method, path, json=body)


def test_open_paths_are_these() -> None:
    assert set(gate.OPEN) == OPEN
    assert {each.path for each in operations.ALL if each.caller == "anybody"} <= OPEN
    assert len(operations.ALL) > 40


@BY_NAME
def test_nobody_passes(nobody: httpx.Client, each: Operation) -> None:
    if each.path in OPEN:
        return
    said = ask(nobody, each)
    assert (said.status_code, said.json()["title"]) == (401, "not logged in")
    assert said.headers["Content-Type"] == "application/problem+json"
    for secret in ("Bearer toa_1234_abcdef", "Bearer node_x_y", "Basic YTpi", "Bearer", "x"):
        with nobody.stream(each.method, each.path, headers={"Authorization": secret}) as said:
            assert said.status_code == 401, secret


@pytest.mark.parametrize("route", pages().routes, ids=lambda route: getattr(route, "path", "?"))
def test_nobody_sees_a_page(nobody: httpx.Client, route: BaseRoute) -> None:
    """The console's, whatever it has: only login, set-up and static files are open."""
    path = re.sub(r"{\w+(:\w+)?}", "1", getattr(route, "path", "/"))
    is_open = path in OPEN or path.startswith("/static")
    methods = {"GET", "POST", *(getattr(route, "methods", None) or ())}
    for method in methods - {"HEAD"}:
        said = nobody.request(method, path)
        assert is_open or said.status_code == 401, method
        said = nobody.request(method, path, headers={"Accept": "text/html"})
        if not is_open:
            assert (said.status_code, said.headers["Location"][:6]) == (303, "/login"), method
            assert said.text == ""


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
@pytest.mark.parametrize("path", ["/", "/nothing", "/api", "/api/", "/docs", "/node", "//api/me"])
def test_what_is_not_there_is_not_told_to_nobody(
    nobody: httpx.Client, method: str, path: str
) -> None:
    assert nobody.request(method, path).status_code == 401


@BY_NAME
def test_roles(company: Company, each: Operation) -> None:
    order = ["viewer", "operator", "admin"]
    if each.caller not in order:
        return
    for role in order[: order.index(each.caller)]:
        with company.server.client(company.tokens[role]) as client:
            said = ask(client, each)
        assert said.status_code == 403, role
        assert said.json()["detail"].endswith(f"this takes {each.caller}")


@pytest.fixture(scope="module")
def node_token(company: Company) -> str:
    with company.server.client(company.tokens["operator"]) as operator:
        _, node = join(company.server, operator, "walker")
    node.close()
    return str(node.headers["Authorization"]).removeprefix("Bearer ")


@BY_NAME
def test_a_node_is_no_operator(server: Serving, node_token: str, each: Operation) -> None:
    if each.caller in ("node", "anybody"):
        return
    with server.client(node_token) as node:
        assert ask(node, each).status_code == 403


@BY_NAME
def test_an_operator_is_no_node(company: Company, each: Operation) -> None:
    if each.caller not in ("node", "join"):
        return
    with company.server.client(company.tokens["admin"]) as client:
        assert ask(client, each).status_code == 403


@BY_NAME
def test_a_join_token_does_nothing_else(company: Company, each: Operation) -> None:
    if each.caller in ("join", "anybody"):
        return
    token = company.admin.post("/api/nodes/join-tokens", json={}).json()["token"]
    with company.server.client(token) as client:
        assert ask(client, each).status_code == 403
