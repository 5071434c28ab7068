# SPDX-License-Identifier: Apache-2.0
"""What nodes and API servers say to each other, as JSON. Pure.

Fields that are not known are passed over, so that nodes and servers of neighbouring versions
understand each other.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from cloud_toa.balancer.allowed import END

# What a node says is kept, added up and shown with all others': it must not be without end.
MOST_SERVICES = 1000
"""In a sample."""
ServiceName = Annotated[str, Meta(pattern=rf"^[A-Za-z0-9_.-]{{0,64}}{END}")]
"""A service's, as `balancer.allowed.check_name` has it; or ``""``, all together."""
Time = Annotated[float, Meta(ge=0, le=1e11)]
"""Seconds since 1970."""
Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Rate = Annotated[float, Meta(ge=0, le=1e15)]
"""By the second."""
Rates = Annotated[dict[ServiceName, Rate], Meta(max_length=MOST_SERVICES + 1)]
Percent = Annotated[float, Meta(ge=0, le=1e6)]
"""Of one processor: hosts have many."""


class Facts(Struct, frozen=True, kw_only=True):
    """What does not change while a node's process lives."""

    version: str
    """Of cloud-toa."""
    kernel: str
    architecture: str
    """As ``uname -m`` says it."""
    hostname: str


class Join(Struct, frozen=True, kw_only=True):
    """``POST /node/join``, with the join token in the header.

    The same again, as after an answer that was lost, is answered the same.
    """

    name: str
    facts: Facts
    secret: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{43}$", max_length=43)]
    """256 bits by chance, in base64url: who shows them again is the node that has joined."""


class Joined(Struct, frozen=True, kw_only=True):
    """The answer: from now on the node shows its own token."""

    id: str
    token: str


class Settings(Struct, frozen=True, kw_only=True):
    """What a node is to run; the event ``settings``."""

    revision: int
    """0 where nobody has saved any: there is nothing to serve yet."""
    text: str
    """TOML, as an edge's file."""
    drained: bool = False
    """No new connections to this node; those that are there go on."""


class Applied(Struct, frozen=True, kw_only=True):
    """What a node has made of its settings."""

    revision: Number
    """In force; 0 before the first."""
    wanted: Number
    """The last one that it was told of."""
    error: str = ""
    """Why ``wanted`` is not in force: one line, with its place in the text."""
    how: str = ""
    """How it was brought there: by a reload, or without."""


class Counts(Struct, frozen=True, kw_only=True):
    """Since the node's process started; of a service, or of all together."""

    connections: Number = 0
    current: Number = 0
    bytes_from_clients: Number = 0
    bytes_to_clients: Number = 0
    refused: Number = 0


class Status(Struct, frozen=True, kw_only=True):
    """``PUT /node/status``: a node, as it is."""

    facts: Facts
    time: Time
    """The node's clock; the server keeps its own beside it."""
    applied: Applied
    drained: bool = False
    datapath: str = ""
    why: str = ""
    """Why this datapath."""
    counters: dict[str, Number] = {}
    """The sender's, by their names."""
    services: dict[ServiceName, Counts] = {}
    origins: dict[ServiceName, dict[str, str]] = {}
    """By service: the state of each origin, in HAProxy's words."""
    cpu_percent: Percent = 0.0
    """Of one processor, all processes of the edge together."""
    memory_bytes: Number = 0
    findings: list["Finding"] = []
    """The doctor's report."""


class Finding(Struct, frozen=True, kw_only=True):
    """One prerequisite, as `doctor` found it."""

    what: str
    state: Literal["ok", "warning", "missing"]
    remedy: str = ""


class Line(Struct, frozen=True, kw_only=True):
    """One of a node's run log."""

    time: Time
    level: Literal["debug", "info", "warning", "error"]
    tag: str
    text: str


class Sample(Struct, frozen=True, kw_only=True):
    """Rates over the ten seconds before ``time``, by service; ``""`` is the node as a whole."""

    time: Time
    connections: Rates
    """New ones per second."""
    bytes: Rates
    """Per second, both ways."""
    with_toa: Rate
    """New connections to origins per second that carried the option, all services together."""
    without_toa: Rate


class Test(Struct, frozen=True, kw_only=True):
    """The event ``test``: make one connection through a service, and say what was seen."""

    id: str
    service: str
    client: str | None = None
    """The address that it is made from; one for documentation by default."""


class Outcome(Struct, frozen=True, kw_only=True):
    """``PUT /node/tests/{id}``: see `node.quick_test.Outcome`."""

    client: str
    service: str
    origin: str | None = None
    packets: list[str] = []
    answer: dict[str, str] | None = None
    good: bool = False
    trouble: str = ""
