# SPDX-License-Identifier: Apache-2.0
"""option.py: a client as text, and which addresses one may have."""

from ipaddress import ip_address

import pytest

from cloud_toa.option import Client, usable
from tests.clients import CLIENT_V4, CLIENT_V6


@pytest.mark.parametrize(
    ("client", "text"),
    [
        (CLIENT_V4, "203.0.113.222:37709"),
        (CLIENT_V6, "[2001:db8::ec99:108d:db5b:5fab]:52221"),
        (Client(CLIENT_V4.ip, None), "203.0.113.222"),
        (Client(CLIENT_V6.ip, None), "2001:db8::ec99:108d:db5b:5fab"),
    ],
)
def test_client_as_text(client: Client, text: str) -> None:
    assert str(client) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("203.0.113.1", True),
        ("127.0.0.1", True),
        ("10.0.0.1", True),
        ("::1", True),
        ("fe80::1", True),
        ("::ffff:10.0.0.1", True),
        ("0.0.0.0", False),
        ("223.255.255.255", True),
        ("224.0.0.0", False),
        ("239.255.255.255", False),
        ("240.0.0.0", True),
        ("255.255.255.255", False),
        ("::", False),
        ("ff00::", False),
        ("feff::", True),
        ("::ffff:0.0.0.0", False),
        ("::ffff:255.255.255.255", False),
    ],
)
def test_usable(text: str, expected: bool) -> None:
    assert usable(ip_address(text)) is expected
