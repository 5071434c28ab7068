# SPDX-License-Identifier: Apache-2.0
"""The real command on live interfaces."""

import contextlib
import json
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import UDP
from scapy.packet import Raw

from tests.cli.decoding import (
    DECODE,
    FROM_V4,
    FROM_V6,
    LINK_LAYERS,
    PACKET_V4,
    PACKET_V6,
    TOA_V4,
    UNPRIVILEGED,
    V4,
    ethernet,
    refused,
    tcp,
)


def send(interface: str, *frames: bytes) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((interface, 0))
        for frame in frames:
            raw.send(frame)


@contextmanager
def watching(*arguments: str, before: tuple[str, ...] = ()) -> Iterator["subprocess.Popen[str]"]:
    """The command with a live interface, from when it receives."""
    with subprocess.Popen(
        (*before, *DECODE, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            deadline = time.monotonic() + 10
            while not receives(process.pid):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.01)  # the kernel tells nobody when another's socket is there
            yield process
        finally:
            process.kill()


def receives(pid: int) -> bool:
    """Whether a process has a packet socket that is bound to all protocols."""
    # sk RefCnt Type Proto Iface R Rmem User Inode
    rows = [row.split() for row in Path(f"/proc/{pid}/net/packet").read_text().splitlines()[1:]]
    inodes = {f"socket:[{row[8]}]" for row in rows if row[3] == "0003"}
    with contextlib.suppress(FileNotFoundError):  # a file that it has closed meanwhile
        return any(str(link.readlink()) in inodes for link in Path(f"/proc/{pid}/fd").iterdir())
    return False


def text_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], 10)[0], "nothing was listed"
    return process.stdout.readline()


def line(process: "subprocess.Popen[str]") -> dict[str, Any]:
    loaded = json.loads(text_line(process))
    assert abs(loaded.pop("time") - time.time()) < 10
    assert isinstance(loaded, dict)
    return loaded


def interrupted(process: "subprocess.Popen[str]") -> tuple[str, str]:
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 130
    return out, error


def without_time(packet: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in packet.items() if name != "time"}


@pytest.fixture
def pair() -> Iterator[tuple[str, str]]:
    """Two interfaces of the tests' own network that are connected to each other."""
    near, far = "toa-near", "toa-far"
    subprocess.run(("ip", "link", "add", near, "type", "veth", "peer", "name", far), check=True)
    for name in (near, far):
        subprocess.run(("ip", "link", "set", name, "up"), check=True)
    yield near, far
    subprocess.run(("ip", "link", "del", near), stderr=subprocess.DEVNULL, check=False)


@pytest.mark.parametrize("interface", ["lo", "any"])
def test_loopback_shows_each_packet_once_and_at_once(interface: str) -> None:
    with watching("-i", interface, "--json") as process:
        for sport in range(1, 4):
            send("lo", ethernet(V4 / tcp(sport=sport)))
            send("lo", ethernet(V4 / tcp(None)))
            # The line is there though the command goes on: each is flushed.
            assert line(process)["source"] == f"10.9.0.1:{sport}"
        send("lo", ethernet(PACKET_V6))
        assert line(process) == without_time(FROM_V6)
        assert interrupted(process) == ("", "")


def test_a_real_connection_is_none_of_a_client() -> None:
    with watching("-i", "lo") as process:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname()).close()
        send("lo", ethernet(PACKET_V4))
        assert text_line(process).endswith("  203.0.113.222:37709\n")
        assert interrupted(process) == ("", "")


def test_count_ends_it() -> None:
    with watching("-i", "lo", "--json", "--count", "2") as process:
        for _ in range(3):
            send("lo", ethernet(PACKET_V4))
        out, error = process.communicate(timeout=60)
    assert (process.returncode, out.count("\n"), error) == (0, 2, "")


def test_a_kind_that_is_not_read_is_said_at_once_and_counted_at_the_end() -> None:
    with watching("-i", "lo") as process:
        assert process.stderr is not None
        send("lo", ethernet(V4 / tcp((200, TOA_V4[1]))))
        found = "cloud-toa: kind 200 looks like a TOA of layout v4"
        remedy = "such as 203.0.113.222:37709; to read it: --kinds-v4 254,200\n"
        assert select.select([process.stderr], [], [], 60)[0], "nothing was said"
        assert process.stderr.readline() == f"{found}, {remedy}"
        send("lo", *[ethernet(V4 / tcp((200, TOA_V4[1])))] * 2)
        send("lo", ethernet(PACKET_V4))
        assert text_line(process).endswith("  203.0.113.222:37709\n")
        assert interrupted(process) == ("", f"{found} in 3 packets, {remedy}")


def test_kinds_are_found_until_it_is_ended() -> None:
    with watching("-i", "lo", "--find-kinds", "--json", "--count", "2") as process:
        send("lo", ethernet(V4 / tcp(None)), *[ethernet(V4 / tcp((200, TOA_V4[1])))] * 2)
        out, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (0, "")
    assert [each["packets"] for each in map(json.loads, out.splitlines())] == [2]
    with watching("-i", "lo", "--find-kinds") as process:
        assert interrupted(process) == (
            "",
            "cloud-toa: no option of any kind looks like a TOA\n",
        )


@pytest.mark.parametrize("layer", ["ethernet", "vlan", "stacked vlans"])
def test_an_interface_and_its_vlans(layer: str, pair: tuple[str, str]) -> None:
    near, far = pair
    frame = LINK_LAYERS[layer][1]
    with watching("-i", far, "--json") as process:
        send("lo", ethernet(PACKET_V4))  # not this interface
        send(near, frame(PACKET_V6))
        assert line(process) == without_time(FROM_V6)
        send(far, frame(PACKET_V4))  # what goes out
        assert line(process) == without_time(FROM_V4)
        assert interrupted(process) == ("", "")


def test_a_packet_longer_than_what_is_copied(pair: tuple[str, str]) -> None:
    with watching("-i", pair[0], "--json") as process:
        send(pair[1], ethernet(V4 / tcp() / Raw(b"x" * 1400)))
        assert line(process) == without_time(FROM_V4)


def test_an_interface_that_goes_away(pair: tuple[str, str]) -> None:
    near, far = pair
    with watching("-i", far) as process:
        subprocess.run(("ip", "link", "del", near), check=True)
        out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert error == f"cloud-toa: can't read from {far!r} any more: Network is down\n"


def test_packets_that_passed_too_fast_are_told() -> None:
    with watching("-i", "lo", "--json") as process:
        process.send_signal(signal.SIGSTOP)
        send("lo", *[ethernet(V4 / UDP() / Raw(b"x" * 1000))] * 20_000)
        process.send_signal(signal.SIGCONT)
        _, error = interrupted(process)
    assert re.fullmatch(r"cloud-toa: \d+ packets passed too fast to be read\n", error)


def test_an_unknown_interface_is_refused_with_the_known_ones(pair: tuple[str, str]) -> None:
    message = refused("-i", "eth77")
    assert message.startswith("no interface 'eth77': name one of any, ")
    assert {"lo", *pair} <= set(message.replace(",", "").split())


@pytest.mark.parametrize("interface", ["lo", "any"])
def test_an_interface_needs_root(interface: str) -> None:
    message = refused("-i", interface, before=UNPRIVILEGED)
    expected = f"reading packets from {interface!r} needs root (CAP_NET_RAW): run it with sudo"
    assert message == expected


def test_an_unknown_interface_is_told_without_root_too() -> None:
    assert refused("-i", "eth77", before=UNPRIVILEGED).startswith("no interface 'eth77'")
