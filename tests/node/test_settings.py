# SPDX-License-Identifier: Apache-2.0
"""settings.py: settings that can't be are refused with the value and the remedy."""

from pathlib import Path

import pytest

from cloud_toa.errors import ToaError
from cloud_toa.nfqueue.rules import Queues
from cloud_toa.node import options
from cloud_toa.node.settings import MAX_WORKERS, RunSettings, parse_address, parse_queue
from cloud_toa.origins import EVERYWHERE, Origins


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "no -origin is given: .* -origin any"),
        ({"origin": []}, "the list of origins is empty"),
        ({"origin": ["origin.example"]}, "'origin.example' is a host name"),
        ({"datapath": "ebpf"}, "-datapath 'ebpf' is unknown: write auto, bpf or queue"),
        ({"datapath": ""}, "-datapath '' is unknown: write auto, bpf or queue"),
        ({"option_type_v4": "8"}, "Timestamps"),
        ({"option_type_v6": "256"}, "0 to 255"),
        ({"option_type_v4": ""}, "'' .*0 to 255"),
        ({"min_queue_id": "-1"}, "-min-queue-id '-1' is not a number: write 0 to 65535"),
        ({"max_queue_id": "x"}, "-max-queue-id 'x' is not a number: write 0 to 65535"),
        ({"max_queue_id": ""}, "-max-queue-id '' is not a number"),
        ({"max_queue_id": "65536"}, "-max-queue-id 65536 is out of range: 0 to 65535"),
        ({"min_queue_id": "65536"}, "-min-queue-id 65536 is out of range: 0 to 65535"),
        ({"min_queue_id": "2", "max_queue_id": "1"}, "-min-queue-id 2 is above -max-queue-id 1: "),
        ({"max_queue_id": "257"}, "-min-queue-id 1 to -max-queue-id 257 are 257 queues.*256"),
        ({"sock_group": "haproxy"}, "-sock-group haproxy is of no use without -sock PATH"),
        ({"metrics": "9100"}, "-metrics '9100' is not an address: write 127.0.0.1:9100"),
    ],
    ids=str,
)
def test_refused(given: dict[str, str | list[str]], message: str) -> None:
    common: dict[str, str | list[str]] = {"origin": ["any"]} if given else {}
    with pytest.raises(ToaError, match=message) as refused:
        options.settings({**common, **given})
    assert "\n" not in str(refused.value)


def test_the_most_queues() -> None:
    for first, last in ((0, MAX_WORKERS - 1), (65535 - MAX_WORKERS + 1, 65535), (7, 7)):
        assert RunSettings(EVERYWHERE, Queues(first, last)).queues == Queues(first, last)


def test_the_same_for_ebpf() -> None:
    origins = Origins.parse(["192.0.2.7:443"])
    edge = RunSettings(origins, Queues(1, 1), 200, 253).edge
    assert (edge.option_type_v4, edge.option_type_v6, edge.origins) == (200, 253, origins)
    assert not edge.control
    assert RunSettings(origins, Queues(1, 1), sock=Path("/run/toa.sock")).edge.control


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9100", ("127.0.0.1", 9100)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("[::1]:65535", ("::1", 65535)),
        ("[2001:DB8::7]:80", ("2001:db8::7", 80)),
        ("[::ffff:10.0.0.1]:80", ("::ffff:a00:1", 80)),
        (":9100", ("::", 9100)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "9100", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:+1", "::1:9100",
        "[::1]", "[]:9100x", "localhost:9100", "127.0.0.1:9100 ", "999.0.0.1:9100", "1.2.3:9100",
        "[:::]:9100", "[1.2.3.4.5]:80", "127.0.0.1:٩١٠٠", "1" * 9999 + ":80",
    ],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ToaError, match=r"^-metrics .* is not an address: write 127"):
        parse_address(text)


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("65535", 65535), ("007", 7)])
def test_queues(text: str, number: int) -> None:
    assert parse_queue("min-queue-id", text) == number


@pytest.mark.parametrize("text", ["", " 1", "1.0", "0x1", "-1", "+1", "١", "²", "9" * 5000])
def test_what_is_no_queue(text: str) -> None:
    with pytest.raises(ToaError) as refused:
        parse_queue("min-queue-id", text)
    assert "write 0 to 65535, such as 1" in str(refused.value)
    assert len(str(refused.value)) < 200
