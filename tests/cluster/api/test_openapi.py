# SPDX-License-Identifier: Apache-2.0
"""The description of the API is right: schemathesis asks by it, and looks at what is answered."""

import re
from typing import Any

import httpx
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from cloud_toa.cluster.api import openapi, operations
from tests.cluster.api.conftest import Company
from tests.cluster.api.serving import join

DESCRIPTION = openapi.describe(operations.ALL)
SCHEMA = schemathesis.openapi.from_dict(DESCRIPTION)
# What would take the others' login away, or lasts for ever.
LEFT_OUT = {"/api/events", "/node/events", "/api/logout", "/api/login", "/api/setup"}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
FEW = settings(
    max_examples=5,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def node_token(company: Company) -> str:
    with company.server.client(company.tokens["operator"]) as operator:
        _, node = join(company.server, operator, "described")
    node.close()
    return str(node.headers["Authorization"])


@SCHEMA.exclude(path=sorted(LEFT_OUT)).parametrize()
@FEW
def test_answers_are_as_described(
    case: schemathesis.Case[Any], company: Company, node_token: str
) -> None:
    """Asked by an administrator's token, or by a node where the call is a node's."""
    token = f"Bearer {company.tokens['admin']}"
    if case.path.startswith("/node/"):
        token = node_token
    said = case.call(base_url=company.server.url, headers={"Authorization": token})
    case.validate_response(said, checks=CHECKS)


@SCHEMA.exclude(path=sorted(LEFT_OUT | {"/health"})).parametrize()
@settings(FEW, max_examples=2)
def test_nobody_is_answered(case: schemathesis.Case[Any], company: Company) -> None:
    said = case.call(base_url=company.server.url)
    case.validate_response(said, checks=CHECKS)
    assert said.status_code == 401


def test_description_is_served(admin: httpx.Client) -> None:
    told = msgspec.json.decode(msgspec.json.encode(openapi.describe(operations.ALL)))
    assert admin.get("/api/openapi.json").json() == told


def test_every_operation_is_described() -> None:
    described = {
        (method.upper(), path)
        for path, methods in DESCRIPTION["paths"].items()
        for method in methods
    }
    assert described == {(each.method, re.sub(r":\w+}", "}", each.path)) for each in operations.ALL}
    assert all(each.summary for each in operations.ALL)
    names = [each.name for each in operations.ALL]
    assert len(set(names)) == len(names)


def test_every_reference_leads_somewhere() -> None:
    schemas = DESCRIPTION["components"]["schemas"]
    for name in references(DESCRIPTION):
        assert name in schemas
    assert all("." not in name for name in schemas)


def references(what: Any) -> "set[str]":
    if isinstance(what, dict):
        found = {what["$ref"].rpartition("/")[2]} if "$ref" in what else set()
        return found.union(*map(references, what.values()))
    return set[str]().union(*map(references, what)) if isinstance(what, list) else set()
