# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa decode``: the client that TCP options name, in one header or in packets.

A stable entry for tools: what ``--json`` prints keeps its names and meanings. For
``--options`` one object, with the reason ``absent``, ``malformed``, ``unusable`` or ``local``
where there is no client, and the port null where the option's layout has none::

    {"client": {"ip": "203.0.113.222", "port": 37709}}
    {"client": null, "reason": "absent"}

For a file or an interface one object a line for each packet that names a client;
``time`` in seconds since 1970, ``flags`` of F, S, R, P, A, U, E (ECE), C (CWR)::

    {"time": 1700000000.25, "source": "10.9.0.1:40000", "destination": "10.9.0.2:80",
     "flags": "SA", "client": "203.0.113.222:37709"}

For ``--find-kinds`` see `kinds_seen`.
"""

import argparse
import json
import re
import string
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cloud_toa.cli import report
from cloud_toa.cli.kinds_seen import KindsSeen
from cloud_toa.cli.report import Subparsers
from cloud_toa.errors import ToaError
from cloud_toa.option import MAX_OPTIONS, Client, Kinds, Reason, decode, parse_kinds, plain
from cloud_toa.packet import Packet, PacketError

if TYPE_CHECKING:
    from cloud_toa.capture import Captured

_FLAGS = "FSRPAUEC"
_WHY: dict[Reason, str] = {
    "absent": "no option of these kinds",
    "malformed": "an option list that breaks off, or an option of a length that TOA has not",
    "unusable": "an address or a port that no client can have",
    "local": "a loopback or link-local address, which another host must not believe",
}


class _Found(NamedTuple):
    """A packet that names a client, as JSON has it; as a line for people by str()."""

    time: float
    source: str
    destination: str
    flags: str
    client: str

    def __str__(self) -> str:
        moment = datetime.fromtimestamp(self.time, UTC).replace(tzinfo=None)
        width = 47 if self.source.startswith("[") else 21  # the longest address and port
        return (
            f"{moment.isoformat(timespec='microseconds')}Z  {self.source:<{width}} > "
            f"{self.destination:<{width}}  {self.flags:<3}  {self.client}"
        )


def add(verbs: Subparsers) -> None:
    """Add ``decode``."""
    parser = verbs.add_parser(
        "decode",
        help="show the client that packets or TCP options name",
        description="Show the client that TCP options name: list the packets that carry one in a "
        "capture file or on an interface, or read the options of one header.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("file", nargs="?", metavar="FILE", help="a pcap or pcapng file")
    source.add_argument(
        "-i", "--interface", metavar="NAME", help="packets as they pass, until Ctrl-C; any: all"
    )
    source.add_argument(
        "--options",
        metavar="HEX",
        help="the bytes behind the first 20 of a TCP header, such as fe08934dcb0071de; '' is none",
    )
    report.add_kinds(parser)
    parser.add_argument(
        "--find-kinds",
        action="store_true",
        help="instead, count the option kinds, of any number, that look like a TOA",
    )
    parser.add_argument("--count", metavar="N", help="end after so many listed packets")
    parser.add_argument("--json", action="store_true", help="print JSON, one object a line")
    parser.set_defaults(run=_decode)


def _decode(arguments: argparse.Namespace) -> int:
    kinds = Kinds(
        parse_kinds(arguments.kinds_v4),
        parse_kinds(arguments.kinds_v6),
        parse_kinds(arguments.kinds_client_ip),
    )
    live, finds = arguments.interface is not None, arguments.find_kinds
    says = live and not finds and not arguments.json
    seen = KindsSeen(kinds, everything=finds, announce=says)
    if arguments.options is not None:
        options = _bytes(arguments.options)
        seen.add(options, loopback=False)
        if finds:
            seen.show(as_json=arguments.json)
        else:
            _show(options, kinds, arguments.json)
            if not arguments.json:
                seen.hint()
        return 0
    # Here, as dpkt, which it reads files with, takes a quarter of every other command's start.
    from cloud_toa import capture  # noqa: PLC0415

    count = _count(arguments.count)

    def read(packets: Iterable["Captured"]) -> None:
        try:
            if finds:
                deque(islice(_finding(packets, seen), count), maxlen=0)
            else:
                _list(packets, kinds, count, arguments.json, seen)
        finally:  # also by Ctrl-C, or when the rest of a file is damaged
            if finds:
                seen.show(as_json=arguments.json)
            elif not arguments.json:
                seen.hint()

    if not live:
        read(capture.from_file(Path(arguments.file)))
        return 0
    with capture.Live(arguments.interface) as interface:
        try:
            read(interface)
        finally:
            if missed := interface.missed():
                print(f"cloud-toa: {missed} packets passed too fast to be read", file=sys.stderr)
    return 0


def _show(options: bytes, kinds: Kinds, as_json: bool) -> None:
    decoded = decode(options, kinds)
    client, reason = decoded.client, decoded.reason
    if as_json:
        print(
            json.dumps({"client": {"ip": str(client.ip), "port": client.port}})
            if client
            else json.dumps({"client": None, "reason": reason})
        )
    else:
        print(client or f"no client ({reason}): {_WHY[reason]}")


def _list(
    packets: Iterable["Captured"], kinds: Kinds, count: int | None, as_json: bool, seen: KindsSeen
) -> None:
    reasons: Counter[Reason] = Counter()
    for found in islice(_found(packets, kinds, reasons, seen), count):
        print(json.dumps(found._asdict()) if as_json else found, flush=True)
    if not as_json and not reasons["found"]:
        why = ", ".join(f"{reason} in {times}" for reason, times in reasons.items() if times)
        print(f"cloud-toa: no TCP packet names a client ({why or 'no TCP'})", file=sys.stderr)


def _found(
    packets: Iterable["Captured"], kinds: Kinds, reasons: Counter[Reason], seen: KindsSeen
) -> Iterator[_Found]:
    for captured, packet, loopback in _parsed(packets):
        seen.add(packet.options, loopback=loopback)
        decoded = decode(packet.options, kinds, loopback=loopback)
        reasons[decoded.reason] += 1
        if decoded.client:
            yield _Found(
                captured.time,
                str(Client(*packet.source)),
                str(Client(*packet.destination)),
                "".join(name for bit, name in enumerate(_FLAGS) if packet.flags >> bit & 1),
                str(decoded.client),
            )


def _finding(packets: Iterable["Captured"], seen: KindsSeen) -> Iterator[None]:
    """Step by step, each packet with an option that looks like a TOA."""
    for _, packet, loopback in _parsed(packets):
        if seen.add(packet.options, loopback=loopback):
            yield


def _parsed(packets: Iterable["Captured"]) -> Iterator[tuple["Captured", Packet, bool]]:
    """Those that are TCP, and whether they came from a loopback address."""
    for captured in packets:
        with suppress(PacketError):
            packet = Packet.parse(captured.data, cut=True)
            yield captured, packet, plain(packet.source[0]).is_loopback


def _bytes(text: str) -> bytes:
    digits = "".join(text.split())
    wrong = digits.strip(string.hexdigits)
    if wrong:
        raise ToaError(
            f"--options: {wrong[0]!r} is not a hexadecimal digit: "
            "write two for each byte, such as fe08934dcb0071de"
        )
    if len(digits) % 2:
        raise ToaError(f"--options: {len(digits)} digits are no whole bytes: write two for each")
    if len(digits) > 2 * MAX_OPTIONS:
        raise ToaError(
            f"--options: {len(digits) // 2} bytes are too many: a TCP header has {MAX_OPTIONS} at "
            "most, leave out its first 20"
        )
    return bytes.fromhex(digits)


def _count(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,9}", text) or not int(text):
        raise ToaError(f"--count {text!r} is not a number of packets: write 1 or more")
    return int(text)
