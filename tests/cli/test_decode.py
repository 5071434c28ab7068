# SPDX-License-Identifier: Apache-2.0
"""The real command: over the vectors, over files of each link type, on live interfaces."""

import contextlib
import io
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dpkt
import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, CookedLinux, CookedLinuxV2, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw
from scapy.utils import RawPcapWriter, wrpcapng

DECODE = (sys.executable, "-m", "cloud_toa", "decode")
OPTIONS = Path(__file__).parents[1] / "vectors" / "options.json"
VECTORS = {vector["name"]: vector for vector in json.loads(OPTIONS.read_text())["vectors"]}
UNPRIVILEGED = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")

V4 = IP(src="10.9.0.1", dst="10.9.0.2")
V6 = IPv6(src="2001:db8::1", dst="2001:db8::2")
TOA_V4 = (254, bytes.fromhex("934dcb0071de"))
TOA_V6 = (254, bytes.fromhex("cbfd20010db800000000ec99108ddb5b5fab"))
WHEN = 1700000000.25

FROM_V4 = {
    "time": WHEN,
    "source": "10.9.0.1:40000",
    "destination": "10.9.0.2:80",
    "flags": "S",
    "client": "203.0.113.222:37709",
}
FROM_V6 = {
    "time": WHEN,
    "source": "[2001:db8::1]:40000",
    "destination": "[2001:db8::2]:80",
    "flags": "PA",
    "client": "[2001:db8::ec99:108d:db5b:5fab]:52221",
}


def tcp(option: tuple[int, bytes] | None = TOA_V4, flags: str = "S", sport: int = 40000) -> TCP:
    return TCP(sport=sport, dport=80, flags=flags, options=[option] if option else [])


PACKET_V4 = V4 / tcp()
PACKET_V6 = V6 / tcp(TOA_V6, "PA") / Raw(b"hello")


def run(*arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = (*before, *DECODE, *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def listed(*arguments: str) -> list[dict[str, Any]]:
    done = run(*arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def refused(*arguments: str, before: tuple[str, ...] = ()) -> str:
    """The one line on standard error of a command that does nothing else."""
    done = run(*arguments, before=before)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("cloud-toa")
    return done.stderr.partition(": ")[2].rstrip("\n")


def pcap(path: Path, *frames: bytes, link: int = 1) -> str:
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file, linktype=link, snaplen=65535)
        for frame in frames:
            writer.writepkt(frame, ts=WHEN)
    return str(path)


# --options


def decode_vector(vector: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    kinds = [
        f"--kinds-{layout.replace('_', '-')}={','.join(map(str, kinds))}"
        for layout, kinds in vector["kinds"].items()
    ]
    return run("--options", vector["options"], *kinds, "--json")


@pytest.fixture(scope="module")
def vectors_decoded() -> dict[str, subprocess.CompletedProcess[str]]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # each waits for a process of its own
        return dict(zip(VECTORS, pool.map(decode_vector, VECTORS.values()), strict=True))


@pytest.mark.parametrize("name", VECTORS)
def test_vector(name: str, vectors_decoded: dict[str, subprocess.CompletedProcess[str]]) -> None:
    done, client = vectors_decoded[name], VECTORS[name]["client"]
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert said["client"] == client
    if client is None:
        assert set(said) == {"client", "reason"}
        assert said["reason"] in ("absent", "malformed", "unusable")
    else:
        assert set(said) == {"client"}


@pytest.mark.parametrize(
    ("options", "said", "text"),
    [
        ("", {"client": None, "reason": "absent"}, "no client (absent): no option of these kinds"),
        (
            "fe07",
            {"client": None, "reason": "malformed"},
            (
                "no client (malformed): an option list that breaks off, or an option of a length "
                "that TOA has not"
            ),
        ),
        (
            "fe080000cb0071de",
            {"client": None, "reason": "unusable"},
            "no client (unusable): an address or a port that no client can have",
        ),
        (
            "FE 08 93 4d CB 00 71 de",
            {"client": {"ip": "203.0.113.222", "port": 37709}},
            "203.0.113.222:37709",
        ),
    ],
)
def test_options(options: str, said: dict[str, Any], text: str) -> None:
    done = run("--options", options, "--json")
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, said, "")
    done = run("--options", options)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{text}\n", "")


def test_a_client_without_a_port() -> None:
    done = run("--options", "1c0701cb0071de", "--kinds-client-ip", "28")
    assert done.stdout == "203.0.113.222\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--options", "fe0x"],
            (
                "--options: 'x' is not a hexadecimal digit: "
                "write two for each byte, such as fe08934dcb0071de"
            ),
        ),
        (["--options", "fe0"], "--options: 3 digits are no whole bytes: write two for each"),
        (
            ["--options", "01" * 41],
            "--options: 41 bytes are too many: a TCP header has 40 at most, leave out its first 20",
        ),
        (
            ["--options", "", "--kinds-v4", "256"],
            "option kind 256 is out of range: a kind is one byte, 0 to 255",
        ),
        (
            ["--options", "", "--kinds-v6", "254,8"],
            "option kind 8 is in use for Timestamps: choose one such as 254, 253 or 200",
        ),
        (
            ["--options", "", "--kinds-client-ip", "x"],
            "option kind 'x' is not a number: write 0 to 255, such as 254",
        ),
        (
            ["-i", "lo", "--count", "0"],
            "--count '0' is not a number of packets: write 1 or more",
        ),
        (
            ["-i", "lo", "--count", "-1"],
            "--count '-1' is not a number of packets: write 1 or more",
        ),
        (["/no/such.pcap"], "can't read '/no/such.pcap': No such file or directory"),
        (["/proc"], "can't read '/proc': Is a directory"),
        (
            ["-i", "lo", "--options", ""],
            (
                "argument --options: not allowed with argument "
                "-i/--interface (cloud-toa decode --help)"
            ),
        ),
        (
            [],
            (
                "one of the arguments FILE -i/--interface --options is required "
                "(cloud-toa decode --help)"
            ),
        ),
    ],
)
def test_refused(arguments: list[str], message: str) -> None:
    assert refused(*arguments) == message


# FILE


def ethernet(inner: Packet) -> bytes:
    return bytes(Ether() / inner)


LINK_LAYERS: dict[str, tuple[int, Callable[[Packet], bytes]]] = {
    "ethernet": (1, ethernet),
    "vlan": (1, lambda inner: bytes(Ether() / Dot1Q(vlan=7) / inner)),
    "stacked vlans": (1, lambda inner: bytes(Ether() / Dot1AD(vlan=7) / Dot1Q(vlan=8) / inner)),
    "padded ethernet": (1, lambda inner: ethernet(inner).ljust(120, b"\xfe")),
    "linux cooked": (113, lambda inner: bytes(CookedLinux() / inner)),
    "linux cooked 2": (276, lambda inner: bytes(CookedLinuxV2() / inner)),
    "vlan in linux cooked 2": (276, lambda inner: bytes(CookedLinuxV2() / Dot1Q() / inner)),
    "raw": (101, bytes),
    "raw as 12": (12, bytes),
    "raw as 14": (14, bytes),
    "null, little-endian": (0, lambda inner: b"\x1e\0\0\0" + bytes(inner)),
    "null, big-endian": (0, lambda inner: b"\0\0\0\x02" + bytes(inner)),
    "loop": (108, lambda inner: b"\0\0\0\x02" + bytes(inner)),
}


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


# -i


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
                time.sleep(0.01)
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
    out, error = process.communicate(timeout=10)
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
        out, error = process.communicate(timeout=10)
    assert (process.returncode, out.count("\n"), error) == (0, 2, "")


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
        out, error = process.communicate(timeout=10)
    assert (process.returncode, out) == (2, "")
    assert error == f"cloud-toa: can't read from {far!r} any more: Network is down\n"


def test_packets_that_passed_too_fast_are_told() -> None:
    with watching("-i", "lo", "--json") as process:
        process.send_signal(signal.SIGSTOP)
        send("lo", *[ethernet(V4 / UDP() / Raw(b"x" * 1000))] * 2000)
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


def test_options_need_no_root() -> None:
    done = run("--options", "fe08934dcb0071de", before=UNPRIVILEGED)
    assert (done.returncode, done.stdout) == (0, "203.0.113.222:37709\n")


def test_a_pipe_from_tcpdump_is_a_file(tmp_path: Path) -> None:
    path = pcap(tmp_path / "x.pcap", ethernet(PACKET_V4))
    shell = 'cat "$0" | "$@" /dev/stdin --json'
    done = subprocess.run(
        ("sh", "-c", shell, path, *DECODE), capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == FROM_V4
