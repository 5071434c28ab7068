# SPDX-License-Identifier: Apache-2.0
"""option.py: the shared vectors, every malformed list, and properties on any bytes."""

import json
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scapy.layers.inet import TCP

from cloud_toa.errors import ToaError
from cloud_toa.option import (
    IN_USE,
    MAX_OPTIONS,
    Client,
    Decoded,
    Kinds,
    decode,
    encode,
    is_local,
    is_toa,
    options,
    plain,
    usable,
)
from cloud_toa.trust import Trust
from tests.clients import CLIENT_V4, CLIENT_V6

VECTORS = Path(__file__).parent / "vectors" / "options.json"
CHAIN = json.loads((VECTORS.parent / "chain.json").read_text())
PORTS = json.loads((VECTORS.parent / "ports.json").read_text())["vectors"]
LOCAL = json.loads((VECTORS.parent / "local.json").read_text())["vectors"]
SHARED = Path(__file__).parents[2] / "shared" / "vectors" / "options.json"
ALL = Kinds((254, 200, 252), (254, 253), (28,))

V4 = bytes.fromhex("fe08934dcb0071de")
V6 = bytes.fromhex("fe14cbfd20010db800000000ec99108ddb5b5fab")

free_kinds = st.integers(0, 255).filter(lambda kind: kind not in IN_USE)
clients = st.builds(
    Client,
    (st.ip_addresses(v=4) | st.ip_addresses(v=6)).filter(usable),
    st.integers(1, 65535),
)
# Mostly bytes that mean something, so that walks get further than the first option.
option_bytes = st.lists(
    st.sampled_from([0, 1, 1, 2, 3, 7, 8, 19, 20, 28, 200, 252, 253, 254]) | st.integers(0, 255),
    max_size=MAX_OPTIONS,
).map(bytes) | st.lists(
    st.sampled_from([b"\x01", b"\x00", V4, V6, b"\x02\x04\x05\xb4", b"\xfe\x07", b"\x1c\x07\x01"])
    | st.binary(max_size=8),
    max_size=8,
).map(lambda parts: b"".join(parts)[:MAX_OPTIONS])


def vectors() -> list[Any]:
    loaded = json.loads(VECTORS.read_text())["vectors"] + PORTS
    assert len(loaded) > 30
    return [pytest.param(vector, id=vector["name"]) for vector in loaded]


def kinds_of(vector: dict[str, Any]) -> Kinds:
    return Kinds(**{layout: tuple(kinds) for layout, kinds in vector["kinds"].items()})


@pytest.mark.parametrize("vector", vectors())
def test_vector(vector: dict[str, Any]) -> None:
    client = decode(bytes.fromhex(vector["options"]), kinds_of(vector)).client
    assert client == client_in(vector["client"])


def client_in(expected: dict[str, Any] | None) -> Client | None:
    return Client(ip_address(expected["ip"]), expected["port"]) if expected else None


@pytest.mark.parametrize("vector", LOCAL, ids=lambda vector: vector["name"])
def test_vector_of_local_addresses(vector: dict[str, Any]) -> None:
    """What a loopback or link-local address says, it says on its own host alone."""
    data, kinds = bytes.fromhex(vector["options"]), kinds_of(vector)
    decoded = decode(data, kinds)
    assert decoded.client == client_in(vector["client"])
    counted = ("local",) * decoded.local + ("unusable",) * decoded.unusable
    assert counted == ((vector["counted"],) if vector["counted"] else ())
    assert decode(data, kinds, loopback=True).client == client_in(vector["over_loopback"])


@pytest.mark.parametrize("vector", CHAIN["vectors"], ids=lambda vector: vector["name"])
def test_vector_of_chains(vector: dict[str, Any]) -> None:
    """An edge that is believed is asked whom it serves; nobody else is."""
    data, kinds = bytes.fromhex(vector["options"]), kinds_of(vector)
    is_edge = Trust.parse(CHAIN["trust"]).__contains__
    client = client_in(vector["chain"])
    assert decode(data, kinds, is_edge=is_edge) == Decoded(client, **vector["counted"])
    assert decode(data, kinds).client == client_in(vector["first"])


@pytest.mark.skipif(not SHARED.exists(), reason="only where the shared vectors are at hand")
def test_vectors_are_the_shared_ones() -> None:
    assert json.loads(VECTORS.read_text()) == json.loads(SHARED.read_text())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Decoded()),
        ("01010101", Decoded()),
        ("00", Decoded()),
        ("00" + V4.hex(), Decoded()),
        ("fe", Decoded(malformed=1)),
        ("fe00", Decoded(malformed=1)),
        ("fe01", Decoded(malformed=1)),
        ("fe02", Decoded(malformed=1)),
        ("fe08", Decoded(malformed=1)),
        ("fe08934dcb0071", Decoded(malformed=1)),
        ("1e00" + V4.hex(), Decoded(malformed=1)),
        ("4d02" + V4.hex(), Decoded(CLIENT_V4)),
        ("fe070102030405" + V4.hex(), Decoded(CLIENT_V4, malformed=1)),
        ("fe0901020304050607" + V4.hex(), Decoded(CLIENT_V4, malformed=1)),
        (V4.hex() + "fe00", Decoded(CLIENT_V4, malformed=1)),
        ("1c070200000000", Decoded(malformed=1)),  # a version that client-ip v4 has not
        ("1c0701cb0071de", Decoded(Client(CLIENT_V4.ip, None))),
        ("1c1301" + CLIENT_V6.ip.packed.hex(), Decoded(Client(CLIENT_V6.ip, None))),
        ("1c1300" + CLIENT_V6.ip.packed.hex(), Decoded(Client(CLIENT_V6.ip, None))),
        ("1c070100000000", Decoded(unusable=1)),
        ("1c08934dcb0071de", Decoded(malformed=1)),  # a TOA's layout under client-ip's kind
        ("fe080000cb0071de", Decoded(unusable=1)),
        ("fe08934dffffffff", Decoded(unusable=1)),
        ("fe08934defffffff", Decoded(unusable=1)),
        ("fe08934d00000000", Decoded(unusable=1)),
        ("fe14934d" + "00" * 16, Decoded(unusable=1)),
        ("fe14934d00000000000000000000ffff00000000", Decoded(unusable=1)),
        ("fe14934d00000000000000000000ffffffffffff", Decoded(unusable=1)),
        ("fe14934d00000000000000000000ffffcb0071de", Decoded(CLIENT_V4)),
        # An unusable address ends the search: what follows is not used or counted.
        ("fe080000cb0071de" + V4.hex() + "fe00", Decoded(unusable=1)),
        (V4.hex() + "fe080000cb0071de" + V4.hex(), Decoded(CLIENT_V4, unusable=1)),
        (V4.hex() + V6.hex(), Decoded(CLIENT_V4, duplicates=1)),
        (V6.hex() + V4.hex() + V4.hex(), Decoded(CLIENT_V6, duplicates=2)),
        ("4d" + "03ff" + V4.hex(), Decoded(CLIENT_V4)),
        ("c814" + V6.hex()[4:], Decoded(malformed=1)),  # 200 is accepted for IPv4 alone
        ("fd08" + V4.hex()[4:], Decoded(malformed=1)),  # 253 for IPv6 alone
    ],
)
def test_decode(text: str, expected: Decoded) -> None:
    assert decode(bytes.fromhex(text), ALL) == expected


@pytest.mark.parametrize(
    ("decoded", "reason"),
    [
        (Decoded(CLIENT_V4, malformed=1, unusable=1), "found"),
        (Decoded(malformed=1, unusable=1), "unusable"),
        (Decoded(malformed=1), "malformed"),
        (Decoded(), "absent"),
    ],
)
def test_reason(decoded: Decoded, reason: str) -> None:
    assert decoded.reason == reason


@given(clients, free_kinds, free_kinds, st.data())
def test_decode_gives_back_what_encode_was_given(
    client: Client, kind_v4: int, kind_v6: int, data: st.DataObject
) -> None:
    option = encode(client, kind_v4, kind_v6)
    before = data.draw(st.integers(0, MAX_OPTIONS - len(option)))
    after = data.draw(st.integers(0, MAX_OPTIONS - len(option) - before))
    padded = b"\x01" * before + option + b"\x01" * after
    expected = Client(plain(client.ip), client.port)
    assert decode(padded, Kinds((kind_v4,), (kind_v6,)), loopback=True) == Decoded(expected)
    assert option[0] == (kind_v4 if expected.ip.version == 4 else kind_v6)
    assert len(option) == option[1] == (8 if expected.ip.version == 4 else 20)


@pytest.mark.parametrize(
    "client",
    [
        Client(IPv4Address("203.0.113.1"), None),
        Client(IPv4Address("203.0.113.1"), 0),
        Client(IPv4Address("203.0.113.1"), 65536),
        Client(IPv4Address("203.0.113.1"), -1),
        Client(IPv4Address("0.0.0.0"), 1),
        Client(IPv4Address("0.1.2.3"), 1),
        Client(IPv6Address("::7f00:1"), 1),
        Client(IPv4Address("255.255.255.255"), 1),
        Client(IPv4Address("224.0.0.1"), 1),
        Client(IPv6Address("::"), 1),
        Client(IPv6Address("ff02::1"), 1),
        Client(IPv6Address("::ffff:224.0.0.1"), 1),
    ],
)
def test_encode_refuses_what_decode_would_not_use(client: Client) -> None:
    with pytest.raises(ToaError) as refused:
        encode(client)
    assert (
        str(refused.value) == f"{client} can't be a client: it needs a unicast address and a port"
    )


def naive(data: bytes) -> tuple[list[tuple[int, bytes]], bool]:
    """A second walker: recursive, by slices. Options, and whether the list is well-formed."""
    if not data or data[0] == 0:
        return [], True
    if data[0] == 1:
        return naive(data[1:])
    if len(data) < 2 or not 2 <= data[1] <= len(data):
        return [], False
    rest, well_formed = naive(data[data[1] :])
    return [(data[0], data[: data[1]]), *rest], well_formed


@given(option_bytes)
def test_options_of_any_bytes_agree_with_a_naive_walker(data: bytes) -> None:
    walked = list(options(data))
    whole = [(kind, option) for _, kind, option in walked if option]
    assert (whole, len(whole) == len(walked)) == naive(data)
    assert all(data[at] == kind for at, kind, _ in walked)
    assert all(data[at : at + len(option)] == option for at, _, option in walked)


def oracle(data: bytes, *, loopback: bool) -> Client | None:
    """The client by the rules alone, on the naive walker's options."""
    layouts = {
        8: (ALL.v4, 4, 2),
        20: (ALL.v6, 4, 2),
        7: (ALL.client_ip, 3, None),
        19: (ALL.client_ip, 3, None),
    }
    client: Client | None = None
    for kind, option in naive(data)[0]:
        kinds, address, port = layouts.get(len(option), ((), 0, None))
        if kind not in kinds or (len(option) == 7 and option[2] != 1):
            continue
        ip = plain(ip_address(option[address:]))
        number = int.from_bytes(option[port : port + 2], "big") if port else None
        if number == 0 or not usable(ip) or (is_local(ip) and not loopback):
            break
        if client is None or (client.port is None and client.ip == ip):
            client = Client(ip, number)
    return client


@given(option_bytes | st.binary(max_size=300), st.booleans())
def test_decode_any_bytes(data: bytes, loopback: bool) -> None:
    assert decode(data, ALL, loopback=loopback).client == oracle(data, loopback=loopback)


@given(option_bytes, st.binary(max_size=MAX_OPTIONS))
def test_nothing_is_read_behind_an_end_of_list(data: bytes, behind: bytes) -> None:
    assume(naive(data)[1])  # else the 0 would be part of an option that was cut off
    assert list(options(data + b"\0" + behind)) == list(options(data))
    assert decode(data + b"\0" + behind, ALL) == decode(data, ALL)


@given(option_bytes, st.sampled_from([b"\xfe\x00", b"\x4d\x01"]), st.binary(max_size=MAX_OPTIONS))
def test_nothing_is_read_behind_a_list_that_broke_off(
    data: bytes, broken: bytes, behind: bytes
) -> None:
    assume(naive(data)[1])  # else it broke off before
    assert decode(data + broken + behind, ALL) == decode(data + broken, ALL)
    assert decode(data + broken, ALL).client == decode(data, ALL).client


@given(
    st.lists(
        st.tuples(st.sampled_from([200, 252, 253, 254]), st.binary(max_size=18)), max_size=6
    ).filter(lambda parts: sum(2 + len(value) for _, value in parts) <= MAX_OPTIONS)
)
def test_options_of_well_formed_lists_agree_with_scapy(parts: list[tuple[int, bytes]]) -> None:
    data = b"".join(bytes((kind, 2 + len(value))) + value for kind, value in parts)
    data += b"\x01" * (-len(data) % 4)
    header = bytes(TCP(dataofs=5 + len(data) // 4))[:20] + data
    read = [option for option in TCP(header).options if option[0] not in ("NOP", "EOL")]
    assert [(kind, option[2:]) for _, kind, option in options(data)] == read


@pytest.mark.parametrize(
    ("kind", "option", "expected"),
    [
        (254, V4, True),
        (254, V6, True),
        (254, V4[:7], False),
        (253, V4, False),
        (28, bytes.fromhex("1c0701cb0071de"), True),
        (28, bytes.fromhex("1c048078"), False),
        (254, bytes.fromhex("fe08000000000000"), True),  # whatever address is in it
    ],
)
def test_is_toa(kind: int, option: bytes, expected: bool) -> None:
    assert is_toa(kind, option, ALL) is expected
