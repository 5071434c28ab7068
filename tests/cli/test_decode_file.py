# SPDX-License-Identifier: Apache-2.0
"""The real command over capture files: of each link type, of both containers, damaged."""

import io
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import dpkt
import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, CookedLinuxV2, Ether
from scapy.packet import Packet, Raw
from scapy.utils import RawPcapWriter, wrpcapng

from tests.cli.decoding import (
    DECODE,
    FROM_V4,
    FROM_V6,
    LINK_LAYERS,
    PACKET_V4,
    PACKET_V6,
    TOA_V4,
    TOA_V6,
    V4,
    V6,
    WHEN,
    ethernet,
    refused,
    run,
    tcp,
)


def listed(*arguments: str) -> list[dict[str, Any]]:
    done = run(*arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def pcap(path: Path, *frames: bytes, link: int = 1) -> str:
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file, linktype=link, snaplen=65535)
        for frame in frames:
            writer.writepkt(frame, ts=WHEN)
    return str(path)


@pytest.mark.parametrize("layer", LINK_LAYERS)
def test_link_type(layer: str, tmp_path: Path) -> None:
    link, frame = LINK_LAYERS[layer]
    path = pcap(tmp_path / "x.pcap", frame(PACKET_V4), frame(PACKET_V6), link=link)
    assert listed(path) == [FROM_V4, FROM_V6]


@pytest.mark.parametrize(("link", "packet"), [(228, PACKET_V4), (229, PACKET_V6)])
def test_link_type_of_one_family(link: int, packet: Packet, tmp_path: Path) -> None:
    path = pcap(tmp_path / "x.pcap", bytes(packet), link=link)
    assert len(listed(path)) == 1


@pytest.mark.parametrize("nano", [False, True])
@pytest.mark.parametrize("endianness", ["<", ">"])
def test_byte_order_and_resolution(nano: bool, endianness: str, tmp_path: Path) -> None:
    path = str(tmp_path / "x.pcap")
    with RawPcapWriter(path, linktype=101, endianness=endianness, nano=nano) as writer:
        writer.write_header(None)
        writer.write_packet(bytes(PACKET_V4), sec=1700000000, usec=250_000 * (1000 if nano else 1))
    assert listed(path) == [FROM_V4]


def pcapng(*frames: bytes, link: int = 1) -> bytes:
    file = io.BytesIO()
    interface = (
        dpkt.pcapng.InterfaceDescriptionBlockLE
        if sys.byteorder == "little"
        else dpkt.pcapng.InterfaceDescriptionBlock
    )(linktype=link)
    writer = dpkt.pcapng.Writer(file, idb=interface)
    for frame in frames:
        writer.writepkt(frame, ts=WHEN)
    return file.getvalue()


def test_pcapng_by_dpkt(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    path.write_bytes(pcapng(bytes(CookedLinuxV2() / PACKET_V4), link=276))
    assert listed(str(path)) == [FROM_V4]


def test_pcapng_by_scapy(tmp_path: Path) -> None:
    path = str(tmp_path / "x.pcapng")
    packet = Ether() / PACKET_V6
    packet.time = WHEN
    wrpcapng(path, [packet])
    assert listed(path) == [FROM_V6]


def test_only_packets_that_name_a_client_are_listed(tmp_path: Path) -> None:
    path = pcap(
        tmp_path / "x.pcap",
        ethernet(V4 / tcp(None)),
        ethernet(V4 / UDP()),
        bytes(Ether() / ARP()),
        b"",
        b"\xff" * 13,
        b"\xff" * 200,
        ethernet(V4 / tcp((254, b"\0\0\xcb\0\x71\xde"))),
        ethernet(IP(src="10.9.0.1", dst="10.9.0.2", flags="MF") / tcp()),
        ethernet(PACKET_V4),
        ethernet(V4 / tcp((200, TOA_V4[1]), "SA")),
        ethernet(V6 / tcp(TOA_V4, "FPAUEC")),
    )
    assert [packet["flags"] for packet in listed(path)] == ["S", "FPAUEC"]
    both = listed(path, "--kinds-v4", "254,200")
    assert [packet["flags"] for packet in both] == ["S", "SA", "FPAUEC"]
    assert listed(path, "--kinds-v4", "254,200", "--count", "2") == both[:2]


def test_a_capture_of_headers_alone(tmp_path: Path) -> None:
    whole = ethernet(V4 / tcp(flags="PA") / Raw(b"x" * 1000))
    path = pcap(tmp_path / "x.pcap", whole[:96])
    assert [packet["client"] for packet in listed(path)] == ["203.0.113.222:37709"]


def test_text_is_aligned(tmp_path: Path) -> None:
    done = run(pcap(tmp_path / "x.pcap", ethernet(PACKET_V4), ethernet(PACKET_V6)))
    assert (done.returncode, done.stderr) == (0, "")
    moment, width = "2023-11-14T22:13:20.250000Z", 47
    assert done.stdout.splitlines() == [
        f"{moment}  {'10.9.0.1:40000':21} > {'10.9.0.2:80':21}  S    203.0.113.222:37709",
        (
            f"{moment}  {'[2001:db8::1]:40000':{width}} > {'[2001:db8::2]:80':{width}}  PA   "
            "[2001:db8::ec99:108d:db5b:5fab]:52221"
        ),
    ]


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        ([], "no TCP"),
        ([bytes(Ether() / ARP())], "no TCP"),
        ([ethernet(V4 / tcp(None))] * 2, "absent in 2"),
        (
            [ethernet(V4 / tcp(None)), ethernet(V4 / tcp((254, b"\0\0\xcb\0\x71\xde")))],
            "absent in 1, unusable in 1",
        ),
    ],
)
def test_text_says_why_nothing_is_listed(frames: list[bytes], why: str, tmp_path: Path) -> None:
    path = pcap(tmp_path / "x.pcap", *frames)
    done = run(path)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"cloud-toa: no TCP packet names a client ({why})\n"
    assert listed(path) == []


def whole_file(container: str, tmp_path: Path) -> bytes:
    frames = (ethernet(PACKET_V4), ethernet(PACKET_V6))
    if container == "pcapng":
        return pcapng(*frames)
    return Path(pcap(tmp_path / "whole", *frames)).read_bytes()


@pytest.mark.parametrize("container", ["pcap", "pcapng"])
def test_a_cut_off_file_is_listed_as_far_as_it_goes(container: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    whole = whole_file(container, tmp_path)
    frame = len(ethernet(PACKET_V6))
    # In the last packet; at its first byte; in its record's header.
    in_header = 28 if container == "pcapng" else 16
    trailer = 4 + -frame % 4 if container == "pcapng" else 0
    for missing in (1, trailer + frame, trailer + frame + in_header - 3):
        path.write_bytes(whole[:-missing])
        done = run(str(path), "--json")
        assert done.returncode == 2
        assert [json.loads(line) for line in done.stdout.splitlines()] == [FROM_V4]
        expected = f"{str(path)!r} is cut off or damaged: capture again for what follows"
        assert done.stderr == f"cloud-toa: {expected}\n"


def test_a_damaged_length_is_not_read_as_a_packet(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    whole = bytearray(whole_file("pcap", tmp_path))
    second = 24 + 16 + len(ethernet(PACKET_V4))
    whole[second + 8 : second + 12] = struct.pack("=I", 0xFFFFFFFF)
    path.write_bytes(whole)
    done = run(str(path), "--json")
    assert (done.returncode, done.stdout.count("\n")) == (2, 1)
    assert "is cut off or damaged" in done.stderr


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\n" * 200, b"\xd4\xc3\xb2\xa1", bytes.fromhex("0a0d0d0a") * 10]
)
def test_what_is_no_capture_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "line\nbreak"
    path.write_bytes(content)
    expected = f"{str(path)!r} is not a pcap or pcapng file: write one with tcpdump -w"
    assert refused(str(path)) == expected


def test_a_link_layer_without_ip_is_refused(tmp_path: Path) -> None:
    path = pcap(tmp_path / "x.pcap", b"x" * 60, link=105)
    assert refused(path) == (
        f"{path!r} has packets of link type 105, not IP: "
        "capture on an interface with IP, or with tcpdump -i any"
    )


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    path = pcap(tmp_path / "x.pcap", *[ethernet(PACKET_V4)] * 5000)
    shell = '"$@" | head -1; exit ${PIPESTATUS[0]}'
    done = subprocess.run(
        ("bash", "-c", shell, "bash", *DECODE, path),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1


def test_a_pipe_from_tcpdump_is_a_file(tmp_path: Path) -> None:
    path = pcap(tmp_path / "x.pcap", ethernet(PACKET_V4))
    shell = 'cat "$0" | "$@" /dev/stdin --json'
    done = subprocess.run(
        ("sh", "-c", shell, path, *DECODE), capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == FROM_V4


def kinds_file(tmp_path: Path) -> str:
    """As behind edges of several vendors: 254 three times, 200 twice, others once."""
    port_and_ip, ip = TOA_V4[1], TOA_V4[1][2:]
    return pcap(
        tmp_path / "x.pcap",
        *[ethernet(PACKET_V4)] * 3,
        *[ethernet(V4 / tcp((200, port_and_ip)))] * 2,
        ethernet(V4 / tcp((28, b"\x01" + ip))),
        ethernet(V6 / tcp((253, TOA_V6[1]))),
        ethernet(V4 / tcp(None)),
        ethernet(V4 / tcp((28, b"\x80\x78"))),  # a User Timeout
    )


def test_kinds_that_look_like_a_toa_are_said(tmp_path: Path) -> None:
    path = kinds_file(tmp_path)
    done = run(path)
    assert (done.returncode, done.stdout.count("\n")) == (0, 3)
    assert done.stderr.splitlines() == [
        (
            "cloud-toa: kind 200 looks like a TOA of layout v4 in 2 packets, such as "
            "203.0.113.222:37709; to read it: --kinds-v4 254,200"
        ),
        (
            "cloud-toa: kind 28 looks like a TOA of layout client-ip in 1 packet, such as "
            "203.0.113.222; to read it: --kinds-client-ip 28"
        ),
        (
            "cloud-toa: kind 253 looks like a TOA of layout v6 in 1 packet, such as "
            "[2001:db8::ec99:108d:db5b:5fab]:52221; to read it: --kinds-v6 254,253"
        ),
    ]
    all_read = ("--kinds-v4=254,200", "--kinds-client-ip=28", "--kinds-v6=254,253")
    done = run(path, *all_read)
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (0, 7, "")


def test_find_kinds(tmp_path: Path) -> None:
    path = kinds_file(tmp_path)
    found = listed(path, "--find-kinds")
    v4, v6 = "203.0.113.222:37709", "[2001:db8::ec99:108d:db5b:5fab]:52221"
    assert found == [
        {"kind": 254, "layout": "v4", "packets": 3, "client": v4, "read": True},
        {"kind": 200, "layout": "v4", "packets": 2, "client": v4, "read": False},
        {"kind": 28, "layout": "client-ip", "packets": 1, "client": v4[:-6], "read": False},
        {"kind": 253, "layout": "v6", "packets": 1, "client": v6, "read": False},
    ]
    assert [each["packets"] for each in listed(path, "--find-kinds", "--count", "4")] == [3, 1]
    done = run(path, "--find-kinds")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["kind", "layout", "packets", "such", "as", "read", "it", "with"],
        ["254", "v4", "3", v4, "--kinds-v4", "254"],
        ["200", "v4", "2", v4, "--kinds-v4", "200"],
        ["28", "client-ip", "1", v4[:-6], "--kinds-client-ip", "28"],
        ["253", "v6", "1", v6, "--kinds-v6", "253"],
    ]


def test_find_kinds_where_there_are_none(tmp_path: Path) -> None:
    path = pcap(tmp_path / "x.pcap", ethernet(V4 / tcp(None)))
    assert listed(path, "--find-kinds") == []
    done = run(path, "--find-kinds")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "cloud-toa: no option of any kind looks like a TOA\n"


def test_kinds_of_a_damaged_file_are_said_as_far_as_it_goes(tmp_path: Path) -> None:
    path = Path(kinds_file(tmp_path))
    path.write_bytes(path.read_bytes()[:-1])
    done = run(str(path), "--find-kinds", "--json")
    assert (done.returncode, done.stdout.count("\n")) == (2, 4)
    assert "is cut off or damaged" in done.stderr


def test_an_address_alone_and_a_toa_keep_the_port(tmp_path: Path) -> None:
    both = tcp()
    both.options = [(28, b"\x01" + TOA_V4[1][2:]), ("NOP", None), TOA_V4]
    path = pcap(tmp_path / "x.pcap", ethernet(V4 / both))
    assert listed(path, "--kinds-client-ip", "28") == [FROM_V4]
    assert listed(path) == [FROM_V4]
