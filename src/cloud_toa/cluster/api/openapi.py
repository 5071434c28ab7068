# SPDX-License-Identifier: Apache-2.0
"""The description of the API, made from the same list of operations as its routes.

Source: OpenAPI 3.1, https://spec.openapis.org/oas/v3.1.0
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from cloud_toa.cluster.api.operation import Operation
from cloud_toa.cluster.api.problem import MEDIA_TYPE, TITLES, Problem

_SCHEMAS = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"{(?P<name>\w+)(?::(?P<kind>\w+))?}")
_SECURITY = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API token, a node's token, or a join token.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "__Host-cloud-toa",
        "description": "Set by /api/login; changes also need X-CSRF-Token, see /api/me. Without "
        "TLS it is called cloud-toa.",
    },
}


def describe(operations: Sequence[Operation]) -> dict[str, Any]:
    """The whole of it."""
    kinds = [
        kind
        for each in operations
        for kind in (each.body, each.query, each.answer)
        if kind is not None and kind is not Response
    ]
    shown, components = msgspec.json.schema_components([*kinds, Problem], ref_template=_SCHEMAS)
    schemas = dict(zip(map(str, [*kinds, Problem]), shown, strict=True))
    paths: dict[str, Any] = {}
    for each in operations:
        path = _PARAMETER.sub(r"{\g<name>}", each.path)
        paths.setdefault(path, {})[each.method.lower()] = _described(each, schemas, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "cloud-toa",
            "version": "1",
            "description": "A cluster of edges. Times are seconds since 1970, UTC.",
        },
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SECURITY},
    }


def _described(
    each: Operation, schemas: dict[str, Any], components: dict[str, Any]
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": each.name,
        "summary": each.summary,
        "tags": [each.name.partition(".")[0]],
        "parameters": [*_in_path(each.path), *_in_query(each, schemas, components)],
        "responses": _answers(each, schemas),
        "security": _security(each),
    }
    if each.caller in ("viewer", "operator", "admin"):
        described["description"] = f"For the role {each.caller}, or a higher one."
    if each.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas[str(each.body)]}},
        }
    return described


def _answers(each: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    answers: dict[str, Any] = {str(each.status): {"description": "done"}}
    if each.answer is Response:
        answers["200"]["content"] = {each.media_type: {"schema": {"type": "string"}}}
    elif each.answer is not None:
        schema = schemas[str(each.answer)]
        answers[str(each.status)]["content"] = {each.media_type: {"schema": schema}}
    usual = [503] if each.caller == "anybody" else [401, 403, 503]
    if each.body is not None:
        usual += [400, 413, 415, 422]
    if each.path == "/node/settings":
        answers["304"] = {"description": "as it was"}
    for status in sorted({*usual, *each.refusals}):
        shape = schemas[str(Problem)]
        media_type = MEDIA_TYPE
        if each.path == "/health":
            shape, media_type = schemas[str(each.answer)], "application/json"
        answers[str(status)] = {
            "description": TITLES[status],
            "content": {media_type: {"schema": shape}},
        }
    return answers


def _security(each: Operation) -> list[dict[str, list[str]]]:
    if each.caller == "anybody":
        return []
    if each.caller in ("node", "join"):
        return [{"token": []}]
    return [{"token": []}, {"session": []}]


def _in_path(path: str) -> list[dict[str, Any]]:
    return [
        {
            "name": found["name"],
            "in": "path",
            "required": True,
            "schema": {"type": "integer", "minimum": 0}
            if found["kind"] == "int"
            else {"type": "string", "minLength": 1},
        }
        for found in _PARAMETER.finditer(path)
    ]


def _in_query(
    each: Operation, schemas: dict[str, Any], components: dict[str, Any]
) -> list[dict[str, Any]]:
    if each.query is None:
        return []
    name = schemas[str(each.query)]["$ref"].rpartition("/")[2]
    schema = components[name]
    required = schema.get("required", [])
    return [
        {
            "name": key,
            "in": "query",
            "required": key in required,
            "schema": _without_null(value),
            **({"description": value["description"]} if "description" in value else {}),
        }
        for key, value in schema["properties"].items()
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """What can be in a query: a key is left out, and never null."""
    if "anyOf" not in schema:
        return {key: value for key, value in schema.items() if key != "default"}
    (one,) = (each for each in schema["anyOf"] if each.get("type") != "null")
    return dict(one)
