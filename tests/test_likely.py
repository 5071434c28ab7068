# SPDX-License-Identifier: Apache-2.0
"""likely.py: options of any kind that look like a TOA, and those that do not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_toa.likely import Likely, known, likely
from cloud_toa.option import IN_USE, Kinds

V4 = "934dcb0071de"
V6 = "cbfd20010db800000000ec99108ddb5b5fab"
SEEN_V4, SEEN_V6, SEEN_IP = (
    "203.0.113.222:37709",
    "[2001:db8::ec99:108d:db5b:5fab]:52221",
    "203.0.113.222",
)


def seen(options: str, *, loopback: bool = False) -> list[tuple[int, str, str]]:
    found = likely(bytes.fromhex(options), loopback=loopback)
    return [(each.kind, each.layout, str(each.client)) for each in found]


@pytest.mark.parametrize("kind", [200, 252, 253, 254, 77])
def test_any_kind_that_is_free(kind: int) -> None:
    assert seen(f"{kind:02x}08{V4}") == [(kind, "v4", SEEN_V4)]
    assert seen(f"0101{kind:02x}14{V6}") == [(kind, "v6", SEEN_V6)]
    assert seen(f"{kind:02x}0701{V4[4:]}") == [(kind, "client-ip", SEEN_IP)]


@pytest.mark.parametrize("kind", [kind for kind in IN_USE if kind > 1])
def test_no_kind_in_use_for_something_else(kind: int) -> None:
    assert seen(f"{kind:02x}08{V4}") == []
    assert seen(f"{kind:02x}14{V6}") == []
    expected = [(28, "client-ip", SEEN_IP)] if kind == 28 else []
    assert seen(f"{kind:02x}0701{V4[4:]}") == expected


@pytest.mark.parametrize(
    "option",
    [
        "c8080000cb0071de",  # no port
        "c808934d00000000",  # nobody's address, and those of no host
        "c808934de0000001",
        "c808934df0000001",
        "c808934dffffffff",
        "c8091234cb0071de00",  # another length
        "c80702cb0071de",
        "fe08f989cb0071de",  # Fast Open with a cookie of 4 bytes, as an experiment
        "fd08f989cb0071de",
        "c814cbfd00010db800000000ec99108ddb5b5fab",  # outside what hosts have
        "c814cbfd4001" + "0db800000000ec99108ddb5b5fab",
        "c808934d7f000001",  # myself
        "c808934dcb0071",  # cut off
    ],
)
def test_what_does_not_look_like_one(option: str) -> None:
    assert seen(option) == []


def test_myself_over_loopback() -> None:
    assert seen("c808934d7f000001", loopback=True) == [(200, "v4", "127.0.0.1:37709")]


def test_several_in_one_header() -> None:
    both = f"1c0701{V4[4:]}01c808{V4}fe08{V4}"
    kinds = [each[0] for each in seen(both)]
    assert kinds == [28, 200, 254]


def test_which_are_read_already() -> None:
    found = [
        Likely(254, "v4", each.client)
        for each in likely(bytes.fromhex(f"fe08{V4}"), loopback=False)
    ]
    assert known(found[0], Kinds())
    assert not known(found[0]._replace(layout="client-ip"), Kinds())
    assert not known(found[0]._replace(kind=200), Kinds())


@given(st.binary(max_size=60), st.booleans())
def test_any_bytes(data: bytes, loopback: bool) -> None:
    """It never raises nor shows a kind in use."""
    for each in likely(data, loopback=loopback):
        assert each.kind not in set(IN_USE) - {28}
