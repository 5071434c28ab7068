# SPDX-License-Identifier: Apache-2.0
"""Options of ``cloud-toa run`` as text, from the command line or a TOML file, to settings.

Both sources give the same: by name with underscores, a text, or a list of texts where
the option is repeatable. So there is one place that says what is wrong with a value.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import overload

from cloud_toa.config import NoPort
from cloud_toa.errors import SeveralError, ToaError
from cloud_toa.networks import ANY
from cloud_toa.nfqueue.rules import Queues
from cloud_toa.node.settings import (
    CHOICES,
    RunSettings,
    parse_address,
    parse_queue,
    usual_queues,
)
from cloud_toa.option import parse_kind
from cloud_toa.origins import Origins

EDGE_TOA = "edge-toa"
"""The program that existing CDN nodes start, and what it is called with ``-compat``."""
EDGE_TOA_SOCK = "/tmp/edge-toa.sock"  # noqa: S108, where these nodes look for it
_PATIENCE = 30.0
"""Seconds for a run that such a node has told to quit, before it started the next at once."""

Given = Mapping[str, str | list[str]]

_LISTS = ("origin", "cgroup")
_SWITCHES = ("auto_setup", "debug")
_NUMBERS = ("option_type", "option_type_v4", "option_type_v6", "min_queue_id", "max_queue_id")
_WORDS = ("datapath", "no_port", "sock", "sock_group", "metrics", "compat")
_KNOWN = (*_LISTS, *_SWITCHES, *_NUMBERS, *_WORDS)


def settings(given: Given) -> RunSettings:
    """The settings that these options mean.

    Raises:
        ToaError: one of them is wrong, or -origin is missing.
    """
    compat = _text(given, "compat")
    if compat not in (None, EDGE_TOA):
        raise ToaError(f"-compat {compat!r} is unknown: write {EDGE_TOA}, or leave it out")
    only_named = compat is not None and "origin" not in given
    if compat is not None:
        given = {"sock": EDGE_TOA_SOCK, "origin": ANY, **given}
    if "origin" not in given:
        raise ToaError(
            "no -origin is given: name the destinations that get TOA, such as "
            "-origin 192.0.2.0/24 or -origin 192.0.2.7:443, or -origin any"
        )
    asked = _text(given, "datapath", "auto")
    datapath = next((choice for choice in CHOICES if choice == asked), None)
    if datapath is None:
        raise ToaError(f"-datapath {asked!r} is unknown: write auto, bpf or queue")
    first = parse_queue("min-queue-id", _text(given, "min_queue_id", "1"))
    last = _text(given, "max_queue_id")
    sock, metrics = _text(given, "sock"), _text(given, "metrics")
    both = _text(given, "option_type", "254")
    return RunSettings(
        origins=Origins.parse(_texts(given, "origin")),
        queues=usual_queues(first, os.cpu_count() or 1)
        if last is None
        else Queues(first, parse_queue("max-queue-id", last)),
        option_type_v4=parse_kind(_text(given, "option_type_v4", both)),
        option_type_v6=parse_kind(_text(given, "option_type_v6", both)),
        auto_setup=is_on(given, "auto_setup"),
        datapath=datapath,
        cgroups=tuple(_texts(given, "cgroup")),
        sock=None if sock is None else Path(sock),
        sock_group=_text(given, "sock_group"),
        metrics=None if metrics is None else parse_address(metrics),
        no_port=NoPort.parse(_text(given, "no_port", NoPort.CONNECTION.value)),
        only_named=only_named,
        patience=_PATIENCE if compat is not None else 0.0,
    )


def is_on(given: Given, switch: str) -> bool:
    """Whether a switch is."""
    return given.get(switch) == "true"


def from_file(path: Path) -> Given:
    """The options in a TOML file.

    Raises:
        ToaError: it can't be read, is no TOML, or has keys or values that are no options; of these,
            all.
    """
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise ToaError(f"-config {path}: {error.strerror}") from None
    except ValueError as error:
        raise ToaError(f"-config {path} is not TOML: {error}") from None
    given: dict[str, str | list[str]] = {}
    wrong: list[str] = []
    for name, value in content.items():
        try:
            given[name] = _read(path, name, value)
        except ToaError as error:
            wrong += error.lines
    if wrong:
        raise SeveralError(wrong)
    return given


def _read(path: Path, name: str, value: object) -> str | list[str]:
    match name, value:
        case _ if name not in _KNOWN:
            near = difflib.get_close_matches(name, _KNOWN, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"known are {', '.join(_KNOWN)}"
            raise ToaError(f"-config {path}: {name!r} is no option: {remedy}")
        case _, str() if name in _LISTS:
            return [value]
        case _, list() if name in _LISTS and all(isinstance(each, str) for each in value):
            return value
        case _, bool():
            if name in _SWITCHES:
                return str(value).lower()
        case _, int() if name in _NUMBERS:
            return str(value)
        case _, str() if name in _WORDS:
            return value
    wanted = {
        _LISTS: "a list of strings",
        _SWITCHES: "true or false",
        _NUMBERS: "a number",
        _WORDS: "a string",
    }
    kind = next(kind for names, kind in wanted.items() if name in names)
    raise ToaError(f"-config {path}: {name} = {value!r}: write {kind}")


@overload
def _text(given: Given, name: str, default: str) -> str: ...
@overload
def _text(given: Given, name: str) -> str | None: ...
def _text(given: Given, name: str, default: str | None = None) -> str | None:
    value = given.get(name)
    return value if isinstance(value, str) else default


def _texts(given: Given, name: str) -> list[str]:
    value = given.get(name, [])
    return value if isinstance(value, list) else [value]
