# SPDX-License-Identifier: Apache-2.0
"""every_mistake.py: all that is wrong is told, each at its line, and nothing that is not wrong."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_toa.balancer.settings import Origin, Service
from cloud_toa.node import every_mistake
from cloud_toa.node.edge_file import EdgeFile, FileError, parse

WRONG = """\
metrics = "127.0.0.1:70000"
colour = "red"
[toa]
option_type_v4 = 8
option_type_v6 = "254"
min_queue_id = 9
max_queue_id = 3
where = ["syn", "fin"]
[access_log]
file = "here"
syslog = "nowhere"
keep = -1
[[service]]
name = "a b"
listen = ["0.0.0.0:80", "here", "0.0.0.0:80"]
allow = ["10.0.0.1/8", "192.0.2.0/24", "x"]
idle_timeout = "soon"
[service.check]
rise = 0
fall = 0
[[service.origin]]
address = "192.0.2.7"
port = 80
weight = "heavy"
[[service.origin]]
address = ["192.0.2.7", "192.0.2.8"]
port = 80
toa = true
proxy = "v2"
[[service.origin]]
address = "192.0.2.9"
tls = true
[[service]]
name = "web"
listen = ["0.0.0.0:81"]
protocol = "tls"
[[service.origin]]
port = 80
[service.tls]
certificates = [{ certificate = "a.pem", key = "b.key" }, { key = "/c.key" }]
ciphers = "a b"
client_ca = 5
[[service]]
name = "web"
listen = ["192.0.2.1:81"]
origin = [{ address = "192.0.2.7", port = 0 }]
"""
TOLD = [
    (1, "metrics '127.0.0.1:70000' is not an address"),
    (2, "unknown key 'colour'"),
    (4, "option kind 8 is in use"),
    (5, 'option_type_v6 = "254"'),
    (6, "min_queue_id 9 is above max_queue_id 3"),
    (8, 'where = "fin"'),
    (10, "'here' is no path"),
    (11, "syslog 'nowhere'"),
    (12, "keep = -1"),
    (14, "service name 'a b'"),
    (15, "'here' is no address to listen on"),
    (15, "listens on 0.0.0.0:80 twice"),
    (16, "'10.0.0.1/8' has bits set"),
    (16, "'x' is not an address"),
    (17, 'idle_timeout = "soon"'),
    (19, "rise = 0"),
    (20, "fall = 0"),
    (24, 'weight = "heavy"'),
    (25, "has origin 192.0.2.7:80 twice"),
    (26, "are of one IP version"),
    (29, "has toa = true and proxy = 'v2'"),
    (32, "origin 192.0.2.9 has TLS"),
    (37, "address is missing"),
    (40, "'a.pem' is no path"),
    (40, "'b.key' is no path"),
    (40, "certificate is missing"),
    (41, "'a b' is no list of ciphers"),
    (42, "client_ca = 5"),
    (44, "two services are named web"),
    (45, "services web and web listen on 0.0.0.0:81 and 192.0.2.1:81"),
    (46, "port = 0"),
]


def test_everything_is_told() -> None:
    with pytest.raises(FileError) as refused:
        parse(WRONG, "edge.toml")
    lines = list(refused.value.lines)
    for (line, what), said in zip(TOLD, lines, strict=False):
        assert said.startswith(f"edge.toml, line {line}: "), said
        assert what in said
    assert len(lines) == len(TOLD), lines
    # In one line, as a log has it, they are not all there, and it says so.
    assert str(refused.value).count("edge.toml, line") == 10
    assert str(refused.value).endswith(f"; and {len(TOLD) - 10} more")


def test_what_is_wrong_hides_nothing_between_the_others() -> None:
    """Of three services, the one in the middle has no address at all to compare."""
    text = "".join(
        f'[[service]]\nname = "{name}"\nlisten = [{listen}]\n'
        'origin = [{ address = "192.0.2.7" }]\n'
        for name, listen in (("a", '"0.0.0.0:80"'), ("b", "80"), ("c", '"0.0.0.0:80"'))
    )
    with pytest.raises(FileError) as refused:
        parse(text, "edge.toml")
    one, other = refused.value.lines
    assert one == "edge.toml, line 7: listen = 80: write text in quotes"
    assert other.startswith("edge.toml, line 11: services a and c both listen on 0.0.0.0:80")


def test_a_mistake_makes_no_others() -> None:
    """What is not known is not said to be wrong: no TLS where [service.tls] is, if mistaken."""
    text = (
        '[[service]]\nname = "a"\nlisten = ["0.0.0.0:80"]\nprotocol = "tls"\n'
        'server_names = ["a.example"]\n[service.tls]\ncertificates = 5\n'
        "[[service.origin]]\naddress = 'a.example'\ntls = { verify = 1 }\n"
    )
    with pytest.raises(FileError) as refused:
        parse(text, "edge.toml")
    assert [line.split(": ")[1] for line in refused.value.lines] == [
        "certificates = 5",
        "verify = 1",
    ]


LEAVES: st.SearchStrategy[Any] = st.sampled_from(
    [0, 1, -1, True, "", "web", "a b", "192.0.2.7", "2001:db8::7", "0.0.0.0:80", "10s", "tls", "/a",
     "syn", "10.0.0.0/8", "10.0.0.1/8", {}, {"certificate": "/a.pem"}, {"rise": 0}]
)  # fmt: skip
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=2))


def table(kind: type[msgspec.Struct]) -> st.SearchStrategy[dict[str, Any]]:
    names = [field.name for field in msgspec.structs.fields(kind)]
    return st.dictionaries(st.sampled_from([*names, "unknown"]), VALUES, max_size=6)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_there_is_a_mistake_where_msgspec_finds_one(data: st.DataObject) -> None:
    """And none where it finds none, whatever the values."""
    entries = [
        {**data.draw(table(Service)), "origin": data.draw(st.lists(table(Origin), max_size=2))}
        for _ in range(data.draw(st.integers(0, 2)))
    ]
    file = {**data.draw(table(EdgeFile)), "service": entries}
    try:
        msgspec.convert(file, EdgeFile)
        wrong = False
    except msgspec.ValidationError:
        wrong = True
    assert bool(every_mistake.find(file, EdgeFile)) is wrong
