# SPDX-License-Identifier: Apache-2.0
"""option.py: which kinds an option may have, and how they are written."""

import pytest

from cloud_toa.option import USER_TIMEOUT, KindError, Kinds, check_kind, parse_kind, parse_kinds


@pytest.mark.parametrize("kind", [-1, 256, 99999])
def test_kind_out_of_range(kind: int) -> None:
    with pytest.raises(KindError) as refused:
        check_kind(kind)
    expected = f"option kind {kind} is out of range: a kind is one byte, 0 to 255"
    assert str(refused.value) == expected


@pytest.mark.parametrize(
    ("kind", "use"),
    [
        (0, "End of Option List"),
        (1, "No-Operation"),
        (2, "Maximum Segment Size"),
        (3, "Window Scale"),
        (4, "SACK Permitted"),
        (5, "SACK"),
        (6, "Echo"),
        (7, "Echo Reply"),
        (8, "Timestamps"),
        (19, "MD5 Signature"),
        (28, "User Timeout"),
        (29, "TCP-AO"),
        (30, "Multipath TCP"),
        (34, "TCP Fast Open"),
        (69, "TCP-ENO"),
        (172, "Accurate ECN Order 0"),
        (174, "Accurate ECN Order 1"),
    ],
)
def test_kind_in_use(kind: int, use: str) -> None:
    expected = f"option kind {kind} is in use for {use}: choose one such as 254, 253 or 200"
    with pytest.raises(KindError) as refused:
        check_kind(kind)
    assert str(refused.value) == expected
    for layout in ("v4", "v6", "client_ip"):
        if (layout, kind) != ("client_ip", USER_TIMEOUT):
            with pytest.raises(KindError, match=f"^option kind {kind} is in use"):
                Kinds(**{layout: (254, kind)})


def test_kinds_may_be_shared_and_client_ip_may_be_28() -> None:
    assert Kinds((254, 200), (254,), (28, 254)).client_ip == (28, 254)
    assert Kinds() == Kinds((254,), (254,), ())
    assert check_kind(9) == 9  # obsolete: left to its users


@pytest.mark.parametrize("text", ["", "x", "254x", "-1", "+254", " 254", "0xfe", "1e2", "²", "٣"])
def test_kind_not_a_number(text: str) -> None:
    with pytest.raises(KindError) as refused:
        parse_kind(text)
    expected = f"option kind {text!r} is not a number: write 0 to 255, such as 254"
    assert str(refused.value) == expected


def test_kind_of_thousands_of_digits_is_refused_and_not_repeated() -> None:
    with pytest.raises(KindError) as refused:
        parse_kind("9" * 5000)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("", ()),
        (",", ()),
        ("254", (254,)),
        ("254,200", (254, 200)),
        (" 254 , 200 ", (254, 200)),
        ("254,254,200,254", (254, 200)),
    ],
)
def test_parse_kinds(text: str, kinds: tuple[int, ...]) -> None:
    assert parse_kinds(text) == kinds


@pytest.mark.parametrize("text", ["254;200", "254 200", "254,x", "254,-1"])
def test_parse_kinds_refuses_the_whole_list(text: str) -> None:
    with pytest.raises(KindError, match="is not a number"):
        parse_kinds(text)
