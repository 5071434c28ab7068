# SPDX-License-Identifier: Apache-2.0
"""SYNs and ACKs with forged TOA, as fast as the machine sends them, by trafgen(8).

Each packet names a random client of 192.0.2.0/24 or 2001:db8:bad::/64, whom nobody really is.
Its source is a random address, or the edge's own. They are written in trafgen's language: bytes,
``drnd(n)`` for random ones, ``dinc`` for one that counts, ``csum...`` for checksums.
"""

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

from attacker import DEVICE, link

from cloud_toa.demo.lab import EDGE_TO_ORIGIN, ORIGIN, Lab
from cloud_toa.errors import ToaError
from cloud_toa.isolation import Namespace
from cloud_toa.packet import ACK, SYN

_PATIENCE = 60.0
"""Seconds until trafgen sends; slow enough for an emulated machine."""


def _hex(data: bytes) -> str:
    return ", ".join(f"0x{byte:02x}" for byte in data)


# Whatever network these are of: no route leads back to one that answers.
_RANDOM = {4: "45, drnd(3)", 6: f"{_hex(bytes.fromhex('20010db80badcafe'))}, drnd(8)"}
_EDGE = {version: _hex(ip_address(each).packed) for version, each in EDGE_TO_ORIGIN.items()}
_ANY_PORT = "drnd(2)"
# One byte counts: so an ACK is from the same port as the SYN before it.
_SAME_PORT = "0xc0, dinc(0, 255, 1)"
_MSS = "2, 4, 0x05, 0xb4"
_TOA = {
    4: ("254, 8, drnd(2), 192, 0, 2, drnd(1)", 8),
    6: (f"254, 20, drnd(2), {_hex(bytes.fromhex('20010db80bad0000'))}, drnd(8)", 20),
}


def syns(port: int) -> list[str]:
    """SYNs to the origin's port, of both families, from random sources and in the edge's name."""
    return [
        _packet(version, source, _ANY_PORT, port, SYN, "c32(0)")
        for version in (4, 6)
        for source in (_RANDOM[version], _EDGE[version])
    ]


def guesses(port: int) -> list[str]:
    """SYNs in the edge's name, then ACKs whose numbers are guessed."""
    return [
        _packet(version, _EDGE[version], _SAME_PORT, port, flags, acknowledged)
        for version in (4, 6)
        for flags, acknowledged in ((SYN, "c32(0)"), (ACK, "drnd(4)"))
    ]


@contextmanager
def sending(lab: Lab, host: Namespace, packets: Sequence[str]) -> Iterator[None]:
    """Send these from a host on the origin's network, in turn, until the end.

    Raises:
        ToaError: trafgen sends nothing.
    """
    ether = link(lab.origin).address + link(host).address
    file = lab.files / "flood.trafgen"
    file.write_text("\n".join(packet % _hex(ether) for packet in packets))
    # It starts a process for each processor; they end with the first one of their namespace.
    command = ["unshare", "--pid", "--fork", "--kill-child", "trafgen", "--in", str(file)]
    command += ["--out", DEVICE, "--no-sock-mem", "--notouch-irq"]
    said = lab.files / "trafgen.err"
    with said.open("wb") as stderr:
        process = host.popen(command, stderr=stderr)
    try:
        _wait(host, process, said)
        yield
    finally:
        process.kill()
        process.wait()


def _wait(host: Namespace, process: "subprocess.Popen[bytes]", said: Path) -> None:
    before, deadline = link(host).sent, time.monotonic() + _PATIENCE
    while link(host).sent < before + 100:
        if process.poll() is not None or time.monotonic() > deadline:
            raise ToaError(f"trafgen sends nothing: {said.read_text().strip()}")
        time.sleep(0.02)  # trafgen says nothing when it begins


def _packet(version: int, source: str, ports: str, port: int, flags: int, ack: str) -> str:
    """A packet in trafgen's words, with room for its Ethernet addresses."""
    options, length = _TOA[version]
    if flags == SYN:
        options, length = f"{_MSS}, {options}", 4 + length
    header = 20 + length
    ends = f"{source}, {_hex(ip_address(ORIGIN[version]).packed)}"
    if version == 4:
        ip = f"0x08, 0x00, 0x45, 0, c16({20 + header}), drnd(2), 0x40, 0, 64, 6, csumip(14, 33)"
        checksum = "csumtcp(14, 34)"
    else:
        ip = f"0x86, 0xdd, 0x60, 0, 0, 0, c16({header}), 6, 64"
        checksum = "csumtcp6(14, 54)"
    tcp = f"{ports}, c16({port}), drnd(4), {ack}, c16({header // 4 << 12 | flags}), c16(65000)"
    return f"{{ %s, {ip}, {ends}, {tcp}, {checksum}, 0, 0, {options} }}"
