# SPDX-License-Identifier: Apache-2.0
"""The command line: one file per verb, each with ``add`` (its arguments) and ``run``.

Exit codes: 0 done, 1 what was asked about is not as it should be, 2 refused (a line on
standard error for each thing that is wrong says what and the remedy, and nothing was changed).
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from cloud_toa.errors import ToaError

VERBS = (
    "edge", "origin", "node", "cluster", "console", "config", "run", "decode", "doctor", "demo",
)  # fmt: skip
"""Modules here. One is imported when it is asked for, as all of them take a fifth of a second."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        """Refuse in one line, as every other refusal is."""
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help)\n")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """Show it."""
        # Here, as it takes a tenth of every other command's start.
        from importlib.metadata import version  # noqa: PLC0415

        print(f"cloud-toa {version('cloud-toa')}")
        parser.exit()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; answer its exit code."""
    parser = _Parser(
        prog="cloud-toa",
        description="A server behind a TCP/TLS load balancer sees the real client's address.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    words = sys.argv[1:] if arguments is None else arguments
    for verb in set(words[:1]).intersection(VERBS) or VERBS:
        import_module(f"{__name__}.{verb}").add(verbs)
    parsed = parser.parse_args(words)
    try:
        return int(parsed.run(parsed))
    except ToaError as error:
        for line in error.lines:
            print(f"cloud-toa: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader, such as head, has seen enough. What is still buffered goes nowhere, else
        # Python would complain of it at the end, and exit with 120.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
