# SPDX-License-Identifier: Apache-2.0
"""From the printed link to TOA that is switched on, by hand in a browser."""

from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import expect

from tests.console.conftest import Opened
from tests.console.server import PASSWORD, Server


def test_from_the_link_to_toa(opened: Opened, ports: Iterator[int], tmp_path: Path) -> None:
    with Server(tmp_path, next(ports)) as server:
        page = opened(None, url=server.url)
        page.goto(server.link)
        page.get_by_label("Name").fill("ada")
        page.get_by_label("New password").fill("short")
        page.get_by_label("The same again").fill("shorter")
        page.get_by_label("Name").fill("ada!")
        page.get_by_role("button", name="Make the account").click()
        expect(page.locator("#name-mistake")).to_contain_text("can't be called")
        expect(page.locator("#password-mistake")).to_contain_text("12 characters at least")
        expect(page.locator("#again-mistake")).to_contain_text("differ")
        page.get_by_label("Name").fill("ada")
        page.get_by_label("New password").fill(PASSWORD)
        page.get_by_label("The same again").fill(PASSWORD + "x")
        page.get_by_role("button", name="Make the account").click()
        expect(page.locator("#again-mistake")).to_contain_text("differ")
        page.get_by_label("New password").fill(PASSWORD)
        page.get_by_label("The same again").fill(PASSWORD)
        page.get_by_role("button", name="Make the account").click()
        expect(page.get_by_role("status").first).to_contain_text("first administrator")

        # The link works once.
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_text("You are logged out.")).to_be_visible()
        page.goto(server.link)
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        page.get_by_label("Name").fill("ada")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()

        page.get_by_role("link", name="TOA", exact=True).click()
        page.get_by_role("main").get_by_role("link", name="Add a service").click()
        page.get_by_label("Name (required)").fill("web")
        page.get_by_label("Listens on").fill("0.0.0.0:8080\n[::]:8080")
        page.get_by_label("Address (required)").fill("192.0.2.7")
        page.get_by_label("Port").fill("80")
        page.get_by_role("button", name="Show changes").click()
        expect(page.locator(".diff")).to_contain_text('+name = "web"')
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_text("Saved.", exact=True)).to_be_visible()

        page.get_by_role("link", name="TOA", exact=True).click()
        enable = page.get_by_label("Enable TOA")
        expect(enable).to_be_checked()
        enable.uncheck()
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_text("Saved.", exact=True)).to_be_visible()
        expect(enable).not_to_be_checked()
        enable.check()
        page.get_by_label("IPv4 option kind").fill("253")
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_text("Saved.", exact=True)).to_be_visible()
        expect(enable).to_be_checked()

        page.get_by_role("link", name="History").click()
        newest = page.get_by_role("row").nth(1)
        expect(newest).to_contain_text("toa: enabled = true, option_type_v4 = 253")
        expect(newest).to_contain_text("ada")
