# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa demo``: the main job on real traffic, on this machine, leaving nothing behind."""

import argparse
import asyncio
import json
import signal
import sys
from types import FrameType

from cloud_toa.cli.report import Subparsers
from cloud_toa.demo.run import Result, demonstrate
from cloud_toa.errors import ToaError
from cloud_toa.isolation import isolate

_ENDS = (signal.SIGINT, signal.SIGTERM)


def add(verbs: Subparsers) -> None:
    """Add ``demo``."""
    parser = verbs.add_parser(
        "demo",
        help="show the main job on real traffic, here",
        description="Build clients, an edge and an origin in network namespaces, connect through "
        "a real HAProxy and a real nginx to a real nginx and a Python server, without TOA and "
        "with it, and print what the servers saw. Nothing of the host is changed.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    parser.add_argument(
        "--console",
        action="store_true",
        help="a cluster instead: its web console, a node and an origin, until Ctrl-C",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=7788,
        help="of this host's loopback, where the console is (default 7788)",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    # A service manager's stop cleans up as Ctrl-C does.
    for number in _ENDS:
        signal.signal(number, _end)
    if arguments.console:
        return _show_console(arguments.port)
    isolate()
    results = list(demonstrate(_quiet if arguments.json else _say))
    print(json.dumps([_row(result) for result in results]) if arguments.json else _table(results))
    return 0 if all(result.right for result in results) else 1


def _show_console(port: int) -> int:
    if not 0 < port < 65536:
        raise ToaError(f"--port {port}: write 1 to 65535")
    try:
        from cloud_toa.demo import console  # noqa: PLC0415  (needs the cluster's packages)
    except ImportError as error:
        raise ToaError(f"{error.name} is not installed: pip install 'cloud-toa[cluster]'") from None
    isolate()

    async def until_the_end() -> None:
        task = asyncio.current_task()
        assert task is not None
        for number in _ENDS:
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await console.show(port, _say, _ready)

    try:
        asyncio.run(until_the_end())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    return 0


def _ready(link: str) -> None:
    print(
        f"Open this once, and switch TOA on under Cluster settings, TOA; Ctrl-C ends all:\n{link}",
        flush=True,
    )


def _end(_number: int, _frame: FrameType | None) -> None:
    # Whoever presses Ctrl-C again is not to stop the cleaning up.
    for number in _ENDS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _say(step: str) -> None:
    print(f"- {step}", flush=True)


def _quiet(_step: str) -> None:
    sys.stdout.flush()


def _row(result: Result) -> dict[str, str]:
    return {
        "lb": result.case.balancer,
        "origin": result.case.origin,
        "client_family": f"v{result.case.client_family}",
        "origin_family": f"v{result.case.origin_family}",
        "client": result.client,
        "seen_without": result.seen_without,
        "seen_with": result.seen_with,
    }


def _table(results: list[Result]) -> str:
    rows = [("load balancer", "server", "way", "client", "server saw", "with TOA it saw", "")]
    for result in results:
        case = result.case
        rows.append(
            (
                case.balancer,
                case.origin,
                f"v{case.client_family} > v{case.origin_family}",
                result.client,
                result.seen_without,
                result.seen_with,
                "ok" if result.right else "WRONG",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    right = sum(result.right for result in results)
    return "\n".join(
        ["", *lines, "", f"{right} of {len(results)} servers saw the real client with TOA."]
    )
