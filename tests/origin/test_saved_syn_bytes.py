# SPDX-License-Identifier: Apache-2.0
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_toa import Client
from cloud_toa.option import Kinds, encode
from cloud_toa.origin import saved_syn
from cloud_toa.trust import Trust
from tests.origin.addresses import V4, V6

EVERYONE = Trust(everyone=True)


def header(source: str, options: bytes, payload: int = 0) -> bytes:
    """The headers of a SYN to port 80 from that source; of so much payload, the length alone."""
    words = 5 + len(options) // 4
    tcp = bytes.fromhex("c350 0050 00000000 00000000") + bytes((words << 4, 2)) + bytes(6) + options
    ip = ip_address(source)
    if ip.version == 4:
        length = (20 + len(tcp) + payload).to_bytes(2, "big")
        start = b"\x45\0" + length + bytes(4) + b"\x40\6\0\0"
    else:
        start = b"\x60\0\0\0" + (len(tcp) + payload).to_bytes(2, "big") + b"\6\x40"
    return start + ip.packed + ip.packed + tcp


class TestBytes:
    """`saved_syn.read`: the headers alone."""

    @pytest.mark.parametrize("source", ["192.0.2.1", "2001:db8::1"])
    @pytest.mark.parametrize("payload", [0, 1, 1000])
    def test_a_payload_that_is_not_there_does_not_matter(self, source: str, payload: int) -> None:
        syn = header(source, encode(V6), payload)
        assert saved_syn.read(syn, EVERYONE, Kinds()) == V6
        assert saved_syn.read(syn, Trust.parse([source]), Kinds()) == V6
        assert saved_syn.read(syn, Trust.parse(["192.0.2.2"]), Kinds()) is None

    def test_a_layout_without_a_port(self) -> None:
        syn = header("192.0.2.1", bytes.fromhex("1c0701c633640700"))
        expected = Client(V4.ip, None)
        assert saved_syn.read(syn, EVERYONE, Kinds(client_ip=(28,))) == expected

    @pytest.mark.parametrize("source", ["192.0.2.1", "2001:db8::1"])
    def test_cut_short_anywhere_is_no_client(self, source: str) -> None:
        syn = header(source, encode(V4))
        for length in range(len(syn)):
            assert saved_syn.read(syn[:length], EVERYONE, Kinds()) is None
        assert saved_syn.read(syn, EVERYONE, Kinds()) == V4

    @given(st.binary(max_size=200))
    def test_never_raises(self, syn: bytes) -> None:
        saved_syn.read(syn, EVERYONE, Kinds())

    @given(st.sampled_from(["192.0.2.1", "2001:db8::1"]), st.data())
    def test_never_raises_on_a_syn_with_errors(self, source: str, data: st.DataObject) -> None:
        syn = bytearray(header(source, encode(V6)))
        changes = st.dictionaries(st.integers(0, len(syn) - 1), st.integers(0, 255), max_size=8)
        for at, byte in data.draw(changes).items():
            syn[at] = byte
        saved_syn.read(bytes(syn), EVERYONE, Kinds())
