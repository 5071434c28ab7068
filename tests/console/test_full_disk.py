# SPDX-License-Identifier: Apache-2.0
"""A save that the store can't keep: it is said, and the text is still in the form."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from playwright.sync_api import expect

from cloud_toa.isolation import run
from tests.console.conftest import Opened
from tests.console.server import SERVICE, Api, Server


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        run("umount", str(folder))


def _fill(path: Path) -> None:
    written = True
    with path.open("wb", buffering=0) as file:
        while written:
            with suppress(OSError):
                written = False
                file.write(bytes(4096))
                written = True
    assert shutil.disk_usage(path.parent).free < 4096


def test_a_full_disk(opened: Opened, ports: Iterator[int], tmp_path: Path) -> None:
    with _small_disk(tmp_path / "disk") as disk, Server(disk, next(ports)) as server:
        api = server.set_up()
        api.save(SERVICE)
        page = opened(None, url=server.url)
        page.context.add_cookies(
            [
                {"name": cookie.name, "value": cookie.value or "", "url": server.url}
                for cookie in api.client.cookies.jar
            ]
        )
        page.goto("/text")
        page.get_by_label("Settings", exact=True).fill(SERVICE + "# Long. " + "x" * 100_000 + "\n")
        page.get_by_role("button", name="Show changes").click()
        page.get_by_label("Why").fill("a reason")
        _fill(disk / "filler")
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("not known to have been saved")
        expect(page.locator(".diff")).to_contain_text("+# Long.")
        expect(page.get_by_label("Why")).to_have_value("a reason")
        (disk / "filler").unlink()
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_text("Saved.", exact=True)).to_be_visible()
        assert "# Long." in _text(api)
        api.close()


def _text(api: Api) -> str:
    return str(api.call("GET", "/api/settings")["text"])
