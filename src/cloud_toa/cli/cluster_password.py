# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa cluster reset-password``: a way in for whoever has the store, and no password."""

import argparse
import asyncio
import getpass
import sys

from cloud_toa.cli.report import Subparsers
from cloud_toa.errors import ToaError


def add(actions: Subparsers) -> argparse.ArgumentParser:
    """Add ``reset-password``; answer its parser."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "reset-password",
        help="give a user of the console another password",
        description="Ask for a new password and give it to a user of the console, whose sessions "
        "end. Where standard input is no terminal, its first line is the password. API servers "
        "may go on meanwhile.",
    )
    parser.add_argument("name", metavar="NAME", help="of the user")
    parser.set_defaults(run=_run)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    name = asyncio.run(_reset(arguments.store, arguments.name))
    print(f"{name} has another password now, and is logged out everywhere", file=sys.stderr)
    return 0


async def _reset(url: str, name: str) -> str:
    # Here, as other commands shall not wait for what only this one needs, nor need its packages.
    try:
        from cloud_toa.cluster.model import people  # noqa: PLC0415
    except ImportError as error:
        raise ToaError(f"{error.name} is not installed: pip install 'cloud-toa[cluster]'") from None
    from cloud_toa.cluster.model.values import By  # noqa: PLC0415
    from cloud_toa.cluster.store import opening  # noqa: PLC0415

    store = await opening.open_store(url, make=False)
    try:
        user = await people.find(store, name)
        if user is None:
            admins = [each.name for each in await people.all(store) if each.role == "admin"]
            remedy = (
                f"administrators are {', '.join(admins)}"
                if admins
                else "nobody is administrator: 'cloud-toa console' prints a link that makes one"
            )
            raise ToaError(f"there is no user {name!r} in this store; {remedy}")
        password = await asyncio.to_thread(_ask, user.name)
        # No user has this name, as it has spaces.
        await people.set_password(store, user.name, password, By("the command line"))
        return user.name
    finally:
        await store.close()


def _ask(name: str) -> str:
    if sys.stdin.isatty():
        password = getpass.getpass(f"New password of {name}: ")
        if getpass.getpass("Once more: ") != password:
            raise ToaError("the two passwords differ, and nothing was changed: try again")
    else:
        line = sys.stdin.buffer.readline()
        password = line.decode(errors="surrogateescape").rstrip("\r\n")
    try:
        password.encode()
    except UnicodeEncodeError:
        raise ToaError("the password is no text in UTF-8: choose another one") from None
    return password
