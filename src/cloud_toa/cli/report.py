# SPDX-License-Identifier: Apache-2.0
"""How the command line says what was done and how things stand, edge and origin alike."""

import argparse
import json
import os
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cloud_toa.bpf import cgroup
from cloud_toa.bpf.attachment import Outcome
from cloud_toa.bpf.libbpf import ProgramInfo
from cloud_toa.bpf.others import Other
from cloud_toa.bpf.pinned import Removed

Subparsers = Any
"""What ``add_subparsers`` returns; argparse has no public name for it."""


def add_cgroups(parser: argparse.ArgumentParser) -> None:
    """Add ``--cgroup`` for detaching from some instead of all."""
    parser.add_argument(
        "--cgroup", action="append", metavar="PATH_OR_UNIT", help="only this one (repeatable)"
    )


def add_kinds(parser: argparse.ArgumentParser) -> None:
    """Add the option kinds that a receiver accepts."""
    for layout, default, what in (
        ("v4", "254", "IPv4 clients"),
        ("v6", "254", "IPv6 clients"),
        ("client-ip", "", "addresses without a port, such as 28"),
    ):
        parser.add_argument(
            f"--kinds-{layout}",
            default=default,
            metavar="KINDS",
            help=f"option kinds for {what}, comma-separated (default {default or 'none'})",
        )


_CONTAINER = re.compile(r"(^|[/-])[0-9a-f]{64}(\.scope)?/?$")
"""A cgroup's name as Docker, containerd, Podman and Kubernetes make it from a container's id."""

_AGAIN = {
    "edge": "A load balancer there connects from its clients' own addresses, which hangs.",
    "origin": "A server there sees the edge.",
}


def cgroups(arguments: argparse.Namespace) -> list[Path] | None:
    """The cgroups that ``--cgroup`` names, or None for all."""
    if arguments.cgroup is None:
        return None
    return [cgroup.resolve(name) for name in arguments.cgroup]


def outcome(datapath: str, changed: Outcome, asked: Sequence[Path]) -> None:
    """Say what an attach has changed."""
    for path in changed.attached:
        print(f"{datapath}: attached to {path}")
    if changed.replaced:
        print(f"{datapath}: running programs replaced by ones with these settings, everywhere")
    if not changed:
        print(f"{datapath}: already attached so, nothing changed: {' '.join(map(str, asked))}")


def unit_hint(names: Iterable[str]) -> None:
    """A unit or container gets a new cgroup at each start: say how to be attached then too."""
    if "INVOCATION_ID" in os.environ:
        return  # systemd runs us: somebody knows
    for name in names:
        if _CONTAINER.search(name):
            print(
                f"{name} is a container's cgroup, and it gets a new one each time it starts: "
                "attach to the slice or parent above it"
            )
        if name.endswith(".service") and "/" not in name:
            command = shlex.join([str(Path(sys.argv[0]).absolute()), *sys.argv[1:]])
            print(
                f"{name} gets a new cgroup each time it starts; to attach that too, put\n"
                f"  [Service]\n"
                f"  ExecStartPre=+{command}\n"
                f"into it: systemctl edit {name}"
            )


def detached(datapath: str, gone: Sequence[Path | None]) -> None:
    """Say what a detach has changed."""
    for path in gone:
        print(f"{datapath}: detached from {path or 'a cgroup that was removed'}")
    if not gone:
        print(f"{datapath}: was not attached, nothing changed")


def not_attached(datapath: str, as_json: bool) -> int:
    """Say that a datapath is off; answer the exit code 1."""
    print(json.dumps({"attached": False}) if as_json else f"{datapath}: not attached")
    return 1


def status(
    settings: dict[str, Any],
    places: Sequence[Path | None],
    counters: dict[str, int],
    programs: Sequence[ProgramInfo],
    *,
    removed: Sequence[Removed],
    beside: Sequence[Other] = (),
) -> dict[str, Any]:
    """A datapath's state as ``status --json`` prints it; run times in nanoseconds."""
    return {
        "attached": True,
        "settings": settings,
        "cgroups": [str(path) if path else None for path in places],
        "removed": [
            {"path": str(each.path) if each.path else None, "again": each.again} for each in removed
        ],
        "counters": counters,
        "programs": [
            {"name": info.name, "runs": info.run_cnt, "run_time_ns": info.run_time_ns}
            for info in programs
        ],
        "others": [
            {**asdict(other), "cgroup": str(other.cgroup) if other.cgroup else None}
            for other in beside
        ],
    }


def text(datapath: str, shown: dict[str, Any], beside: Sequence[Other] = ()) -> str:
    """The same for people."""
    module = shown["datapath"] == "kmod"
    lines = [f"{datapath}: {'by toa.ko, on the whole host' if module else 'attached'}"]
    lines += [f"  {'cgroup':<16} {path}" for path in shown["cgroups"] if path]
    for removed in shown.get("removed", ()):
        lines.append(
            f"  {'cgroup':<16} removed (detach forgets it): {removed['path'] or 'name not known'}"
        )
        if removed["again"]:
            lines.append(
                f"  {'warning':<16} another cgroup has that name now, as after a restart, and no "
                f"programs. {_AGAIN[datapath]} Attach again; to have that not happen, attach to "
                f"a slice or parent above it"
            )
    lines += _settings(shown["settings"])
    lines.append("  counters")
    width = max(14, *map(len, shown["counters"]))
    lines += [f"    {name:<{width}} {value}" for name, value in shown["counters"].items()]
    if module:
        return "\n".join(lines)
    lines.append("  cost")
    if any(program["runs"] for program in shown["programs"]):
        lines += [
            f"    {program['name']:<16} {program['runs']:>10} runs "
            f"{program['run_time_ns'] / max(program['runs'], 1):8.0f} ns each"
            for program in shown["programs"]
        ]
    else:
        lines.append("    not counted: sysctl kernel.bpf_stats_enabled=1 (costs some itself)")
    if beside:
        lines += ["  programs of others", *(f"    {other}" for other in beside)]
    return "\n".join(lines)


def queue_text(shown: dict[str, Any]) -> str:
    """The queue datapath's state for people, a line for each worker."""
    lines = [f"edge: queue datapath, process {shown['pid']}", f"  {'why':<16} {shown['why']}"]
    lines += _settings(shown["settings"])
    lines.append("  counters")
    lines += [f"    {name:<14} {value}" for name, value in shown["counters"].items()]
    lines.append("  workers")
    for worker in shown["workers"]:
        counts = " ".join(f"{name} {value}" for name, value in worker["counters"].items())
        lines.append(
            f"    queue {worker['queue']:<5} process {worker['pid'] or 'none':<8} "
            f"restarts {worker['restarts']:<3} {counts}"
        )
    return "\n".join(lines)


def services_text(running: dict[str, Any]) -> str:
    """What passes through an `edge run`, for people; bytes from clients and to them."""
    source = running["file"] or "the command line"
    lines = [
        f"node: process {running['pid']}, HAProxy {running['haproxy']}, settings from {source}"
    ]
    if running["refused"]:
        lines.append(f"  refused          {running['refused']}")
    if running["services"] is None:
        return "\n".join([*lines, "  HAProxy does not answer"])
    head = ("service, origin", "state", "now", "in all", "failed", "bytes from", "bytes to")
    rows: list[tuple[str, ...]] = [head]
    for service in running["services"]:
        rows.append(_row(service["name"], f"{service['rate']}/s", service, service["refused"]))
        rows += [
            _row(f"  {origin['name']}", origin["state"], origin, origin["failed"])
            for origin in service["origins"]
        ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first, second, *numbers = (
            cell.ljust(width) if at < 2 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  " + "  ".join((first, second, *numbers)))
    return "\n".join(lines)


def _row(name: str, state: str, counts: dict[str, Any], failed: int) -> tuple[str, ...]:
    numbers = (counts["connections"], counts["total"], failed)
    size = (counts["bytes_from_clients"], counts["bytes_to_clients"])
    return name, state, *map(str, (*numbers, *size))


def _settings(settings: dict[str, Any]) -> list[str]:
    lines = []
    for name, value in settings.items():
        if isinstance(value, bool):
            words = "yes" if value else "no"
        else:
            words = (
                ",".join(map(str, value))
                if isinstance(value, list)
                else ""
                if value is None
                else str(value)
            )
        lines.append(f"  {name.replace('_', '-'):<16} {words or 'none'}")
    return lines
