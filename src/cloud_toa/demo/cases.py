# SPDX-License-Identifier: Apache-2.0
"""Which connections the demo makes, and how load balancers and origins are told."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from cloud_toa.demo.lab import EDGE, ORIGIN

BALANCERS = ("haproxy", "nginx")
ORIGINS = ("nginx", "python")
_STREAM_MODULES = (
    Path("/usr/lib/nginx/modules/ngx_stream_module.so"),
    Path("/usr/lib64/nginx/modules/ngx_stream_module.so"),
)


@dataclass(frozen=True)
class Case:
    """One way from a client to a server; families are IP versions, 4 or 6."""

    balancer: str
    origin: str
    client_family: int
    origin_family: int

    @property
    def client(self) -> str:
        """A client's address of that family, the same in every case."""
        return "203.0.113.7" if self.client_family == 4 else "2001:db8:1::7"

    @property
    def server_port(self) -> int:
        """An IPv6 client on an IPv4 origin shows on a dual-stack listener only."""
        dual_stack = self.client_family == 6 and self.origin_family == 4
        return {"nginx": 8000, "python": 9000}[self.origin] + dual_stack


def cases() -> list[Case]:
    """Every load balancer with every origin and every pair of families."""
    return [Case(*case) for case in product(BALANCERS, ORIGINS, (4, 6), (4, 6))]


def port(case: Case, toa: bool) -> int:
    """The port where the edge listens for a case, without or with a transparent source."""
    return (20000 if toa else 10000) + cases().index(case)


def balancer(name: str, folder: Path) -> Sequence[str]:
    """Write a load balancer's configuration for all its cases; answer its command."""
    mine = [case for case in cases() if case.balancer == name]
    config = folder / f"edge-{name}.conf"
    if name == "haproxy":
        config.write_text("\n".join([*_haproxy(mine), ""]))
        return ["haproxy", "-db", "-f", str(config)]
    config.write_text("\n".join([*_nginx_head(folder / name), "stream {", *_stream(mine), "}"]))
    return ["nginx", "-c", str(config)]


def server(name: str, folder: Path) -> tuple[Sequence[str], Path]:
    """Write an origin's configuration; answer its command and its own access log."""
    log = folder / f"origin-{name}.log"
    if name == "python":
        script = Path(__file__).with_name("python_server.py")
        return [sys.executable, str(script), str(log)], log
    config = folder / f"origin-{name}.conf"
    config.write_text(
        "\n".join(
            [
                *_nginx_head(folder / "origin"),
                "http {",
                "  log_format peer '$remote_addr $remote_port $request_uri';",
                f"  access_log {log} peer;",
                "  server {",
                "    listen 0.0.0.0:8000; listen [::]:8000 ipv6only=on;",
                "    listen [::]:8001 ipv6only=off;",
                "    location / { return 204; }",
                "  }",
                "}",
            ]
        )
    )
    return ["nginx", "-c", str(config)], log


def listens(name: str) -> list[tuple[str, int]]:
    """Where an origin listens once it is ready."""
    first = {"nginx": 8000, "python": 9000}[name]
    return [("0.0.0.0", first), ("::", first), ("::", first + 1)]  # noqa: S104


def _haproxy(mine: Iterable[Case]) -> Iterable[str]:
    yield "defaults"
    yield "  mode tcp"
    yield "  timeout connect 10s"
    yield "  timeout client 30s"
    yield "  timeout server 30s"
    for case, toa in product(mine, (False, True)):
        same = case.client_family == case.origin_family
        any_source = "0.0.0.0" if same and case.client_family == 4 else ":::0"  # noqa: S104
        yield f"listen {port(case, toa)}"
        yield f"  bind {_listen(case)}:{port(case, toa)}{'' if same else ' v4v6'}"
        if toa:
            yield f"  source {any_source} usesrc client"
        yield f"  server origin {_origin(case, brackets=False)}:{case.server_port}"


def _nginx_head(folder: Path) -> Iterable[str]:
    folder.mkdir(exist_ok=True)
    yield from (f"load_module {path};" for path in _STREAM_MODULES if path.exists())
    yield f"daemon off; master_process off; error_log stderr; pid {folder}/pid;"
    yield "events { worker_connections 1024; }"


def _stream(mine: Iterable[Case]) -> Iterable[str]:
    for case, toa in product(mine, (False, True)):
        same = case.client_family == case.origin_family
        plain = same and case.client_family == 4
        dual = "" if same else " ipv6only=off"
        listen = _listen(case) if plain else f"[{_listen(case)}]"
        client = "$remote_addr" if plain else "[$remote_addr]"
        bind = f"proxy_bind {client}:$remote_port transparent;" if toa else ""
        yield f"  server {{ listen {listen}:{port(case, toa)}{dual}; {bind}"
        yield f"    proxy_pass {_origin(case, brackets=True)}:{case.server_port}; }}"


def _listen(case: Case) -> str:
    # Between the families, IPv6 sockets throughout: IPv4 is ::ffff:a.b.c.d on them.
    return EDGE[case.client_family] if case.client_family == case.origin_family else "::"


def _origin(case: Case, brackets: bool) -> str:
    address = ORIGIN[case.origin_family]
    if case.origin_family == 4:
        if case.client_family == 4:
            return address
        address = f"::ffff:{address}"
    return f"[{address}]" if brackets else address
