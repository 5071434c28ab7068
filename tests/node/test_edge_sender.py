# SPDX-License-Identifier: Apache-2.0
"""edge_sender.py: what the access log says by the settings, and from where HAProxy connects."""

from pathlib import Path

import pytest

from cloud_toa.balancer.log_line import Toa
from cloud_toa.nfqueue.rules import Queues
from cloud_toa.node import edge_file, edge_sender
from cloud_toa.node.choice import Chosen

FILE = """
%s
[[service]]
name = "web"
listen = ["192.0.2.1:80"]
%s
[[service.origin]]
address = "192.0.2.7"
port = 80
%s
"""
LOG = '[access_log]\nfile = "/var/log/edge.log"\n'


@pytest.mark.parametrize(
    ("datapath", "top", "service", "origin", "expected"),
    [
        ("bpf", "", "", "", Toa("syn,ack,data")),
        ("bpf", '[toa]\nwhere = ["data", "syn"]', "", "", Toa("syn,data")),
        ("queue", "", "", "", Toa("queue")),
        ("queue", "", 'proxy_from = ["192.0.2.9"]', "", Toa("-", "ip_versions")),
        ("bpf", "", 'proxy_from = ["192.0.2.9"]', "", Toa("syn,ack,data")),
        ("bpf", "[toa]\nenabled = false", "", "", Toa("-", "off")),
        ("bpf", "", "toa = false", "", Toa("-", "off_service")),
        ("bpf", "", "toa = false", "toa = true", Toa("syn,ack,data")),
        ("bpf", "", "", "toa = false", Toa("-", "off_origin")),
        ("queue", "", "", 'proxy = "v2"', Toa("-", "proxy")),
        ("bpf", "[toa]\nenabled = false", "", 'proxy = "v1"', Toa("-", "proxy")),
        ("bpf", "[toa]\nauto_setup = false", "", "", Toa("unknown", "by_hand")),
        ("queue", "[toa]\nauto_setup = false", "toa = false", "", Toa("-", "off_service")),
    ],
)
def test_what_is_said(datapath: str, top: str, service: str, origin: str, expected: Toa) -> None:
    file = edge_file.parse(FILE % (top + "\n" + LOG, service, origin), "edge.toml")
    (only,) = file.service
    assert edge_sender.toa(file, datapath, only, only.origin[0]) == expected
    # From the client's address where it is said that the origin is told, and nowhere else.
    transparent = edge_sender.is_transparent(file, datapath, only, only.origin[0], sent=False)
    assert transparent == (expected.where != "-")


def test_without_a_log_the_sender_alone_decides() -> None:
    file = edge_file.parse(FILE % ("", "toa = false", ""), "edge.toml")
    (only,) = file.service
    assert edge_sender.is_transparent(file, "bpf", only, only.origin[0], sent=False)


@pytest.mark.parametrize(
    ("asked", "processors", "expected"),
    [
        ("", 4, Queues(1, 4)),
        ("min_queue_id = 65535", 64, Queues(65535, 65535)),
        ("min_queue_id = 65530", 4, Queues(65530, 65533)),
        ("", 512, Queues(1, 256)),
        ("min_queue_id = 7\nmax_queue_id = 9", 64, Queues(7, 9)),
        ("min_queue_id = 100\nmax_queue_id = 355", 64, Queues(100, 355)),
    ],
)
def test_a_queue_for_each_processor_as_far_as_there_are_numbers(
    asked: str, processors: int, expected: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: processors)
    file = edge_file.parse(FILE % (f"[toa]\n{asked}", "", ""), "edge.toml")
    settings = edge_sender.settings(file, Chosen("queue", "so it is"), Path("/cgroup"), {})
    assert settings.queues == expected
