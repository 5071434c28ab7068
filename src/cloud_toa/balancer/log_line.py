# SPDX-License-Identifier: Apache-2.0
"""What HAProxy logs of a connection: a line of JSON. Pure.

``toa`` is which packets carried the option, ``toa_why_not`` why others did not. HAProxy knows
what the settings say, as long as its process lives: so a connection keeps what held when it
began. What became of it otherwise is for `corrections` to put in.

Source: HAProxy 2.6, configuration manual, sections 7.3 and 8.2.4.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

LENGTH = 4096
"""Bytes that HAProxy may make it: all of them fit, and so much is put into a pipe as one."""


@dataclass(frozen=True)
class Toa:
    """What the settings say of a connection to an origin."""

    where: str
    """The packets that carry the option, as `config.Where` writes them; ``-`` is none."""
    why_not: str = "-"


Origins = Mapping[tuple[str, str], Toa]
"""Those of services that share their ports, by the names of service and origin."""


def map_name(origins: Origins) -> str | None:
    """The file in which HAProxy finds what these differ in; None where they don't."""
    if len(set(origins.values())) < 2:
        return None
    return sha256(map_text(origins).encode()).hexdigest()[:32] + ".map"


def map_text(origins: Origins) -> str:
    """That file."""
    return "".join(
        f"/{service}/{origin} {toa.where};{toa.why_not}\n"
        for (service, origin), toa in origins.items()
    )


def log_format(
    error: str, origins: Origins, folder: Path, *, mapped: bool, parted: bool = False
) -> str:
    """In HAProxy's quotes. What did not come about is ``-``, and -1 where it is a time.

    Args:
        error: what HAProxy is asked for to name the error: of the origin's side, or, where
            it did not get beyond TLS or PROXY protocol, of the client's.
        origins: where connections may go; empty where they got nowhere.
        folder: where `map_name` is.
        mapped: whether IPv4 is ``::ffff:a.b.c.d``.
        parted: whether a service may have several backends (`families`).
    """
    # Frontends of several services have one colon between two.
    service = "be_name,regsub(::.*,)" if parted else "be_name"

    def address(fetch: str, alias: str) -> str:
        return f"%[{fetch},regsub(^::ffff:,)]" if mapped else f"%{alias}"

    keep_service, keep_origin, where, why_not = _toa(origins, folder)
    texts = {
        "time": "%[date,utime(%Y-%m-%dT%H:%M:%SZ)]",
        "service": f"%[{service}{keep_service}]" if keep_service or parted else "%b",
        "origin": f"%[srv_name{keep_origin}]",
        "listener": address("dst", "fi"),
        "listener_port": "%fp",
        # From here on in an order that `corrections` relies on.
        "client": address("src", "ci"),
        "client_port": "%cp",
        "origin_address": address("bc_dst", "si"),
        "origin_port": "%sp",
        "toa": where,
        "toa_why_not": why_not,
        "server_name": "%[ssl_fc_sni,json(utf8s)]",
        "end": "%ts",
        "error": f"%[{error},regsub(^Success,-)]",
    }
    numbers = {
        "bytes_from_client": "%U",
        "bytes_to_client": "%B",
        "ms_queued": "%Tw",
        "ms_to_connect": "%Tc",
        "ms": "%Tt",
    }
    fields = [f'"{name}":"{value}"' for name, value in texts.items()]
    fields += [f'"{name}":{value}' for name, value in numbers.items()]
    line = "{" + ",".join(fields) + "}"
    return '"' + line.replace('"', '\\"') + '"'


def _toa(origins: Origins, folder: Path) -> tuple[str, str, str, str]:
    """What keeps the service and origin for later, and the two fields.

    They begin with bc_err: it is 0 where the connection was made, and else another number or
    not there.
    """
    if not origins:
        return "", "", "-", "-"
    name = map_name(origins)
    if name is None:
        only = next(iter(origins.values()))
        where, why_not = (f"bc_err,iif(-,'{text}')" for text in (only.where, only.why_not))
        return "", "", f"%[{where}]", f"%[{why_not}]"
    key = f"bc_err,iif(-,/),concat(,txn.service,/),concat(,txn.origin),map_str({folder}/{name})"
    where, why_not = (f"{key},field({number},;)" for number in (1, 2))
    return ",set-var(txn.service)", ",set-var(txn.origin)", f"%[{where}]", f"%[{why_not}]"
