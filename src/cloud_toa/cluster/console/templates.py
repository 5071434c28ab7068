# SPDX-License-Identifier: Apache-2.0
"""The templates, and how they write numbers and times. Times are UTC: nodes may be anywhere."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context

from cloud_toa.cluster.console import static
from cloud_toa.cluster.model.nodes import View
from cloud_toa.cluster.model.protocol import Status

_SIZES = ("B", "kB", "MB", "GB", "TB", "PB")
_FAILED = {"bpf": ("unusable", "no_memory"), "queue": ("errors",)}
"""Counters of what should have had TOA, and could not."""


@cache
def environment() -> Environment:
    """The templates of this package."""
    made = Environment(
        loader=PackageLoader("cloud_toa.cluster.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["static"] = static.url
    made.filters.update(
        ago=_ago,
        bytes=lambda value: f"{size(value)}/s",
        counters=_counters,
        current=_current,
        first_part=lambda name: name.partition(".")[0],
        iso=lambda at: datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds"),
        moment=_moment,
        number=_number,
        path=lambda name: quote(name, safe=""),
        percent=lambda share: f"{share * 100:.1f} %",
        rate=lambda value: f"{value:,.1f}/s",
        size=size,
        toa=_toa,
        under=_under,
        utc=_utc,
    )
    return made


def size(value: float) -> str:
    """Bytes, with three figures and a unit by thousands."""
    for unit in _SIZES:
        if value < 999.5 or unit == _SIZES[-1]:
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" or value >= 99.95 else f"{value:.1f} {unit}"


def _number(value: int) -> str:
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _utc(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _moment(at: float) -> str:
    """For logs, where each line has one."""
    return f"{datetime.fromtimestamp(at, UTC):%m-%d %H:%M:%S}"


@pass_context
def _ago(context: Context, at: float) -> str:
    t = context["t"]
    seconds = max(0, int(time.time() - at))
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return str(t(f"ago.{unit}", count=seconds // length))
    return str(t("ago.seconds", count=seconds))


def _under(prefix: str, wrong: Mapping[str, list[str]]) -> list[str]:
    """The messages of what lies within a field."""
    return [message for name, all_ in wrong.items() if name.startswith(prefix) for message in all_]


def _counters(counters: Mapping[str, int]) -> list[tuple[str, int]]:
    """Those that have counted something, in the sender's order."""
    return [(name, count) for name, count in counters.items() if count]


def _toa(status: Status) -> tuple[int, int, int]:
    """Written, no room, failed: connections by eBPF, packets by the queue."""
    counters, failed = status.counters, _FAILED.get(status.datapath, ())
    no_room = counters.get("no_room", 0)
    by_queue = status.datapath == "queue"
    written = counters.get("written", 0) if by_queue else counters.get("connections", 0) - no_room
    return written, no_room, sum(counters.get(name, 0) for name in failed)


def _current(node: View) -> int:
    """Connections that a node has now."""
    services = node.status.services if node.status else {}
    return sum(counts.current for name, counts in services.items() if name)
