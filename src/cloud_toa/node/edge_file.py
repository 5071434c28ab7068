# SPDX-License-Identifier: Apache-2.0
"""An edge as a TOML file describes it: read whole or refused, with the place of what is wrong."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from cloud_toa.balancer.addresses import Listen
from cloud_toa.balancer.allowed import END, Count, Duration, SettingsError, check_path
from cloud_toa.balancer.rules import Mistakes, Rule, Ruled, refused, refused_at
from cloud_toa.balancer.settings import Service
from cloud_toa.errors import SeveralError, ToaError
from cloud_toa.node import every_mistake, file_mistakes, file_ports
from cloud_toa.node.settings import MAX_WORKERS, parse_address
from cloud_toa.node.toml_lines import lines_of
from cloud_toa.option import check_kind

_ORIGIN = re.compile(r"(?P<host>\[[^\[\]]+]|[^\[\]:]+):(?P<port>[0-9]{1,5})")
Place = Literal["syn", "ack", "data"]
Queue = Annotated[int, Meta(ge=0, le=65535)]


class Toa(Ruled, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How clients are named to origins.

    ``datapath``, ``auto_setup``, ``min_queue_id`` and ``max_queue_id`` change by a new start of
    the node, and by the queue so do the option types; the rest without a reload of the balancer.
    But by the queue, switching TOA takes one, and with an access log it and ``where`` do.
    """

    enabled: bool = True
    option_type_v4: int = 254
    option_type_v6: int = 254
    where: Annotated[tuple[Place, ...], Meta(min_length=1)] = ("syn", "ack", "data")
    """The packets that carry the option, until the origin has answered; by eBPF alone."""
    no_port: Literal["connection", "client-ip", "skip"] = "connection"
    """What is sent of a client without a port; by eBPF alone where it is not the default."""
    datapath: Literal["auto", "bpf", "queue"] = "auto"
    auto_setup: bool = True
    """Whether the sender is set up by the edge, and not by hand."""
    min_queue_id: Queue = 1
    max_queue_id: Queue | None = None
    """One queue for each processor where it is left out."""

    def rules(self) -> tuple[Rule, ...]:
        """See `Ruled`."""
        return (
            lambda: refused_at(("option_type_v4",), check_kind, self.option_type_v4),
            lambda: refused_at(("option_type_v6",), check_kind, self.option_type_v6),
            self._queues,
        )

    def _queues(self) -> Mistakes:
        first, last = self.min_queue_id, self.max_queue_id
        if last is not None and last < first:
            yield SettingsError(
                f"min_queue_id {first} is above max_queue_id {last}: swap them", "min_queue_id"
            )
        if last is not None and last - first >= MAX_WORKERS:
            yield SettingsError(
                f"min_queue_id {first} to max_queue_id {last} are {last - first + 1} queues, and "
                f"as many processes: {MAX_WORKERS} at most, one for each processor is best",
                "max_queue_id",
            )


class AccessLog(Ruled, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of JSON for each connection, when it has ended; also of which packets had TOA.

    Those that ``allow``, ``deny`` or a limit by client turns away have none, as the balancer ends
    them before there is a session; they are counted as ``refused``. Behind ``proxy_from``, they
    have one.
    """

    file: str | None = None
    """Its path; no access log where it is left out. ``/dev/stdout`` or a named pipe will do."""
    max_megabytes: Annotated[int, Meta(ge=1, le=100_000)] = 100
    """A larger file is renamed to ``.1``, that one to ``.2``, and so on.

    Devices, pipes and what links lead to are not renamed.
    """
    keep: Annotated[int, Meta(ge=0, le=1000)] = 7
    """So many of the renamed ones."""
    syslog: str | None = None
    """A syslog server for the same lines: ``/dev/log``, or ``192.0.2.5:514``.

    What it gets comes from HAProxy directly, and says of TOA what the settings do.
    """

    def rules(self) -> tuple[Rule, ...]:
        """See `Ruled`."""
        return (lambda: refused(check_path, self.file, "file"), self._server)

    def _server(self) -> Mistakes:
        if self.syslog is not None and not self.syslog.startswith("/"):
            try:
                Listen.parse(self.syslog)
            except ToaError:
                yield SettingsError(
                    f"syslog {self.syslog!r} is no place: write /dev/log, or 192.0.2.5:514",
                    "syslog",
                )
        else:
            yield from refused(check_path, self.syslog, "syslog")

    @property
    def is_on(self) -> bool:
        """Whether there is one."""
        return self.file is not None or self.syslog is not None


class Haproxy(Ruled, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """HAProxy itself."""

    program: Annotated[
        str, Meta(pattern=rf"^[^\s\x00-\x1f]+{END}", description="a program's name or path")
    ] = "haproxy"
    max_connections: Count | None = None
    """Of all services together; as many as the limit of open files allows, 100,000 at most."""
    threads: Annotated[int, Meta(ge=1, le=64)] | None = None
    """One for each processor where it is left out."""
    old_connections: Duration | None = None
    """After a reload, connections from before are ended after so long; never by default."""


class EdgeFile(Ruled, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole edge."""

    service: Annotated[tuple[Service, ...], Meta(min_length=1)]
    toa: Toa = Toa()
    access_log: AccessLog = AccessLog()
    haproxy: Haproxy = Haproxy()
    metrics: str | None = None
    """``address:port`` to serve Prometheus metrics on."""
    resolve_interval: Annotated[int, Meta(ge=1, le=86400)] = 10
    """Seconds between two looks at the addresses of origins' names."""

    def rules(self) -> tuple[Rule, ...]:
        """See `Ruled`."""
        return (
            self._names,
            self._metrics,
            lambda: file_ports.overlapping(self.service),
            lambda: file_ports.shared(self.service),
        )

    def _names(self) -> Mistakes:
        names: set[str] = set()
        for at, service in enumerate(self.service):
            if service.name in names:
                yield SettingsError(
                    f"two services are named {service.name}: rename one",
                    *("service", at, "name"),
                )
            names.add(service.name)

    def _metrics(self) -> Mistakes:
        if self.metrics is None:
            return
        try:
            parse_address(self.metrics)
        except ToaError as error:
            yield SettingsError(str(error).removeprefix("-"), "metrics")
        else:
            yield from file_ports.metrics(self.metrics, self.service)

    @property
    def files(self) -> list[str]:
        """Every certificate and key that it names."""
        return list(dict.fromkeys(file for service in self.service for file in service.files))


@dataclass(frozen=True)
class FileMistake:
    """What is wrong in an edge's file; ``path`` is where: keys, and places in arrays."""

    what: str
    line: int | None = None
    path: Sequence[str | int] = ()


class FileError(SeveralError):
    """All that is wrong in an edge's file, by line."""

    def __init__(self, name: str, *mistakes: FileMistake) -> None:
        self.mistakes = sorted(mistakes, key=lambda each: each.line or 0)
        super().__init__(
            f"{name}{', line ' if each.line else ''}{each.line or ''}: {each.what}"
            for each in self.mistakes
        )


def read(path: Path) -> EdgeFile:
    """Read an edge's file.

    Raises:
        ToaError: it can't be read, is not TOML, or says what can't be; with file and line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ToaError(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise ToaError(f"{path} can't be read: {error.strerror}") from None
    return parse(text, str(path))


def parse(text: str, name: str) -> EdgeFile:
    """The edge that a TOML text describes; ``name`` is its file's.

    Raises:
        FileError: it is not TOML, or says what can't be.
    """
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise FileError(name, FileMistake("its lists lie too deep in one another")) from None
    except ValueError as error:  # tomllib's own, and Python's of numbers without end
        raise FileError(name, FileMistake(*file_mistakes.no_toml(error, text))) from None
    try:
        return msgspec.convert(data, EdgeFile)
    except msgspec.ValidationError:
        mistakes = every_mistake.find(data, EdgeFile)
        lines = lines_of(text, [path for _, path in mistakes])
        raise FileError(
            name,
            *(
                FileMistake(what, line, path)
                for (what, path), line in zip(mistakes, lines, strict=True)
            ),
        ) from None


def in_force(told: bytes | None) -> EdgeFile:
    """The edge that a running one says it is, in JSON.

    Raises:
        ToaError: it says nothing, or nothing that this version understands.
    """
    try:
        return msgspec.json.decode(told or b"", type=EdgeFile)
    except msgspec.DecodeError:
        raise ToaError(
            "the edge that runs is of another version of cloud-toa: start it again"
        ) from None


def for_one(listen: str, origin: str) -> EdgeFile:
    """An edge with one service, and everything else as by default.

    Raises:
        ToaError: an address can't be used.
    """
    found = _ORIGIN.fullmatch(origin)
    if found is None:
        raise ToaError(f"--origin {origin!r}: write 192.0.2.7:80, [2001:db8::7]:80 or NAME:80")
    entry = {"address": found["host"].strip("[]"), "port": int(found["port"])}
    data = {"service": [{"name": "default", "listen": [listen], "origin": [entry]}]}
    try:
        return msgspec.convert(data, EdgeFile)
    except msgspec.ValidationError:
        raise SeveralError(
            [
                f"{'--listen' if 'listen' in path else f'--origin {origin!r}'}: {what}"
                for what, path in every_mistake.find(data, EdgeFile)
            ]
        ) from None


def schema() -> dict[str, Any]:
    """JSON Schema of the file, for editors."""
    return msgspec.json.schema(EdgeFile)
