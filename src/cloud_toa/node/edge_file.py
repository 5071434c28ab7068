# SPDX-License-Identifier: Apache-2.0
"""An edge as a TOML file describes it: read whole or refused, with the place of what is wrong."""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from cloud_toa.balancer.addresses import Listen
from cloud_toa.balancer.allowed import END, Count, Duration, SettingsError, check_path
from cloud_toa.balancer.settings import Service
from cloud_toa.errors import ToaError
from cloud_toa.node import file_mistakes, file_ports
from cloud_toa.node.settings import MAX_WORKERS, parse_address
from cloud_toa.node.toml_lines import line_of
from cloud_toa.option import check_kind

_ORIGIN = re.compile(r"(?P<host>\[[^\[\]]+]|[^\[\]:]+):(?P<port>[0-9]{1,5})")
Place = Literal["syn", "ack", "data"]
Queue = Annotated[int, Meta(ge=0, le=65535)]


class Toa(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
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

    def __post_init__(self) -> None:
        for key in ("option_type_v4", "option_type_v6"):
            try:
                check_kind(getattr(self, key))
            except ToaError as error:
                raise SettingsError(str(error), key) from None
        first, last = self.min_queue_id, self.max_queue_id
        if last is not None and last < first:
            raise SettingsError(
                f"min_queue_id {first} is above max_queue_id {last}: swap them", "min_queue_id"
            )
        if last is not None and last - first >= MAX_WORKERS:
            raise SettingsError(
                f"min_queue_id {first} to max_queue_id {last} are {last - first + 1} queues, and "
                f"as many processes: {MAX_WORKERS} at most, one for each processor is best",
                "max_queue_id",
            )


class AccessLog(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
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

    def __post_init__(self) -> None:
        check_path(self.file, "file")
        if self.syslog is not None and not self.syslog.startswith("/"):
            try:
                Listen.parse(self.syslog)
            except ToaError:
                raise SettingsError(
                    f"syslog {self.syslog!r} is no place: write /dev/log, or 192.0.2.5:514",
                    "syslog",
                ) from None
        elif self.syslog is not None:
            check_path(self.syslog, "syslog")

    @property
    def is_on(self) -> bool:
        """Whether there is one."""
        return self.file is not None or self.syslog is not None


class Haproxy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
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


class EdgeFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole edge."""

    service: Annotated[tuple[Service, ...], Meta(min_length=1)]
    toa: Toa = Toa()
    access_log: AccessLog = AccessLog()
    haproxy: Haproxy = Haproxy()
    metrics: str | None = None
    """``address:port`` to serve Prometheus metrics on."""
    resolve_interval: Annotated[int, Meta(ge=1, le=86400)] = 10
    """Seconds between two looks at the addresses of origins' names."""

    def __post_init__(self) -> None:
        names: set[str] = set()
        for at, service in enumerate(self.service):
            if service.name in names:
                raise SettingsError(
                    f"two services are named {service.name}: rename one",
                    *("service", at, "name"),
                )
            names.add(service.name)
        if self.metrics is not None:
            try:
                parse_address(self.metrics)
            except ToaError as error:
                raise SettingsError(str(error).removeprefix("-"), "metrics") from None
            file_ports.check_metrics(self.metrics, self.service)
        file_ports.check(self.service)

    @property
    def files(self) -> list[str]:
        """Every certificate and key that it names."""
        return list(dict.fromkeys(file for service in self.service for file in service.files))


class FileError(ToaError):
    """What is wrong in an edge's file; ``path`` is where: keys, and places in arrays."""

    def __init__(
        self, name: str, what: str, line: int | None = None, path: Sequence[str | int] = ()
    ) -> None:
        super().__init__(f"{name}{'' if line is None else f', line {line}'}: {what}")
        self.what = what
        self.line = line
        self.path = path


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
        raise FileError(name, "its lists lie too deep in one another") from None
    except ValueError as error:  # tomllib's own, and Python's of numbers without end
        raise FileError(name, *file_mistakes.no_toml(error, text)) from None
    try:
        return msgspec.convert(data, EdgeFile)
    except msgspec.ValidationError as error:
        what, path = file_mistakes.what_of(error, data, EdgeFile)
        raise FileError(name, what, line_of(text, path), path) from None


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
    except msgspec.ValidationError as error:
        what, path = file_mistakes.what_of(error, data, EdgeFile)
        option = "--listen" if "listen" in path else f"--origin {origin!r}"
        raise ToaError(f"{option}: {what}") from None


def schema() -> dict[str, Any]:
    """JSON Schema of the file, for editors."""
    return msgspec.json.schema(EdgeFile)
