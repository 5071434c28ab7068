# SPDX-License-Identifier: Apache-2.0
"""How much passes through HAProxy, by service and origin, as its worker counts it.

Counts begin anew with each reload; connections that go on in an old worker are not among
them.

Source: HAProxy 2.6, management guide, section 9.1 (CSV format).
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cloud_toa.balancer import runtime
from cloud_toa.balancer.families import split, version_of

_INTERNAL = "cloud-toa."


@dataclass(frozen=True)
class Origin:
    """An origin of a service; ``state`` is HAProxy's word, such as UP, DOWN, MAINT, DRAIN.

    Of one with an address of each IP version, it is ``UP (IPv6 DOWN)`` where these differ.
    """

    name: str
    state: str
    weight: int
    connections: int
    total: int
    failed: int
    """Connections to it that did not come about."""
    bytes_from_clients: int
    bytes_to_clients: int


@dataclass(frozen=True)
class Service:
    """A service, or what clients of several that share their ports have in common."""

    name: str
    connections: int
    """Now."""
    total: int
    rate: int
    """New ones in the last second."""
    refused: int
    """Clients that were turned away: not allowed, or too many."""
    bytes_from_clients: int
    bytes_to_clients: int
    origins: list[Origin] = field(default_factory=list)


async def read(socket: Path) -> list[Service]:
    """Ask the worker; ``socket`` is that of its runtime API.

    Raises:
        ToaError: it does not answer.
    """
    return parse(await runtime.ask(socket, "show stat"))


def parse(text: str) -> list[Service]:
    """What ``show stat`` says; pure."""
    rows = list(csv.DictReader(text.lstrip("# ").splitlines()))
    found: dict[str, Service] = {}
    for row in rows:
        name = row["pxname"]
        if row["svname"] != "FRONTEND" or name.startswith((_INTERNAL, "<", "MASTER")):
            continue
        found[name] = Service(
            name,
            _number(row, "scur"),
            _number(row, "stot"),
            _number(row, "rate"),
            _number(row, "dreq") + _number(row, "dcon") + _number(row, "dses"),
            _number(row, "bin"),
            _number(row, "bout"),
        )
    for backend, origins in _origins(rows).items():
        service = next((each for name, each in found.items() if backend in name.split(":")), None)
        if service is not None:
            service.origins.extend(origins)
    return list(found.values())


def by_service(text: str) -> list[Service]:
    """Each service for itself, also of those that share their ports; pure.

    Clients that are turned away before it is known which of these they want are counted for the
    first of them.
    """
    rows = list(csv.DictReader(text.lstrip("# ").splitlines()))
    refused = {
        row["pxname"].partition(":")[0]: sum(_number(row, key) for key in ("dreq", "dcon", "dses"))
        for row in rows
        if row["svname"] == "FRONTEND"
    }
    origins = _origins(rows)
    found: dict[str, Service] = {}
    for row in rows:
        name, _ = split(row["pxname"])
        if row["svname"] != "BACKEND" or name.startswith((_INTERNAL, "<", "MASTER")):
            continue
        others = found.get(name)
        counts = (
            _number(row, "scur") + (others.connections if others else 0),
            _number(row, "stot") + (others.total if others else 0),
            _number(row, "rate") + (others.rate if others else 0),
            refused.get(name, 0),
            _number(row, "bin") + (others.bytes_from_clients if others else 0),
            _number(row, "bout") + (others.bytes_to_clients if others else 0),
        )
        found[name] = Service(name, *counts, origins.get(name, []))
    return list(found.values())


def _origins(rows: Iterable[dict[str, str]]) -> dict[str, list[Origin]]:
    """By service; each once, of however many of its backends it is."""
    found: dict[str, dict[str, list[dict[str, str]]]] = {}
    for row in rows:
        if row["svname"] not in ("FRONTEND", "BACKEND"):
            service, _ = split(row["pxname"])
            found.setdefault(service, {}).setdefault(row["svname"], []).append(row)
    return {
        service: [_origin(name, each) for name, each in origins.items()]
        for service, origins in found.items()
    }


def _origin(name: str, rows: list[dict[str, str]]) -> Origin:
    def total(key: str) -> int:
        return sum(_number(row, key) for row in rows)

    return Origin(
        name,
        _state(rows),
        _number(rows[0], "weight"),
        total("scur"),
        total("stot"),
        total("econ"),
        total("bin"),
        total("bout"),
    )


def _state(rows: list[dict[str, str]]) -> str:
    # Where one is up, so is the origin.
    best, *others = sorted(rows, key=lambda row: not row["status"].startswith(("UP", "no check")))
    differ = [each for each in others if each["status"] != best["status"]]
    more = [f"IPv{version_of(each['pxname'])} {each['status']}" for each in differ]
    return " ".join([best["status"], *(f"({each})" for each in more)])


def _number(row: dict[str, str], key: str) -> int:
    return int(row.get(key) or 0)
