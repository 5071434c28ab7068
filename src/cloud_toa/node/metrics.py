# SPDX-License-Identifier: Apache-2.0
"""What an edge has done, as Prometheus reads it (text exposition format 0.0.4)."""

import http.client
import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from cloud_toa.balancer.families import split
from cloud_toa.errors import ToaError

Shown = Mapping[str, Any]
"""What `status.edge` answers."""


class _Edge(Collector):
    def __init__(self, shown: Callable[[], Shown | None]) -> None:
        self._shown = shown

    def collect(self) -> Iterable[Metric]:
        """One reading of everything."""
        shown = self._shown()
        if shown is None:
            return
        info = GaugeMetricFamily(
            "cloud_toa_datapath", "1 for the datapath that is at work", labels=["datapath"]
        )
        info.add_metric([shown["datapath"]], 1)
        yield info
        for name, value in shown["counters"].items():
            yield _counter(f"cloud_toa_edge_{name}", f"sender's counter {name}", value)
        if workers := shown.get("workers"):
            for name in ("restarts", *workers[0]["counters"]):
                family = CounterMetricFamily(
                    f"cloud_toa_worker_{name}", f"worker's counter {name}", labels=["queue"]
                )
                for worker in workers:
                    counts = {"restarts": worker["restarts"], **worker["counters"]}
                    family.add_metric([str(worker["queue"])], counts[name])
                yield family
        for name, value in shown.get("control", {}).items():
            if name == "peers":
                yield GaugeMetricFamily("cloud_toa_control_peers", "peers connected", value)
            else:
                yield _counter(
                    f"cloud_toa_control_{name}", f"control socket's counter {name}", value
                )


class _Balancer(Collector):
    """What HAProxy itself serves on a socket of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def collect(self) -> Iterable[Metric]:
        """Its metrics as they are; without it, only that it is not there."""
        up = GaugeMetricFamily("cloud_toa_haproxy_up", "1 where HAProxy answers")
        try:
            text = self._read()
        except (OSError, http.client.HTTPException):
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        yield from map(_by_service, text_string_to_metric_families(text))

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: HAProxy may not run yet."""
        return []

    def _read(self) -> str:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(str(self._path))
            sock.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            answer = http.client.HTTPResponse(sock)
            answer.begin()
            return answer.read().decode()


def _by_service(family: Metric) -> Metric:
    """With a service's name as ``proxy``; where that has several backends, ``part`` says which."""
    family.samples = [
        sample._replace(labels={**sample.labels, "proxy": found[0], "part": found[1]})
        if (found := split(sample.labels.get("proxy", "")))[1]
        else sample
        for sample in family.samples
    ]
    return family


def serve(
    address: tuple[str, int],
    shown: Callable[[], Shown | None],
    haproxy: Path | None = None,
    setting: str = "-metrics",
) -> Callable[[], None]:
    """Serve metrics at ``http://address/metrics`` in a thread; answer how to stop it.

    Args:
        address: an IP address and a port.
        shown: asked at each reading; None where there is nothing to show yet.
        haproxy: a socket with HAProxy's own, which are shown as well.
        setting: by which the address was given, for the error.

    Raises:
        ToaError: the address can't be had.
    """
    registry = CollectorRegistry()
    registry.register(_Edge(shown))
    if haproxy is not None:
        registry.register(_Balancer(haproxy))
    host, port = address
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise ToaError(
            f"{setting} {host}:{port} can't be had: {error.strerror}: choose another address"
        ) from None

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


def _counter(name: str, help_text: str, value: int) -> Metric:
    return CounterMetricFamily(name, help_text, value)
