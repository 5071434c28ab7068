# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa cluster``: what a cluster's store has, into a file and back, or changed by hand."""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import BinaryIO

from cloud_toa.cli import cluster_password
from cloud_toa.cli.report import Subparsers
from cloud_toa.errors import ToaError

# The same as opening.DEFAULT, which other commands shall not wait for.
_STORE = "sqlite:///var/lib/cloud-toa/console/cluster.db"


def add(verbs: Subparsers) -> None:
    """Add ``cluster export|import|reset-password``."""
    parser = verbs.add_parser(
        "cluster", help="a cluster's store: save it, move it, or let somebody in"
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    export = actions.add_parser(
        "export",
        help="save all that a store has",
        description="Write all that a store has, of one moment, into a file of mode 0600.",
    )
    export.set_defaults(run=_export)
    restore = actions.add_parser(
        "import",
        help="put into a store what was saved of this or another one",
        description="Put what 'export' saved into an empty store. End the API servers before.",
    )
    restore.add_argument(
        "--replace", action="store_true", help="a store that is not empty loses all it has"
    )
    restore.set_defaults(run=_import)
    for action in (export, restore):
        action.add_argument("file", metavar="FILE", help="'-' for standard output or input")
    for action in (export, restore, cluster_password.add(actions)):
        action.add_argument(
            "--store",
            default=_STORE,
            metavar="URL",
            help="sqlite:///FILE, or etcd://[USER@]HOST,HOST,HOST with ?ca=FILE&cert=FILE&key=FILE"
            f"&password_file=FILE (default: {_STORE})",
        )


def _export(arguments: argparse.Namespace) -> int:
    if arguments.file == "-":
        entries = asyncio.run(_write(arguments.store, sys.stdout.buffer))
        sys.stdout.buffer.flush()
    else:
        entries = _replace(Path(arguments.file), arguments.store)
    print(f"{entries} keys saved from the store", file=sys.stderr)
    return 0


def _replace(path: Path, url: str) -> int:
    """Write a file of mode 0600 that is there whole, or not at all."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                entries = asyncio.run(_write(url, file))
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink()
            raise
    except OSError as error:
        raise ToaError(f"{path} can't be written: {error.strerror}: name another file") from None
    return entries


async def _write(url: str, file: BinaryIO) -> int:
    # Here, as other commands shall not wait for what only these need.
    from cloud_toa.cluster.store import opening, transfer  # noqa: PLC0415

    store = await opening.open_store(url, make=False)
    try:
        return await transfer.export(store, file, time.time())
    finally:
        await store.close()


def _import(arguments: argparse.Namespace) -> int:
    # As in _write.
    from cloud_toa.cluster.store import opening, transfer  # noqa: PLC0415

    if arguments.file == "-":
        puts = transfer.read(sys.stdin.buffer, "standard input", time.time())
    else:
        try:
            with Path(arguments.file).open("rb") as file:
                puts = transfer.read(file, arguments.file, time.time())
        except OSError as error:
            raise ToaError(f"{arguments.file} can't be read: {error.strerror}") from None

    async def fill() -> None:
        store = await opening.open_store(arguments.store)
        try:
            await store.fill(puts, replace=arguments.replace)
        finally:
            await store.close()

    asyncio.run(fill())
    print(f"{len(puts)} keys put into the store", file=sys.stderr)
    return 0
