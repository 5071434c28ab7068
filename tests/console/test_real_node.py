# SPDX-License-Identifier: Apache-2.0
"""From the printed command to an address that arrives: a real node, HAProxy, origin and browser."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from cloud_toa.demo.lab import EDGE, EDGE_TO_ORIGIN, Lab
from tests.console.conftest import watch
from tests.console.real import browser_in
from tests.console.server import PASSWORD
from tests.netns.conftest import lab, receiver, receiving, servers
from tests.netns.edge_node import sweep
from tests.netns.sender import CLIENT
from tests.netns.test_edge_run import visit
from tests.netns.traffic import SERVER, listen, wait_until

__all__ = ["lab", "receiver", "receiving", "servers"]
pytestmark = pytest.mark.one_kernel

URL = "http://127.0.0.1:7788"
_APPLIED = 30_000
"""Milliseconds that a real node may take on a busy machine."""


def _start_console(lab: Lab) -> str:
    """Start it on the lab's edge; answer the link that it prints."""
    said = lab.files / "console.out"
    command = [sys.executable, "-u", "-m", "cloud_toa", "console", "--listen", "127.0.0.1:7788"]
    with said.open("wb") as stdout:
        store = ["--store", f"sqlite://{lab.files}/cluster.db"]
        lab.start(lab.edge, [*command, *store], [("", 7788)], stdout=stdout)
    # It listens before it prints.
    wait_until(lambda: re.search(r"token=\S+\n", said.read_text()) is not None)
    return re.search(r"http://\S+", said.read_text())[0]  # type: ignore[index]


@contextmanager
def _joining(lab: Lab, command: str) -> Iterator[None]:
    """Run the printed command on the lab's edge, with its files in the lab's folder.

    In the unit's place: a restart is the unit's command.
    """
    programs, etc = lab.files / "programs", lab.files / "etc"
    programs.mkdir()
    ours = (
        f"{sys.executable} -m cloud_toa node --token-file {etc}/node.token --state {lab.files}/node"
    )
    pid = lab.files / "node.pid"
    run = f"echo $$ >{pid}; exec {ours} $(sed s/^OPTIONS=// {etc}/node.env)"
    started = f'test "$1" != restart || {{ {run}; }}'
    for name, line in (("sudo", 'exec "$@"'), ("systemctl", started)):
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    with (lab.files / "node.log").open("wb") as log:
        process = lab.edge.popen(
            ["sh", "-c", command.replace("/etc/cloud-toa", str(etc))],
            environment={**os.environ, "PATH": path},
            stderr=log,
        )
    try:
        yield
    finally:
        os.kill(int(pid.read_text()), signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        sweep(lab)


def _set_up(page: Page, link: str) -> None:
    page.goto(link)
    page.get_by_label("Name").fill("ada")
    page.get_by_label("New password").fill(PASSWORD)
    page.get_by_label("The same again").fill(PASSWORD)
    page.get_by_role("button", name="Make the account").click()
    page.goto("/new-service")
    page.get_by_label("Name (required)").fill("web")
    page.get_by_label("Listens on").fill(f"{EDGE[4]}:8080")
    page.get_by_label("Address (required)").fill(SERVER[0])
    page.get_by_label("Port").fill(str(SERVER[1]))
    page.get_by_label("TOA to its origins").uncheck()
    page.get_by_text("Balancing, checks and timeouts").click()
    page.get_by_text("Health checks").click()
    page.get_by_label("Check origins").uncheck()
    page.get_by_role("button", name="Show changes").last.click()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Saved.", exact=True)).to_be_visible()


def test_a_real_node_joins_and_applies_toa(lab: Lab, receiver: Path, browser: Browser) -> None:
    faults: list[str] = []
    link = _start_console(lab)
    with (
        listen(lab, receiver, ("::", SERVER[1])) as listener,
        browser_in(lab.edge, lab, browser) as inside,
    ):
        context = inside.new_context(base_url=URL, locale="en-US", reduced_motion="reduce")
        page = context.new_page()
        watch(page, URL, faults)
        _set_up(page, link)
        page.goto("/nodes/join")
        page.get_by_role("button", name="Make the command").click()
        command = page.locator(".copy code").inner_text()
        page.goto("/toa")
        expect(page.locator("#applied")).to_contain_text("Get a command")
        with _joining(lab, command):
            row = page.locator("#applied tbody tr")
            expect(row).to_contain_text("Applied", timeout=_APPLIED)
            expect(row).to_contain_text("1 / 1")
            # The service has no TOA yet: the origin sees the edge.
            assert visit(lab, listener, CLIENT, (EDGE[4], 8080))[0] == EDGE_TO_ORIGIN[4]

            page.goto("/services/web")
            page.get_by_label("TOA to its origins").check()
            page.get_by_role("button", name="Show changes").last.click()
            page.get_by_role("button", name="Save", exact=True).click()
            page.goto("/toa")
            expect(row).to_contain_text("2 / 2", timeout=_APPLIED)
            expect(row).to_contain_text("Applied")
            assert visit(lab, listener, CLIENT, (EDGE[4], 8080)) == CLIENT

            # Another kind, which this origin does not read; and back.
            page.get_by_label("Enable TOA").uncheck()
            page.get_by_role("button", name="Save", exact=True).click()
            expect(row).to_contain_text("3 / 3", timeout=_APPLIED)
            assert visit(lab, listener, CLIENT, (EDGE[4], 8080))[0] == EDGE_TO_ORIGIN[4]
            page.get_by_label("Enable TOA").check()
            page.get_by_role("button", name="Save", exact=True).click()
            expect(row).to_contain_text("4 / 4", timeout=_APPLIED)
            assert visit(lab, listener, CLIENT, (EDGE[4], 8080)) == CLIENT

            page.goto("/nodes")
            page.locator("tbody a").click()
            expect(page.locator("#node")).to_contain_text("Online")
            expect(page.locator("#node")).to_contain_text("bpf")
            counted = page.get_by_text("TOA written / no room / failed").locator("+ dd")
            expect(counted).to_have_text("2 / 0 / 0", timeout=_APPLIED)
            page.goto("/logs?tag=TOA")
            expect(page.locator("#lines")).to_contain_text("starting ...")
        context.close()
    assert faults == []
    wait_until(lambda: not lab.edge.listens(8080))
