# SPDX-License-Identifier: Apache-2.0
"""The example of edge.toml shows every key, is taken as it is, and agrees with the schema."""

import re
import tomllib
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from cloud_toa.balancer import certificates
from cloud_toa.balancer.log_line import Toa
from cloud_toa.balancer.render import Global, configuration
from cloud_toa.errors import ToaError
from cloud_toa.node import edge_file
from cloud_toa.node.edge_file import EdgeFile
from tests.balancer.haproxy import make_certificate, refusal

EXAMPLE = Path(__file__).parents[1] / "packaging" / "edge.toml"
CODE = re.compile(r"(?m)^# (?=\[|\w+ = [^a-z]|\w+ = (?:true|false)$|  \{|\])")
# Without a default, they show what could be there.
EXAMPLES = {
    "metrics", "max_queue_id", "file", "syslog", "max_connections", "threads", "old_connections",
    "max_connections_per_client", "new_connections_per_client", "allow", "deny", "proxy_from",
    "proxy",
}  # fmt: skip


def everything() -> str:
    """The example with all that is commented out."""
    return CODE.sub("", EXAMPLE.read_text())


def structs(kind: Any) -> Iterator[Any]:
    """This one, and those in its fields."""
    match kind:
        case inspect.StructType(cls=cls, fields=fields):
            yield cls
            for field in fields:
                yield from structs(field.type)
        case inspect.VarTupleType(item_type=inner) | inspect.Metadata(type=inner):
            yield from structs(inner)
        case inspect.UnionType(types=types):
            for inner in types:
                yield from structs(inner)


def keys(data: Any, kind: Any) -> Iterator[tuple[str, str]]:
    """Each key that is there, with the name of the struct that it is a field of."""
    match kind:
        case inspect.StructType(cls=cls, fields=fields) if isinstance(data, dict):
            for field in fields:
                if field.name in data:
                    yield cls.__name__, field.name
                    yield from keys(data[field.name], field.type)
        case inspect.VarTupleType(item_type=inner):
            for each in data:
                yield from keys(each, inner)
        case inspect.Metadata(type=inner):
            yield from keys(data, inner)
        case inspect.UnionType(types=types):
            for inner in types:
                yield from keys(data, inner)


def test_it_is_taken_as_it_is(tmp_path: Path) -> None:
    edge = edge_file.read(EXAMPLE)
    assert [service.name for service in edge.service] == ["web"]
    assert refusal(rendered(edge, tmp_path), tmp_path) == ""


def rendered(edge: EdgeFile, folder: Path) -> str:
    certificates.put(certificates.read(edge.service), edge.service, folder / "made")
    at = folder / "socket"
    settings = Global(1000, edge.haproxy.threads, edge.haproxy.old_connections, at, at,
                      folder / "made", syslog=edge.access_log.syslog)  # fmt: skip
    return configuration(
        edge.service, settings, {"app.example.com": (ip_address("192.0.2.9"),)},
        lambda service, origin, _: service.has_toa(origin), lambda *_: Toa("syn,ack,data"),
        ipv6=True,
    )  # fmt: skip


def test_all_of_it_is_taken(tmp_path: Path) -> None:
    for name in ("shop.pem", "www.crt", "clients.pem", "origins.pem", "edge.crt"):
        make_certificate(tmp_path / name)
        (tmp_path / f"{name}.key").rename((tmp_path / name).with_suffix(".key"))
    edge = edge_file.parse(everything().replace("/etc/cloud-toa", str(tmp_path)), "edge.toml")
    assert [service.name for service in edge.service] == ["web", "shop"]
    assert refusal(rendered(edge, tmp_path), tmp_path) == ""


def test_it_shows_every_key() -> None:
    root = inspect.type_info(EdgeFile)
    there = set(keys(tomllib.loads(everything()), root))
    known = {
        (struct.__name__, field.name)
        for struct in structs(root)
        for field in msgspec.structs.fields(struct)
    }
    assert there == known
    assert len(known) > 50


def test_each_key_has_its_comment() -> None:
    text = everything()
    uncommented = [
        line
        for before, line in zip(text.splitlines(), text.splitlines()[1:], strict=False)
        if re.match(r"\w+ = ", line) and not before.startswith("# ")
    ]
    # In the second service and origin, what the first ones say goes without saying.
    assert {line.split(" = ")[0] for line in uncommented} <= {
        *("name", "listen", "protocol", "address", "port"),
        *("option_type_v6", "max_queue_id", "enabled", "verify", "key"),
    }


def test_what_is_commented_out_is_the_default() -> None:
    example = EXAMPLE.read_text().partition("# TLS that ends here")[0]
    with_defaults = CODE.sub("", example)
    for name in EXAMPLES:
        with_defaults = re.sub(rf"(?m)^{name} = .*$", "", with_defaults)
    plain = edge_file.read(EXAMPLE)
    (service,) = edge_file.parse(with_defaults, "edge.toml").service
    # The service's own setting is the default of an origin's.
    origins = tuple(msgspec.structs.replace(origin, toa=None) for origin in service.origin)
    edge = edge_file.parse(with_defaults, "edge.toml")
    assert msgspec.structs.replace(
        edge, service=(msgspec.structs.replace(service, origin=origins),)
    ) == plain  # fmt: skip


def valid(data: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """Whether JSON Schema allows it; by the words that ours has."""
    if "$ref" in schema:
        schema = {**root["$defs"][schema["$ref"].rpartition("/")[2]], **schema}
    assert set(schema) <= {
        *("$ref", "$defs", "title", "description", "default", "type", "enum", "anyOf", "pattern"),
        *("minimum", "maximum", "minItems", "items", "properties", "required"),
        *("additionalProperties",),
    }
    if "anyOf" in schema:
        return any(valid(data, each, root) for each in schema["anyOf"])
    if "enum" in schema:
        return data in schema["enum"]
    match schema["type"]:
        case "null":
            return data is None
        case "boolean":
            return isinstance(data, bool)
        case "string":
            return isinstance(data, str) and bool(re.search(schema.get("pattern", ""), data))
        case "integer":
            least, most = schema.get("minimum", data), schema.get("maximum", data)
            return type(data) is int and least <= data <= most
        case "array":
            enough = isinstance(data, list) and len(data) >= schema.get("minItems", 0)
            return enough and all(valid(each, schema["items"], root) for each in data)
        case "object":
            assert schema["additionalProperties"] is False
            return (
                isinstance(data, dict)
                and set(schema.get("required", ())) <= set(data) <= set(schema["properties"])
                and all(valid(data[key], schema["properties"][key], root) for key in data)
            )
    raise AssertionError(schema)


def test_the_schema_allows_it() -> None:
    schema = edge_file.schema()
    for text in (EXAMPLE.read_text(), everything()):
        assert valid(tomllib.loads(text), schema, schema)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("port = 8080", "port = 80800"),
        ("port = 8080", 'port = "8080"'),
        ('name = "web"', ""),
        ('name = "web"', 'nmae = "web"'),
        ('["0.0.0.0:80", "[::]:80"]', '"0.0.0.0:80"'),
        ('["0.0.0.0:80", "[::]:80"]', "[]"),
        ('connect_timeout = "5s"', 'connect_timeout = "5"'),
        ('connect_timeout = "5s"', 'connect_timeout = "25d"'),
        ('algorithm = "roundrobin"', 'algorithm = "fair"'),
        ("verify = true", "verify = 1"),
        ("[toa]", "[[toa]]"),
    ],
)
def test_the_schema_refuses_what_is_refused(right: str, wrong: str) -> None:
    text = everything()
    assert right in text
    text = text.replace(right, wrong, 1)
    schema = edge_file.schema()
    assert not valid(tomllib.loads(text), schema, schema)
    with pytest.raises(ToaError, match=r"edge\.toml, line "):
        edge_file.parse(text, "edge.toml")
