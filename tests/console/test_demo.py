# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa demo --console``, as somebody tries it in a browser; and that it leaves nothing."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from cloud_toa.bpf import cgroup
from tests.cli.test_demo import _named, _of_session, _wait_for_end
from tests.console.conftest import watch
from tests.console.server import CLI, PASSWORD

pytestmark = pytest.mark.one_kernel


def test_toa_is_switched_on_in_the_demo(
    browser: Browser, ports: Iterator[int], tmp_path: Path
) -> None:
    before = _named()
    url = f"http://127.0.0.1:{next(ports)}"
    process = subprocess.Popen(
        [*CLI, "demo", "--console", "--port", url.rpartition(":")[2]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    link = next(line.strip() for line in process.stdout if line.startswith(url))
    faults: list[str] = []
    context = browser.new_context(base_url=url, locale="en-US", reduced_motion="reduce")
    try:
        page = context.new_page()
        watch(page, url, faults)
        page.goto(link)
        page.get_by_label("Name").fill("ada")
        page.get_by_label("New password").fill(PASSWORD)
        page.get_by_label("The same again").fill(PASSWORD)
        page.get_by_role("button", name="Make the account").click()
        page.goto("/toa")
        row = page.locator("#applied tbody tr")
        expect(row).to_contain_text("1 / 1", timeout=30_000)
        page.get_by_label("Enable TOA").check()
        page.get_by_role("button", name="Save", exact=True).click()
        expect(row).to_contain_text("2 / 2", timeout=30_000)

        page.goto("/quick-test")
        page.get_by_label("Client's address").fill("203.0.113.99")
        page.get_by_role("button", name="Test").click()
        shown = page.locator("#outcome")
        expect(shown).to_contain_text("The option went out", timeout=30_000)
        expect(shown.locator("dl")).to_contain_text(re.compile(r"203\.0\.113\.99:\d+"))
        expect(shown.locator(".packets")).to_contain_text("SYN")
        # The demo's visitors are on the charts.
        page.goto("/?range=15m")
        page.locator(".chart canvas").first.wait_for(timeout=90_000)
    finally:
        context.close()
        started = _of_session(process.pid)
        networks = {Path(f"/proc/{number}/ns/net").stat().st_ino for number in started}
        groups = [f"cloud-toa-lab-{process.pid}-*"]
        groups += [f"cloud-toa-haproxy-{network}" for network in networks]
        there = [path for group in groups for path in cgroup.root().glob(group)]
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert faults == []
    for number in started:
        _wait_for_end(number)
    assert _named() == before
    assert len(there) >= 2
    assert [path for path in there if path.exists()] == []
    assert list(tmp_path.iterdir()) == []


def test_a_taken_port_is_said(ports: Iterator[int]) -> None:
    import socket  # noqa: PLC0415

    port = next(ports)
    with socket.create_server(("127.0.0.1", port)):
        command = [*CLI, "demo", "--console", "--port", str(port)]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 2
    assert f"port {port} is taken" in said.stderr
