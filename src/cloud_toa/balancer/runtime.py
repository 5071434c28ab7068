# SPDX-License-Identifier: Apache-2.0
"""HAProxy's command sockets: that of its master, and the runtime API of its worker.

Source: HAProxy 2.6, management guide, sections 9.3 and 9.4.
"""

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

from cloud_toa.errors import ToaError

_PATIENCE = 5.0
_MASTER = re.compile(r"(?m)^(\d+)\s+master\s+(\d+) \[failed: (\d+)]")
_WORKER = re.compile(r"(?m)^(\d+)\s+worker\s+")


@dataclass(frozen=True)
class Processes:
    """The master, how often it was reloaded and how often in vain; its worker, and old ones."""

    master: int
    reloads: int
    failed: int
    worker: int | None
    old: tuple[int, ...]


async def ask(socket: Path, command: str) -> str:
    """Give commands, separated by ``;``, and answer what is said.

    Raises:
        ToaError: nobody is there, or nothing came in time.
    """
    try:
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            try:
                writer.write(f"{command}\n".encode())
                writer.write_eof()
                return (await reader.read()).decode(errors="replace")
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        raise ToaError(f"HAProxy does not answer at {socket}: {str(error) or 'too late'}") from None


async def processes(socket: Path) -> Processes:
    """Who runs, from the master.

    Raises:
        ToaError: it does not answer.
    """
    said = await ask(socket, "show proc")
    master = _MASTER.search(said)
    if master is None:
        raise ToaError(f"HAProxy's master at {socket} says: {said.strip()[:200]}")
    current, _, old = said.partition("# old workers")
    worker = _WORKER.search(current)
    return Processes(
        int(master[1]),
        int(master[2]),
        int(master[3]),
        int(worker[1]) if worker else None,
        tuple(int(found[1]) for found in _WORKER.finditer(old)),
    )
