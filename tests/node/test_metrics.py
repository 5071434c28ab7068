# SPDX-License-Identifier: Apache-2.0
"""metrics.py, asked by HTTP and read with Prometheus's own parser."""

import socket
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cloud_toa.errors import ToaError
from cloud_toa.node import metrics

LOCAL = "127.0.0.1"
QUEUE: dict[str, Any] = {
    "datapath": "queue",
    "counters": {"packets": 7, "queued": 8},
    "workers": [
        {"queue": 1, "pid": 11, "restarts": 0, "counters": {"packets": 3, "written": 2}},
        {"queue": 2, "pid": None, "restarts": 5, "counters": {"packets": 4, "written": 1}},
    ],
    "control": {"peers": 2, "added": 9},
}


@pytest.fixture
def address() -> tuple[str, int]:
    """One that nobody has."""
    with socket.create_server((LOCAL, 0)) as server:
        port: int = server.getsockname()[1]
    return LOCAL, port


Serve = Callable[[Callable[[], metrics.Shown | None]], None]


@pytest.fixture
def serve(address: tuple[str, int]) -> Iterator[Serve]:
    stops: list[Callable[[], None]] = []
    yield lambda shown: stops.append(metrics.serve(address, shown))
    for stop in stops:
        stop()


def get(address: tuple[str, int]) -> dict[tuple[str, str], float]:
    """Values by name and by the one label's value."""
    with urllib.request.urlopen(f"http://{address[0]}:{address[1]}/metrics", timeout=10) as answer:
        assert answer.status == 200
        text = answer.read().decode()
    return {
        (sample.name, "".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_queue(address: tuple[str, int], serve: Serve) -> None:
    serve(lambda: QUEUE)
    assert get(address) == {
        ("cloud_toa_datapath", "queue"): 1,
        ("cloud_toa_edge_packets_total", ""): 7,
        ("cloud_toa_edge_queued_total", ""): 8,
        ("cloud_toa_worker_restarts_total", "1"): 0,
        ("cloud_toa_worker_restarts_total", "2"): 5,
        ("cloud_toa_worker_packets_total", "1"): 3,
        ("cloud_toa_worker_packets_total", "2"): 4,
        ("cloud_toa_worker_written_total", "1"): 2,
        ("cloud_toa_worker_written_total", "2"): 1,
        ("cloud_toa_control_peers", ""): 2,
        ("cloud_toa_control_added_total", ""): 9,
    }


def test_ebpf_has_no_workers(address: tuple[str, int], serve: Serve) -> None:
    serve(lambda: {"datapath": "bpf", "counters": {"connections": 3}})
    assert get(address) == {
        ("cloud_toa_datapath", "bpf"): 1,
        ("cloud_toa_edge_connections_total", ""): 3,
    }


def test_every_answer_is_a_new_reading(address: tuple[str, int], serve: Serve) -> None:
    readings = iter((1, 2, 3))
    serve(lambda: {"datapath": "bpf", "counters": {"connections": next(readings)}})
    name = "cloud_toa_edge_connections_total", ""
    assert [get(address)[name] for _ in range(3)] == [1, 2, 3]


def test_nothing_that_runs(address: tuple[str, int], serve: Serve) -> None:
    serve(lambda: None)
    assert get(address) == {}


def test_an_address_in_use(address: tuple[str, int]) -> None:
    with socket.create_server(address):
        with pytest.raises(ToaError) as refused:
            metrics.serve(address, lambda: QUEUE)
    assert str(refused.value) == (
        f"-metrics {LOCAL}:{address[1]} can't be had: Address already in use: "
        "choose another address"
    )


def test_what_is_at_fault_is_named_as_its_setting_is() -> None:
    with pytest.raises(ToaError, match=r"^metrics 192\.0\.2\.7:9100 can't be had: "):
        metrics.serve(("192.0.2.7", 9100), lambda: QUEUE, setting="metrics")


def test_an_address_of_another_host() -> None:
    with pytest.raises(ToaError, match=r"^-metrics 192\.0\.2\.7:9100 can't be had: Cannot assign"):
        metrics.serve(("192.0.2.7", 9100), lambda: QUEUE)


@pytest.mark.parametrize("host", ["::1", "::", "0.0.0.0"])
def test_other_addresses(address: tuple[str, int], host: str) -> None:
    stop = metrics.serve((host, address[1]), lambda: QUEUE)
    try:
        assert get((f"[{host}]" if ":" in host else LOCAL, address[1]))
    finally:
        stop()


def test_its_end_frees_the_port(address: tuple[str, int]) -> None:
    for _ in range(2):
        stop = metrics.serve(address, lambda: QUEUE)
        assert get(address)
        stop()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(address, timeout=10).close()
