# SPDX-License-Identifier: Apache-2.0
"""docs/recipes/nginx.md with a real nginx, its workers without privilege."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from cloud_toa.demo.lab import Lab
from tests.recipes.page import page
from tests.recipes.web import PORT, start_origin, visit

PAGE = page("nginx")
ONE_FAMILY = "/etc/nginx/nginx.conf"
BOTH = f"{ONE_FAMILY}, clients of both families"
BOTH_V6 = f"{BOTH}, IPv6 origin"
MODULES = "include /etc/nginx/modules-enabled/*.conf;"
"""As in Debian's own nginx.conf; it has the module for streams."""


def write(lab: Lab, *parts: str) -> list[str]:
    """Write a configuration that leaves the machine's own files alone; answer its command."""
    file = lab.files / "nginx.conf"
    head = f"user www-data; worker_processes 2; pid {file}.pid; daemon off; error_log stderr;"
    file.write_text("\n".join([head, MODULES, "events { }", *parts]))
    return ["nginx", "-c", str(file)]


@pytest.mark.parametrize(
    ("block", "versions"), [(ONE_FAMILY, (4,)), (BOTH, (4, 6)), (BOTH_V6, (4, 6))]
)
def test_the_server_sees_the_client(
    lab: Lab, balancers: Path, servers: Path, block: str, versions: Sequence[int]
) -> None:
    log = start_origin(lab, servers)
    PAGE.attach("nginx.service", balancers)
    command = write(lab, PAGE.block(block))
    lab.start(lab.edge, command, [("", PORT)], place=balancers)
    for version in versions:
        client, seen = visit(lab, log, version)
        assert seen == client


def test_the_unit_attaches_as_the_page_does() -> None:
    line = PAGE.command("ExecStartPre=+/usr/local/bin/")
    assert line.endswith(PAGE.command("cloud-toa edge attach"))
