# SPDX-License-Identifier: Apache-2.0
"""What ``cloud-toa run`` can be told, right once it exists. Pure."""

import re
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from cloud_toa.config import EdgeSettings, NoPort, Where
from cloud_toa.errors import ToaError
from cloud_toa.nfqueue.rules import Queues
from cloud_toa.option import check_kind
from cloud_toa.origins import Origins

Choice = Literal["auto", "bpf", "queue"]
CHOICES: tuple[Choice, ...] = ("auto", "bpf", "queue")

MAX_WORKERS = 256
_LAST_QUEUE = 65535
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[0-9.]*):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True)
class RunSettings:
    """Settings of one edge.

    Raises:
        ToaError: a kind, queue or address that can't be; with the remedy.
    """

    origins: Origins
    queues: Queues
    option_type_v4: int = 254
    option_type_v6: int = 254
    auto_setup: bool = False
    datapath: Choice = "auto"
    cgroups: tuple[str, ...] = ()
    sock: Path | None = None
    sock_group: str | None = None
    metrics: tuple[str, int] | None = None
    where: Where = Where.SYN | Where.ACK | Where.DATA
    tell: bool = False
    """See `EdgeSettings`."""
    no_port: NoPort = NoPort.CONNECTION
    """By the queue, `CONNECTION` alone: there, a client's port is that of the connection."""

    only_named: bool = False
    """Nobody is named by connecting from his address: see `EdgeSettings`."""
    patience: float = 0.0
    """Seconds to wait for the end of a run that is at work here already."""

    def __post_init__(self) -> None:
        check_kind(self.option_type_v4)
        check_kind(self.option_type_v6)
        first, last = self.queues.first, self.queues.last
        for name, number in (("min", first), ("max", last)):
            if not 0 <= number <= _LAST_QUEUE:
                raise ToaError(f"-{name}-queue-id {number} is out of range: 0 to {_LAST_QUEUE}")
        if first > last:
            raise ToaError(f"-min-queue-id {first} is above -max-queue-id {last}: swap them")
        if last - first >= MAX_WORKERS:
            raise ToaError(
                f"-min-queue-id {first} to -max-queue-id {last} are {last - first + 1} queues, "
                f"and as many processes: {MAX_WORKERS} at most, one for each CPU is best"
            )
        if self.sock_group is not None and self.sock is None:
            raise ToaError(f"-sock-group {self.sock_group} is of no use without -sock PATH")

    @property
    def edge(self) -> EdgeSettings:
        """The same for the eBPF sender."""
        return EdgeSettings(
            self.option_type_v4,
            self.option_type_v6,
            self.where,
            self.origins,
            control=self.sock is not None,
            tell=self.tell,
            no_port=self.no_port,
            only_named=self.only_named,
        )


def usual_queues(first: int, processors: int) -> Queues:
    """One for each processor from this one on, as far as there are numbers and workers."""
    return Queues(first, min(first + min(processors, MAX_WORKERS) - 1, _LAST_QUEUE))


def parse_address(text: str) -> tuple[str, int]:
    """Read ``127.0.0.1:9100``, ``[::1]:9100`` or ``:9100`` (every address).

    Raises:
        ToaError: it is something else.
    """
    found = _ADDRESS.fullmatch(text)
    if found and 0 < int(found["port"]) < 65536:
        with suppress(ValueError):
            return str(ip_address(found["host"].strip("[]") or "::")), int(found["port"])
    raise ToaError(f"-metrics {text!r} is not an address: write 127.0.0.1:9100 or [::1]:9100")


def parse_queue(name: str, text: str) -> int:
    """Read a queue's number; its range is for `RunSettings` to say.

    Raises:
        ToaError: not a decimal number.
    """
    if text.isascii() and text.isdecimal() and len(text) < 20:
        return int(text)
    raise ToaError(f"-{name} {text!r:.99} is not a number: write 0 to {_LAST_QUEUE}, such as 1")
