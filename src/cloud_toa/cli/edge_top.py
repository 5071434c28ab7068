# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa edge top``: what passes through a running edge, drawn again every second."""

import argparse
import shutil
import sys
import time
from typing import Any

from cloud_toa.cli.report import Subparsers
from cloud_toa.errors import ToaError

_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_OTHER_SCREEN, _OWN_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_UNITS = ("", "k", "M", "G", "T")
_COUNTERS = ("connections", "syn", "ack", "data", "no_room", "syn_without", "queued", "written")
"""Of the sender, those of either datapath that tell how it does."""


def add(actions: Subparsers) -> None:
    """Add ``edge top``."""
    top = actions.add_parser(
        "top", help="services, origins, connections and bytes of a running edge, live"
    )
    top.add_argument(
        "--interval", type=float, default=1.0, metavar="SECONDS", help="between two (default 1)"
    )
    top.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    # Here, as other commands shall not wait for what only this one needs.
    from cloud_toa.node import status  # noqa: PLC0415

    if not sys.stdout.isatty():
        raise ToaError("edge top draws on a terminal: take 'edge status --json' here")
    if not 0.1 <= arguments.interval <= 3600:
        raise ToaError(f"--interval {arguments.interval}: write 0.1 to 3600 seconds")
    sys.stdout.write(_OTHER_SCREEN)
    try:
        before: dict[str, Any] | None = None
        at = 0.0
        while True:
            now, passed = status.everything(), time.monotonic()
            if now is None:
                raise ToaError("no 'cloud-toa edge run' is at work here")
            size = shutil.get_terminal_size()
            lines = frame(now, before, passed - at)[: size.lines - 1]
            text = "".join(f"{line[: size.columns]}{_CLEAR_LINE}\n" for line in lines)
            sys.stdout.write(_HOME + text + _CLEAR_BELOW)
            sys.stdout.flush()
            before, at = now, passed
            time.sleep(arguments.interval)  # the picture stands
    finally:
        sys.stdout.write(_OWN_SCREEN)
        sys.stdout.flush()


def frame(now: dict[str, Any], before: dict[str, Any] | None, seconds: float) -> list[str]:
    """The lines of one picture: what `status.everything` says now, and said ``seconds`` ago."""
    edge, counters = now["edge"], now["counters"]
    former = before["counters"] if before else {}
    counts = (
        f"{name} {counters[name]} (+{_rate(counters[name], former.get(name), seconds)}/s)"
        for name in _COUNTERS
        if name in counters
    )
    processes = f"node {edge['pid']}   HAProxy {edge['haproxy']}"
    lines = [
        f"cloud-toa edge   datapath {now['datapath']}   {processes}",
        f"TOA  {'   '.join(counts)}",
    ]
    if edge["refused"]:
        lines.append(f"settings refused: {edge['refused']}")
    lines += ["", _line("SERVICE, ORIGIN", "STATE", "NOW", "NEW/S", "FAILED", "FROM B/S", "TO B/S")]
    if edge["services"] is None:
        return [*lines, "HAProxy does not answer"]
    past = {
        (service["name"], each["name"]): each
        for service in (before and before["edge"]["services"]) or []
        for each in (service, *service["origins"])
    }
    for service in edge["services"]:
        for each in (service, *service["origins"]):
            own = each is service
            was = past.get((service["name"], each["name"]), {})
            lines.append(
                _line(
                    each["name"] if own else f"  {each['name']}",
                    "" if own else each["state"],
                    str(each["connections"]),
                    _rate(each["total"], was.get("total"), seconds),
                    str(each["refused"] if own else each["failed"]),
                    *(
                        _rate(each[name], was.get(name), seconds)
                        for name in ("bytes_from_clients", "bytes_to_clients")
                    ),
                )
            )
    return lines


def _line(name: str, state: str, *numbers: str) -> str:
    return f"{name:<34} {state:<15}" + "".join(f"{number:>10}" for number in numbers)


def _rate(now: int, before: int | None, seconds: float) -> str:
    """By second, short. A count that began anew, as after a reload, has passed since then."""
    if before is None or seconds <= 0:
        return "-"
    rate = (now - before if now >= before else now) / seconds
    unit = 0
    while rate >= 1000 and unit < len(_UNITS) - 1:
        rate /= 1000
        unit += 1
    return f"{rate:.0f}{_UNITS[unit]}" if unit == 0 or rate >= 100 else f"{rate:.1f}{_UNITS[unit]}"
