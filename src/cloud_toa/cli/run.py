# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa run``: an edge in one process, set up by itself, as users of such products know it.

Options are written with one dash or two, their values behind ``=`` or a space.
"""

import argparse
import asyncio
import logging
import shlex
import sys
from pathlib import Path

from cloud_toa.cli.report import Subparsers

_log = logging.getLogger(__name__)


def add(verbs: Subparsers) -> None:
    """Add ``run``."""
    parser = verbs.add_parser(
        "run",
        help="the sender as one process, on any kernel",
        description="Write the option for connections from this host to origins: by eBPF where "
        "the kernel has the hooks, else by a netfilter queue. The load balancer names the client "
        "by connecting from its address, or on the control socket. All options may be written "
        "with one dash, and stand in a file with underscores.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )

    for family in ("v4", "v6"):
        _add(
            parser,
            f"option-type-{family}",
            "KIND",
            f"the TCP option's kind for IP{family} clients (default 254)",
        )
    _add(parser, "option-type", "KIND", "the same for both")
    about = "connections to these get the option (repeatable, at least one), or 'any'"
    _add(parser, "origin", "CIDR[:PORT]", about, action="append")
    _add(parser, "min-queue-id", "N", "first queue (default 1)")
    _add(parser, "max-queue-id", "N", "last queue (default: one for each CPU)")
    _add_switch(parser, "auto-setup", "set up what is needed, and remove it at the end")
    _add(parser, "datapath", "auto|bpf|queue", "by eBPF or by queue (default auto)")
    about = "eBPF only: the load balancers' cgroup (repeatable; default: the whole host)"
    _add(parser, "cgroup", "PATH_OR_UNIT", about, action="append")
    about = "eBPF only: of a client without a port, send its address with the connection's own "
    _add(
        parser,
        "no-port",
        "connection|client-ip|skip",
        about + "port (default), in the layout without a port (kind 28), or nothing",
    )
    _add(parser, "sock", "PATH", "take clients by local port on this control socket")
    _add(parser, "sock-group", "GROUP", "who may use the control socket beside root")
    _add(parser, "metrics", "ADDRESS:PORT", "serve Prometheus metrics there")
    about = "'edge-toa': be a drop-in for that program, as when called by its name"
    _add(parser, "compat", "NAME", about)
    _add(parser, "config", "FILE", "take options from a TOML file; these here go first")
    _add_switch(parser, "debug", "log more")
    _add_switch(parser, "print-rules", "only print what to set up by hand without -auto-setup")
    _add_switch(parser, "cleanup", "only remove what a killed run has left")
    parser.set_defaults(run=_run)


def _add(
    parser: argparse.ArgumentParser, name: str, value: str, about: str, action: str = "store"
) -> None:
    parser.add_argument(f"--{name}", f"-{name}", metavar=value, help=about, action=action)


def _add_switch(parser: argparse.ArgumentParser, name: str, about: str) -> None:
    parser.add_argument(
        f"--{name}",
        f"-{name}",
        nargs="?",
        const="true",
        choices=("true", "false"),
        metavar="true|false",
        help=about,
    )


def _run(arguments: argparse.Namespace) -> int:
    # Here, as other commands shall not wait for what only this one needs.
    from cloud_toa.node import by_hand, options, runlog, service  # noqa: PLC0415

    given = {name: value for name, value in vars(arguments).items() if name != "run"}
    if Path(sys.argv[0]).name == options.EDGE_TOA:
        given = {"compat": options.EDGE_TOA, **given}
    if "config" in given:
        given = {**options.from_file(Path(given["config"])), **given}
    runlog.start(options.is_on(given, "debug"))
    if options.is_on(given, "cleanup"):
        found = service.clean_up()
        print("removed what a killed run had left" if found else "nothing was left")
        return 0
    settings = options.settings(given)
    if options.is_on(given, "print_rules"):
        print(by_hand.instructions(settings), end="")
        return 0
    _log.info("starting ...")
    _log.info("args: %s", shlex.join(sys.argv[1:]))
    asyncio.run(service.run(settings))
    return 0
