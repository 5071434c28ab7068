# SPDX-License-Identifier: Apache-2.0
"""render.py: the texts of a few edges, and that HAProxy takes every text that can be made."""

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_toa.balancer import certificates
from cloud_toa.balancer.families import Addresses
from cloud_toa.balancer.log_line import Toa
from cloud_toa.balancer.render import (
    Global,
    configuration,
    frontend_name,
    frontends,
    log_maps,
)
from cloud_toa.balancer.settings import Origin, Service
from cloud_toa.node import edge_file
from cloud_toa.node.edge_file import EdgeFile
from tests.balancer.edges import EDGES
from tests.balancer.haproxy import make_certificate, refusal

EXPECTED = Path(__file__).with_name("expected")
ADDRESSES: Addresses = {
    "app.example": (ip_address("192.0.2.9"),),
    "six.example": (ip_address("::1"),),
    "both.example": (ip_address("192.0.2.10"), ip_address("2001:db8::10")),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with certificates ``a.pem``, ``b.pem`` and their keys ``a.pem.key`` and so on."""
    folder = tmp_path_factory.mktemp("balancer")
    for name in "ab":
        make_certificate(folder / f"{name}.pem")
    return folder


def toa(service: Service, origin: Origin) -> Toa:
    """What is logged of each."""
    if service.has_toa(origin):
        return Toa("syn,ack,data")
    return Toa("-", "off_origin" if origin.proxy is None else "proxy")


def rendered(
    edge: EdgeFile, folder: Path, addresses: Addresses = ADDRESSES, *, ipv6: bool = True
) -> str:
    """Its configuration, with all that it names in its place."""
    files = certificates.read(edge.service) | log_maps(edge.service, toa)
    certificates.put(files, edge.service, folder / "made")
    return configuration(
        edge.service,
        Global(
            edge.haproxy.max_connections or 1000,
            edge.haproxy.threads,
            edge.haproxy.old_connections,
            folder / "runtime.sock",
            folder / "metrics.sock",
            folder / "made",
            edge.access_log.file is not None,
            edge.access_log.syslog,
        ),
        addresses,
        lambda service, origin, _: service.has_toa(origin),
        toa,
        ipv6=ipv6,
    )


@pytest.mark.parametrize("name", EDGES)
def test_texts(name: str, folder: Path) -> None:
    edge = edge_file.parse(EDGES[name].replace("/etc/edge", str(folder)), name)
    text = rendered(edge, folder)
    assert refusal(text, folder) == ""
    shown = text
    for made in sorted((folder / "made").iterdir()):
        shown = shown.replace(made.name, f"DIGEST{made.suffix}")
    shown = shown.replace(str(folder), "/etc/edge")
    assert shown == (EXPECTED / f"{name}.cfg").read_text()


def test_every_expected_text_has_its_edge() -> None:
    assert {file.stem for file in EXPECTED.glob("*.cfg")} == set(EDGES)


def test_without_ipv6_nothing_is_mapped(folder: Path) -> None:
    edge = edge_file.parse(EDGES["names"], "names")
    text = rendered(edge, folder, ipv6=False)
    assert "::ffff:" not in text.replace("regsub(^::ffff:,)", "")
    assert "source 0.0.0.0:0 usesrc client" in text
    assert refusal(text, folder) == ""


def test_hundreds_of_networks_names_and_certificates(folder: Path) -> None:
    pairs = []
    for number in range(100):
        copy = folder / f"copy-{number}.pem"
        copy.write_bytes((folder / "a.pem").read_bytes())
        pairs.append({"certificate": str(copy)})
    networks = [f"10.{number}.0.0/16" for number in range(250)]
    names = [f"*.a{number}.example" for number in range(250)]
    edge = one(
        protocol="tls", tls={"certificates": pairs}, server_names=names,
        allow=networks, deny=networks, proxy_from=networks,
    )  # fmt: skip
    assert refusal(rendered(edge, folder), folder) == ""


@pytest.mark.parametrize("name", ["if", "unless", "-f", "-", ".", "GLOBAL", "default", "none", "0"])
def test_odd_names(name: str, folder: Path) -> None:
    edge = one(name=name, protocol="tls", tls=tls(folder, "a"), server_names=["if", "*.unless"])
    assert refusal(rendered(edge, folder), folder) == ""


def one(**given: Any) -> EdgeFile:
    service = {"name": "a", "listen": ["0.0.0.0:80"], "origin": [{"address": "192.0.2.7"}]}
    return msgspec.convert({"service": [{**service, **given}]}, EdgeFile)


def tls(folder: Path, *names: str) -> dict[str, Any]:
    return {"certificates": [{"certificate": str(folder / f"{name}.pem")} for name in names]}


def test_the_same_listen_written_differently_is_one_frontend(folder: Path) -> None:
    services = tuple(
        msgspec.convert(
            {
                "name": name,
                "listen": listen,
                "origin": [{"address": "192.0.2.7"}],
                "protocol": "tls",
                "tls": tls(folder, name),
                "server_names": [f"{name}.example"],
            },
            Service,
        )
        for name, listen in {
            "a": ["[::]:443", "0.0.0.0:443"],
            "b": ["0.0.0.0:0443", "[0::]:443"],
        }.items()
    )
    assert [frontend_name(members) for members in frontends(services)] == ["a:b"]


durations = st.sampled_from(["1ms", "9999999ms", "999999s", "9999m", "499h", "24d", "5s"])
counts = st.none() | st.sampled_from([1, 100, 10_000_000])
networks = st.lists(
    st.sampled_from(["192.0.2.7", "10.0.0.0/8", "2001:db8::/32", "::1", "192.0.2.0/0.0.0.255"]),
    max_size=3,
)
labels = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,8}[A-Za-z0-9_]", fullmatch=True)
hosts = st.lists(labels, min_size=1, max_size=3).map(".".join).filter(
    lambda name: not name.replace(".", "").isdigit()
)  # fmt: skip


def table(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Any of the fields, and those without a default."""
    return st.fixed_dictionaries({}, optional=fields).map(
        lambda found: {key: value for key, value in found.items() if value is not None}
    )


@st.composite
def origins(draw: st.DrawFn, folder: Path) -> dict[str, Any]:
    origin = draw(
        table(
            port=st.integers(1, 65535), weight=st.integers(0, 256), backup=st.booleans(),
            state=st.sampled_from(["active", "drain", "maintenance"]), max_connections=counts,
        )
    )  # fmt: skip
    origin["address"] = draw(
        st.one_of(
            hosts, st.sampled_from(["app.example", "six.example", "192.0.2.7", "2001:db8::7"])
        )
    )
    origin |= draw(
        st.sampled_from([{}, {"toa": True}, {"toa": False}, {"proxy": "v1"}, {"proxy": "v2"}])
    )
    own: dict[str, Any] = {"certificate": str(folder / "a.pem"), "key": str(folder / "a.pem.key")}
    ways: list[dict[str, Any]] = [{}, {"ca": str(folder / "a.pem")}, {"verify": False}, own]
    secured = draw(st.sampled_from(ways) | st.none())
    if secured is not None:
        origin["tls"] = {**secured, "server_name": draw(hosts)}
    return origin


@st.composite
def edges(draw: st.DrawFn, folder: Path) -> EdgeFile:
    services = []
    for number in range(draw(st.integers(1, 3))):
        port = 8000 + 10 * number
        service = draw(
            table(
                algorithm=st.sampled_from(["roundrobin", "leastconn", "source", "random"]),
                check=table(enabled=st.booleans(), interval=durations, rise=st.integers(1, 100)),
                connect_timeout=durations, idle_timeout=durations, max_connections=counts,
                max_connections_per_client=counts, new_connections_per_client=counts,
                allow=networks, deny=networks, proxy_from=networks, toa=st.booleans(),
            )
        )  # fmt: skip
        service["name"] = f"{number}" + draw(st.from_regex(r"[A-Za-z0-9_.-]{0,20}", fullmatch=True))
        service["listen"] = draw(
            st.lists(
                st.sampled_from(
                    [f"0.0.0.0:{port}", f"[::]:{port}", f"[::1]:{port + 1}-{port + 3}"]
                ),
                min_size=1,
                unique=True,
            )
        )
        service["origin"] = draw(
            st.lists(origins(folder), min_size=1, max_size=4,
                     unique_by=lambda origin: (origin["address"], origin.get("port")))
        )  # fmt: skip
        if draw(st.booleans()):
            service["protocol"] = "tls"
            both = {"certificate": str(folder / "b.pem"), "key": str(folder / "b.pem.key")}
            service["tls"] = {
                **draw(
                    table(
                        min_version=st.sampled_from(["1.2", "1.3"]),
                        ciphers=st.just("ECDHE+AESGCM:!aNULL"),
                        ciphersuites=st.just("TLS_AES_128_GCM_SHA256"),
                        client_ca=st.just(str(folder / "a.pem")),
                    )
                ),
                "certificates": [
                    *tls(folder, "a")["certificates"],
                    *draw(st.sampled_from([[], [both]])),
                ],
            }
            wild = st.tuples(st.sampled_from(["", "*."]), hosts).map("".join)
            service["server_names"] = draw(st.lists(wild, max_size=3))
        services.append(service)
    file = {
        "service": services,
        "haproxy": draw(
            table(max_connections=counts, threads=st.integers(1, 64), old_connections=durations)
        ),
        "access_log": draw(
            table(
                file=st.just("/var/log/a"),
                syslog=st.sampled_from(["/dev/log", "192.0.2.5:514", "[::1]:514"]),
            )
        ),
    }  # fmt: skip
    return msgspec.convert(file, EdgeFile)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_haproxy_takes_whatever_can_be_meant(folder: Path, data: st.DataObject) -> None:
    edge = data.draw(edges(folder))
    text = rendered(edge, folder, ipv6=data.draw(st.booleans()))
    assert refusal(text, folder) == "", text
