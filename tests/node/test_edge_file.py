# SPDX-License-Identifier: Apache-2.0
"""edge_file.py: what an edge's file may say, and what two services can't have together."""

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud_toa.errors import ToaError
from cloud_toa.node import edge_file
from cloud_toa.node.edge_file import EdgeFile, Toa, for_one, parse, read

WEB = """\
[[service]]
name = "web"
listen = ["0.0.0.0:80"]
[[service.origin]]
address = "192.0.2.7"
port = 8080
"""
TLS = """\
protocol = "tls"
tls.certificates = [{ certificate = "/etc/web.pem" }]
"""


def service(name: str, listen: str, more: str = "") -> str:
    origin = "[[service.origin]]\naddress = '192.0.2.7'"
    return f"[[service]]\nname = '{name}'\nlisten = {listen}\n{more}\n{origin}\n"


def refusal(text: str) -> str:
    with pytest.raises(ToaError) as refused:
        parse(text, "edge.toml")
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_what_is_left_out_has_its_default() -> None:
    edge = parse(WEB, "edge.toml")
    (web,) = edge.service
    assert (web.protocol, web.toa, web.algorithm) == ("tcp", True, "roundrobin")
    assert edge.toa == Toa()
    assert (edge.toa.option_type_v4, edge.toa.option_type_v6) == (254, 254)
    assert edge.toa.where == ("syn", "ack", "data")
    assert (edge.access_log.file, edge.metrics, edge.resolve_interval) == (None, None, 10)


def test_the_same_in_other_words() -> None:
    dotted = """
service = [
  { name = "web", listen = [
      "0.0.0.0:80",
    ], origin = [{ address = "192.0.2.7", port = 8080 }] },
]
"""
    assert parse(dotted, "dotted") == parse(WEB, "web")
    check = parse(WEB + "[service.check]\nrise = 5\n", "table")
    assert parse(WEB.replace("listen", "check.rise = 5\nlisten"), "dotted") == check


def test_files_named_by_services() -> None:
    text = service("a", "['0.0.0.0:1']", TLS) + service("b", "['0.0.0.0:2']", TLS)
    assert parse(text, "edge.toml").files == ["/etc/web.pem"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_read(tmp_path: Path, end: str, mark: str) -> None:
    file = tmp_path / "edge.toml"
    file.write_bytes((mark + WEB.replace("\n", end)).encode())
    assert read(file) == parse(WEB, "edge.toml")


def test_read_whatever_the_locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("locale.getencoding", lambda: "iso-8859-1")
    file = tmp_path / "edge.toml"
    text = WEB + "[access_log]\nfile = '/var/log/é'\n"
    file.write_bytes(text.encode())
    assert read(file).access_log.file == "/var/log/é"


def test_files_that_can_t_be_read(tmp_path: Path) -> None:
    def said(file: Path) -> str:
        with pytest.raises(ToaError) as refused:
            read(file)
        return str(refused.value)

    none, latin = tmp_path / "none", tmp_path / "latin"
    latin.write_bytes("# é".encode("latin-1"))
    assert said(none) == f"{none} can't be read: No such file or directory"
    assert said(tmp_path) == f"{tmp_path} can't be read: Is a directory"
    assert said(latin) == f"{latin} is not UTF-8 text"
    latin.write_text(WEB + "port = 1")
    assert said(latin).startswith(f"{latin}, line 7: port = 1: Cannot overwrite a value: ")


def test_a_huge_file() -> None:
    several = "".join(
        service(f"plain-{number}", f"['10.{number // 250}.{number % 250}.1:80-99']")
        + service(f"shop-{number}", "['0.0.0.0:443']", f"{TLS}server_names = ['a{number}.example']")
        for number in range(1500)
    )
    start = time.process_time()
    assert len(parse(several, "edge.toml").service) == 3000
    last = service("last", "['0.0.0.0:443']", f"{TLS}server_names = ['A7.example']")
    said = refusal(several + last)
    assert "services shop-7 and last both have the server name A7.example" in said
    assert f"line {several.count(chr(10)) + 6}:" in said
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    ("metrics", "listen"),
    [
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("127.0.0.1:80", "0.0.0.0:70-90"),
        ("0.0.0.0:80", "192.0.2.1:80"),
        ("[::1]:80", "[::]:80"),
        ("[::ffff:192.0.2.1]:80", "192.0.2.1:80"),
        ("[::]:80", "[2001:db8::1]:80"),
        ("[::]:80", "192.0.2.1:80"),
        (":80", "0.0.0.0:80"),
    ],
)
def test_metrics_where_a_service_listens(metrics: str, listen: str) -> None:
    text = (
        f"metrics = '{metrics}'\n" + service("a", "['0.0.0.0:99']") + service("b", f"['{listen}']")
    )
    assert refusal(text) == (
        f"edge.toml, line 1: metrics {metrics} and service b at {listen} have addresses in common: "
        "give one another port"
    )


@pytest.mark.parametrize(
    ("metrics", "listen"),
    [
        ("127.0.0.1:80", "127.0.0.1:81-90"),
        ("127.0.0.1:80", "192.0.2.1:80"),
        ("0.0.0.0:80", "[::]:80"),
        ("[::1]:80", "0.0.0.0:80"),
    ],
)
def test_metrics_where_no_service_listens(metrics: str, listen: str) -> None:
    parse(f"metrics = '{metrics}'\n" + service("a", f"['{listen}']"), "edge.toml")


DIFFER = "which applies before the client says what name it wants: write the same in both"
BOTH = "services a and b both listen on 0.0.0.0:443"
COMMON = (
    "which have addresses in common: give one another port, or have TLS in both and the same listen"
)


def names(text: str) -> str:
    return f"{TLS}server_names = [{text}]"


@pytest.mark.parametrize(
    ("first", "second", "line", "message"),
    [
        (
            ("a", "['0.0.0.0:80']"),
            ("a", "['0.0.0.0:81']"),
            2,
            "two services are named a: rename one",
        ),
        (
            ("a", "['0.0.0.0:443']"),
            ("b", "['0.0.0.0:443']"),
            3,
            f"{BOTH}: give one another port",
        ),
        (
            ("a", "['0.0.0.0:443']", TLS),
            ("b", "['0.0.0.0:443']"),
            3,
            f"{BOTH}: give one another port",
        ),
        (
            ("a", "['0.0.0.0:80']"),
            ("b", "['192.0.2.1:80']"),
            3,
            f"services a and b listen on 0.0.0.0:80 and 192.0.2.1:80, {COMMON}",
        ),
        (
            ("a", "['192.0.2.1:8000-8099']"),
            ("b", "['0.0.0.0:90', '192.0.2.1:8099-9000']"),
            3,
            f"services a and b listen on 192.0.2.1:8000-8099 and 192.0.2.1:8099-9000, {COMMON}",
        ),
        (
            ("a", "['[::]:70-90']"),
            ("b", "['[2001:db8::1]:80']"),
            3,
            f"services a and b listen on [::]:70-90 and [2001:db8::1]:80, {COMMON}",
        ),
        (
            ("a", "['0.0.0.0:443', '0.0.0.0:444']", names("'a.example'")),
            ("b", "['0.0.0.0:443', '0.0.0.0:445']", names("'b.example'")),
            3,
            f"services a and b listen on 0.0.0.0:443 and 0.0.0.0:443, {COMMON}",
        ),
        (
            ("a", "['0.0.0.0:443']", TLS),
            ("b", "['0.0.0.0:443']", TLS),
            1,
            f"{BOTH}, and neither has server_names to tell them apart",
        ),
        (
            ("a", "['0.0.0.0:443']", names("'x.example', 'www.example'")),
            ("b", "['0.0.0.0:443']", names("'WWW.example'")),
            6,
            "services a and b both have the server name WWW.example: leave it out of one",
        ),
        (
            ("a", "['0.0.0.0:443']", names("'a.example'")),
            ("b", "['0.0.0.0:443']", names("'b.example'") + "\nallow = ['10.0.0.0/8']"),
            7,
            f"{BOTH} and differ in allow, {DIFFER}",
        ),
        (
            ("a", "['0.0.0.0:443']", names("'a.example'")),
            ("b", "['0.0.0.0:443']", names("'b.example'") + "\ntls.min_version = '1.3'"),
            1,
            f"{BOTH} and differ in min_version, {DIFFER}",
        ),
    ],
)
def test_services_that_are_in_each_other_s_way(
    first: tuple[str, ...], second: tuple[str, ...], line: int, message: str
) -> None:
    before = service(*first)
    said = refusal(before + service(*second))
    assert said == f"edge.toml, line {before.count(chr(10)) + line}: {message}"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("a", "['0.0.0.0:80']"), ("b", "['[::]:80']")),
        (("a", "['192.0.2.1:80']"), ("b", "['192.0.2.2:80']")),
        (("a", "['0.0.0.0:80-89']"), ("b", "['0.0.0.0:90-99']")),
        (("a", "['0.0.0.0:443']", TLS), ("b", "['0.0.0.0:443']", names("'b.example'"))),
        (
            ("a", "['0.0.0.0:443', '[::]:443']", names("'*.example'")),
            ("b", "['[::0]:443', '0.0.0.0:443']", names("'b.example'")),
        ),
    ],
)
def test_services_that_are_not(first: tuple[str, ...], second: tuple[str, ...]) -> None:
    assert len(parse(service(*first) + service(*second), "edge.toml").service) == 2


@pytest.mark.parametrize(
    ("origin", "address", "port"),
    [
        ("192.0.2.7:80", "192.0.2.7", 80),
        ("[2001:db8::7]:443", "2001:db8::7", 443),
        ("app.example:1", "app.example", 1),
    ],
)
def test_one_service_of_the_command_line(origin: str, address: str, port: int) -> None:
    (one,) = for_one("[::]:80", origin).service
    assert one.listen == ("[::]:80",)
    assert [(each.address, each.port) for each in one.origin] == [(address, port)]


FORMS = "write 192.0.2.7:80, [2001:db8::7]:80 or NAME:80"
LISTEN = "write 0.0.0.0:8080, [::]:8080 or 192.0.2.1:8000-8099"
ORIGIN = (
    "is neither an IP address nor a host name: "
    "write 192.0.2.7, 2001:db8::7 or app.example, and the port as port = 80"
)


@pytest.mark.parametrize(
    ("listen", "origin", "message"),
    [
        ("0.0.0.0:80", "192.0.2.7", f"--origin '192.0.2.7': {FORMS}"),
        ("0.0.0.0:80", ":80", f"--origin ':80': {FORMS}"),
        ("0.0.0.0:80", "2001:db8::7:80", f"--origin '2001:db8::7:80': {FORMS}"),
        ("0.0.0.0:80", "[::1]]:80", f"--origin '[::1]]:80': {FORMS}"),
        ("0.0.0.0:80", "a:٨٠", f"--origin 'a:٨٠': {FORMS}"),
        ("0.0.0.0:80", "a:80\n", f"--origin 'a:80\\n': {FORMS}"),
        ("0.0.0.0:80", "a b:80", f"--origin 'a b:80': origin address 'a b' {ORIGIN}"),
        (
            "0.0.0.0:80",
            "a:99999",
            "--origin 'a:99999': port = 99999: write a number from 1 to 65535, without quotes",
        ),
        ("80", "a:80", f"--listen: '80' is no address to listen on: {LISTEN}"),
        ("", "a:80", f"--listen: '' is no address to listen on: {LISTEN}"),
    ],
)
def test_one_service_that_can_t_be(listen: str, origin: str, message: str) -> None:
    with pytest.raises(ToaError) as refused:
        for_one(listen, origin)
    assert str(refused.value) == message


def test_every_field_can_be_set() -> None:
    """What is read is what was meant: an edge, written out and read again, is the same."""
    edge = parse(service("a", "['0.0.0.0:443']", TLS), "edge.toml")
    assert msgspec.convert(msgspec.to_builtins(edge), EdgeFile) == edge


def test_the_schema_is_of_the_same_file() -> None:
    schema: dict[str, Any] = edge_file.schema()
    definitions = schema["$defs"]
    assert schema["$ref"] == "#/$defs/EdgeFile"
    for name, kind in (("EdgeFile", EdgeFile), ("Toa", Toa)):
        fields = [field.name for field in msgspec.structs.fields(kind)]
        assert sorted(definitions[name]["properties"]) == sorted(fields)
        assert definitions[name]["additionalProperties"] is False
