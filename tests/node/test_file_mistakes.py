# SPDX-License-Identifier: Apache-2.0
"""file_mistakes.py: mistakes that people make, and what they are told of them."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_toa.errors import ToaError
from cloud_toa.node.edge_file import parse

EDGE = """\
metrics = "127.0.0.1:9100"

[[service]]
name = "other"
listen = ["0.0.0.0:79"]
origin = [{ address = "192.0.2.7" }]

[[service]]
name = "web"
listen = ["0.0.0.0:80"]
idle_timeout = "10m"
allow = ["10.0.0.0/8"]

[[service.origin]]
address = "192.0.2.7"
port = 8080
weight = 1

[service.check]
enabled = true
rise = 2

[toa]
option_type_v4 = 254
where = ["syn"]

[access_log]
keep = 7
"""
DURATION = 'write a number and its unit: "500ms", "10s", "5m", "1h" or "2d", at most "24d"'
WEIGHT = "write a number from 0 to 256, without quotes"
TEXTS = "write a list: [text in quotes, ...]"
EACH = "with two brackets, for each"
END = "Expected newline or end of document after a statement"
TOML = 'Invalid value: write numbers, true, false, or "text in quotes"'
EVERYBODY = "is everybody: leave it out, or write smaller networks"


def test_the_edge_is_good() -> None:
    assert len(parse(EDGE, "edge.toml").service) == 2


@pytest.mark.parametrize(
    ("right", "wrong", "line", "message"),
    [
        # Lists, tables, and tables in lists.
        ('["0.0.0.0:80"]', '"0.0.0.0:80"', 10, 'listen = "0.0.0.0:80": write ["0.0.0.0:80"]'),
        ('["0.0.0.0:80"]', "[80]", 10, "listen = 80: write text in quotes"),
        ('["0.0.0.0:80"]', "[]", 10, f"listen is empty: {TEXTS}"),
        ('["0.0.0.0:80"]', "{ a = 1 }", 10, f"listen is a table: {TEXTS}"),
        ('["10.0.0.0/8"]', '"10.0.0.0/8"', 12, 'allow = "10.0.0.0/8": write ["10.0.0.0/8"]'),
        ('["syn"]', '"syn"', 25, 'where = "syn": write ["syn"]'),
        (
            "[[service.origin]]",
            "[service.origin]",
            14,
            "origin is a table: write [[service.origin]], with two brackets, for each",
        ),
        (
            EDGE,
            EDGE.replace("[[service]]", "[services]", 1).partition("\n\n[[")[0],
            3,
            "unknown key 'services': did you mean 'service'?",
        ),
        (
            EDGE,
            "[service]\nname = 'web'\nlisten = []\n",
            1,
            "service is a table: write [[service]], with two brackets, for each",
        ),
        ("[toa]", "[[toa]]", 23, "toa is a list: write a table: [toa]"),
        (EDGE, "toa = true", 1, (f"service is missing: write [[service]], {EACH}; "
         "edge.toml, line 1: toa = true: write a table: [toa]")),
        (EDGE, "", 1, "service is missing: write [[service]], with two brackets, for each"),
        (EDGE, "service = []", 1, f"service is empty: write [[service]], {EACH}"),
        # Numbers and texts.
        ("8080", '"8080"', 16, 'port = "8080": write a number from 1 to 65535, without quotes'),
        ("8080", "80800", 16, "port = 80800: write a number from 1 to 65535, without quotes"),
        ("8080", "0", 16, "port = 0: write a number from 1 to 65535, without quotes"),
        ("weight = 1", "weight = 1.5", 17, f"weight = 1.5: {WEIGHT}"),
        ("weight = 1", "weight = []", 17, f"weight is empty: {WEIGHT}"),
        ("weight = 1", "weight = 2026-01-01", 17, f"weight = 2026-01-01: {WEIGHT}"),
        ("= 2\n", "= 0\n", 21, "rise = 0: write a number from 1 to 100, without quotes"),
        ('"web"', "7", 9, "name = 7: write text in quotes"),
        ('"10m"', "10", 11, f"idle_timeout = 10: {DURATION}"),
        ('"10m"', '"10"', 11, f'idle_timeout = "10": {DURATION}'),
        ('"10m"', '"10 min"', 11, f'idle_timeout = "10 min": {DURATION}'),
        ('"10m"', '"10m\\n"', 11, f'idle_timeout = "10m\\n": {DURATION}'),
        ('"10m"', '"30d"', 11, f'idle_timeout = "30d": {DURATION}'),
        ("= true", '= "yes"', 20, 'enabled = "yes": write true or false'),
        ("= true", "= 1", 20, "enabled = 1: write true or false"),
        ("= true", "= yes", 20, f"enabled = yes: {TOML}"),
        ('"10m"', "10m", 11, f"idle_timeout = 10m: {END}"),
        ("weight", "tls", 17, "tls = 1: write true or false or a table: [service.origin.tls]"),
        ("= 7\n", "= 1001\n", 28, "keep = 1001: write a number from 0 to 1000, without quotes"),
        ("= 7\n", "= -1\n", 28, "keep = -1: write a number from 0 to 1000, without quotes"),
        # Words out of a few.
        (
            'name = "web"',
            'name = "web"\nprotocol = "http"',
            10,
            'protocol = "http": write "tcp" or "tls"',
        ),
        ('["syn"]', '["fin"]', 25, 'where = "fin": write "ack" or "data" or "syn"'),
        # Addresses.
        ('"0.0.0.0:80"', '"::1:80"', 10, "'::1:80' is no address to listen on: write [::1]:80"),
        (
            '"0.0.0.0:80"',
            '":80"',
            10,
            ("':80' is no address to listen on: "
            "write 0.0.0.0:8080, [::]:8080 or 192.0.2.1:8000-8099"),
        ),
        (
            '"192.0.2.7"\nport',
            '"192.0.2.7:80"\nport',
            15,
            ("origin address '192.0.2.7:80' is neither an IP address nor a host name: "
            "write 192.0.2.7, 2001:db8::7 or app.example, and the port as port = 80"),
        ),
        (
            '["10.0.0.0/8"]',
            '["10.0.0.1/8"]',
            12,
            "'10.0.0.1/8' has bits set behind its prefix: did you mean 10.0.0.0/8?",
        ),
        ('["10.0.0.0/8"]', '["0.0.0.0/0"]', 12, f"'0.0.0.0/0' {EVERYBODY}"),
        ('["10.0.0.0/8"]', '[\n  "10.0.0.0/8",\n  "any"]', 14, f"'any' {EVERYBODY}"),
        (
            '"127.0.0.1:9100"',
            '"9100"',
            1,
            "metrics '9100' is not an address: write 127.0.0.1:9100 or [::1]:9100",
        ),
        # TLS.
        (
            'name = "web"',
            'name = "web"\nprotocol = "tls"',
            10,
            "service web has protocol = 'tls': add [service.tls] with certificates",
        ),
        (
            "[toa]",
            "[service.tls]\n[toa]",
            23,
            f"certificates is missing: write [[service.tls.certificates]], {EACH}",
        ),
        (
            "[toa]",
            '[service.tls]\ncertificates = ["/a.pem"]\n[toa]',
            24,
            'certificates = "/a.pem": write a table: [[service.tls.certificates]]',
        ),
        (
            "weight = 1",
            "tls = true",
            17,
            ("origin 192.0.2.7 has TLS, and an address says nothing of its certificate: "
            "give tls.server_name, or tls.verify = false"),
        ),
        # TOA.
        (
            "option_type_v4 = 254",
            "option_type_v4 = 8",
            24,
            "option kind 8 is in use for Timestamps: choose one such as 254, 253 or 200",
        ),
        (
            "option_type_v4 = 254",
            "option_type_v6 = 256",
            24,
            "option kind 256 is out of range: a kind is one byte, 0 to 255",
        ),
        (
            "option_type_v4 = 254",
            'option_type_v4 = "254"',
            24,
            'option_type_v4 = "254": write a number, without quotes',
        ),
        (
            "option_type_v4 = 254",
            "min_queue_id = 5\nmax_queue_id = 1",
            24,
            "min_queue_id 5 is above max_queue_id 1: swap them",
        ),
        (
            "option_type_v4 = 254",
            "min_queue_id = 5\nmax_queue_id = 261",
            25,
            (
                "min_queue_id 5 to max_queue_id 261 are 257 queues, and as many processes: "
                "256 at most, one for each processor is best"
            ),
        ),
        # Logs.
        ("keep = 7", 'file = "access.log"', 28, ("'access.log' is no path: write it from / on, "
         "without spaces, quotes, \\, # and $")),
        (
            "keep = 7",
            'syslog = "a b"',
            28,
            "syslog 'a b' is no place: write /dev/log, or 192.0.2.5:514",
        ),
        # Keys.
        ("listen = ", "lisen = ", 5, "unknown key 'lisen': did you mean 'listen'?"),
        ('name = "web"\n', "", 8, "name is missing: write text in quotes"),
        (
            "weight = 1",
            "allow = []",
            17,
            "unknown key 'allow': it belongs to [[service]], above [[service.origin]]",
        ),
        (
            "keep = 7",
            'metrics = ":9100"',
            28,
            "unknown key 'metrics': it belongs to the top of the file, above [access_log]",
        ),
        (
            "keep = 7",
            '"a`b.c[0]" = 7',
            28,
            "unknown key 'a`b.c[0]': known here are file, max_megabytes, keep, syslog",
        ),
        (
            "rise = 2",
            "enabled = true",
            21,
            "enabled = true: Cannot overwrite a value: this key is there already, leave one out",
        ),
        (
            "[[service]]\nname = \"web\"",
            "[[service]\nname = \"web\"",
            8,
            "[[service]: Expected ']]' at the end of an array declaration",
        ),
    ],
    ids=lambda value: str(value)[:25],
)  # fmt: skip
def test_mistakes(right: str, wrong: str, line: int, message: str) -> None:
    assert right in EDGE
    with pytest.raises(ToaError) as refused:
        parse(EDGE.replace(right, wrong, 1), "edge.toml")
    assert str(refused.value) == f"edge.toml, line {line}: {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = " + "[" * 100_000, "its lists lie too deep in one another"),
        ("a = " + "1" * 5000, "it has a number that is too long"),
    ],
    ids=["deep", "long"],
)
def test_what_python_can_t_read(text: str, message: str) -> None:
    with pytest.raises(ToaError) as refused:
        parse(text, "edge.toml")
    assert str(refused.value) == f"edge.toml: {message}"


def test_long_values_are_cut() -> None:
    for wrong in ("x" * 10_000, 9**4000):
        with pytest.raises(ToaError) as refused:
            parse(EDGE.replace("8080", repr(wrong)), "edge.toml")
        assert len(str(refused.value)) < 200


VALUES = ["1", "'x'", "true", "1.5", "nan", "2026-01-01", "[]", "{}", "[[]]", "[{}]", "['a']", "''"]
KEYS = sorted({line.split(" =")[0] for line in EDGE.splitlines() if " = " in line})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (EDGE + "keep = 8", "line 29: keep = 8: Cannot overwrite a value: this key is there"),
        (EDGE + 'x = """\n\n', 'line 29: x = """: Unterminated string'),
        # A form feed, at which Python's strip() does not stop.
        (EDGE + "\n \f", "line 30: \\x0c: Invalid statement"),
        (EDGE + "x =", f"line 29: x =: {TOML}"),
    ],
)  # fmt: skip
def test_mistakes_in_the_last_line(text: str, message: str) -> None:
    with pytest.raises(ToaError) as refused:
        parse(text, "edge.toml")
    assert str(refused.value).startswith(f"edge.toml, {message}")


@settings(max_examples=200, deadline=None)
@given(st.integers(0, EDGE.count("\n")), st.sampled_from([*KEYS, "zzz"]), st.sampled_from(VALUES))
def test_whatever_is_wrong_has_its_line(at: int, key: str, value: str) -> None:
    lines = EDGE.splitlines()
    edge = "\n".join([*lines[:at], f"{key} = {value}", *lines[at + 1 :]])
    with suppress(ToaError):
        parse(edge, "edge.toml")
        return
    with pytest.raises(ToaError, match=r"edge\.toml, line ") as refused:
        parse(edge, "edge.toml")
    assert "Expected `" not in str(refused.value)
    assert "\n" not in str(refused.value)
