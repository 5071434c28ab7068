# SPDX-License-Identifier: Apache-2.0
"""How much passes through HAProxy, by service and origin, as its worker counts it.

Counts begin anew with each reload; connections that go on in an old worker are not among
them.

Source: HAProxy 2.6, management guide, section 9.1 (CSV format).
"""

import csv
from dataclasses import dataclass, field
from pathlib import Path

from cloud_toa.balancer import runtime

_INTERNAL = "cloud-toa."


@dataclass(frozen=True)
class Origin:
    """An origin of a service; ``state`` is HAProxy's word, such as UP, DOWN, MAINT, DRAIN."""

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
    for row in rows:
        if row["svname"] in ("FRONTEND", "BACKEND"):
            continue
        service = next(
            (each for name, each in found.items() if row["pxname"] in name.split(":")), None
        )
        if service is not None:
            service.origins.append(_origin(row))
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
    return [
        Service(
            row["pxname"],
            _number(row, "scur"),
            _number(row, "stot"),
            _number(row, "rate"),
            refused.get(row["pxname"], 0),
            _number(row, "bin"),
            _number(row, "bout"),
            [
                _origin(each)
                for each in rows
                if each["pxname"] == row["pxname"] and each["svname"] not in ("FRONTEND", "BACKEND")
            ],
        )
        for row in rows
        if row["svname"] == "BACKEND" and not row["pxname"].startswith((_INTERNAL, "<", "MASTER"))
    ]


def _origin(row: dict[str, str]) -> Origin:
    return Origin(
        row["svname"],
        row["status"],
        _number(row, "weight"),
        _number(row, "scur"),
        _number(row, "stot"),
        _number(row, "econ"),
        _number(row, "bin"),
        _number(row, "bout"),
    )


def _number(row: dict[str, str], key: str) -> int:
    return int(row.get(key) or 0)
