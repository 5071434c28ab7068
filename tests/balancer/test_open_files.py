# SPDX-License-Identifier: Apache-2.0
"""open_files.py: connections that a limit leaves room for, and what is said of too few.

With the real HAProxy in `tests.netns.test_edge_open_files`.
"""

import os
import resource
import subprocess

import pytest

from cloud_toa.balancer import open_files
from cloud_toa.balancer.open_files import connections, warnings
from cloud_toa.balancer.settings import Service
from cloud_toa.errors import ToaError
from cloud_toa.node.edge_file import parse

ONE = """
[[service]]
name = "web"
listen = ["0.0.0.0:80", "[::]:80"]
[[service.origin]]
address = "192.0.2.7"
"""
BESIDE = 1000 + 2 + 1
REMEDY = "raise LimitNOFILE in the unit (ulimit -Hn)"


def services(text: str = ONE) -> tuple[Service, ...]:
    return parse(text, "edge.toml").service


@pytest.mark.parametrize(
    ("asked", "files", "most"),
    [
        (None, BESIDE + 2, 1),
        (None, BESIDE + 201, 100),
        (None, 1 << 20, 100_000),
        (200_000, 1 << 20, 200_000),
        (100, BESIDE + 200, 100),
        (5, 1 << 20, 5),
    ],
)
def test_connections(asked: int | None, files: int, most: int) -> None:
    assert connections(asked, files, services()) == most


@pytest.mark.parametrize(
    ("asked", "files", "why"),
    [
        (
            101,
            BESIDE + 200,
            (
                "haproxy.max_connections 101 is more than the limit of open files, "
                f"{BESIDE + 200}, allows: 100: lower it, or {REMEDY}"
            ),
        ),
        (
            None,
            BESIDE + 1,
            (
                f"the limit of open files is {BESIDE + 1}, and HAProxy needs {BESIDE} beside "
                f"connections: {REMEDY}, or listen on fewer ports"
            ),
        ),
        (1, 10, "the limit of open files is 10, and"),
    ],
)
def test_too_few(asked: int | None, files: int, why: str) -> None:
    with pytest.raises(ToaError) as refused:
        connections(asked, files, services())
    assert str(refused.value).startswith(why)


def test_what_else_is_open() -> None:
    """Ports that are listened on, once where services share them, and checks."""
    tls = 'protocol = "tls"\nserver_names = ["{0}"]\ntls.certificates = [{{certificate = "/x"}}]\n'
    of_range = ONE.replace(':80"', ':8000-8999"')
    shared = "".join(
        ONE.replace("web", name).replace("[[service.o", tls.format(name) + "[[service.o")
        for name in ("a.test", "b.test")
    )
    unchecked = ONE.replace("[[service.o", "check.enabled = false\n[[service.o")
    for text, beside in ((of_range, 2001), (shared, 4), (unchecked, 2)):
        files = 1000 + beside + 20
        assert connections(None, files, services(text)) == 10, text
        assert connections(None, files - 1, services(text)) == 9, text


def test_warnings() -> None:
    few, enough = BESIDE + 200, 1 << 20
    limited = services(ONE.replace("[[service.o", "max_connections = 500\n[[service.o"))
    assert not list(warnings(None, enough, limited))
    assert not list(warnings(100, few, services()))
    (said,) = warnings(None, few, services())
    assert said == (
        "no more than 100 connections at a time, as the limit of open files is 1203: "
        f"{REMEDY}, or write haproxy.max_connections = 100"
    )
    never = "service web never has its max_connections 500: all services together have "
    assert list(warnings(499, enough, limited)) == [f"{never}499 (haproxy.max_connections)"]
    assert list(warnings(None, few, limited))[1:] == [f"{never}100"]


def test_the_limit_of_another_process() -> None:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    child = subprocess.Popen(["sleep", "60"])
    try:
        resource.prlimit(child.pid, resource.RLIMIT_NOFILE, (100, 1234))
        assert open_files.of(child.pid) == 1234
    finally:
        child.kill()
        child.wait()
    assert open_files.of(os.getpid()) >= soft
