# SPDX-License-Identifier: Apache-2.0
"""What holds for every page: nothing wider than the screen, nothing that keeps people out, one
language. And pictures of all of them; see looks.py.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.console.conftest import Cluster, Opened
from tests.console.every_page import Shown, fill, say, show
from tests.console.looks import axe_faults, excess, foreign, keep_picture
from tests.console.server import Server

THEMES = pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])


@pytest.fixture(scope="module")
def pages(cluster: Cluster) -> list[Shown]:
    return fill(cluster)


@THEMES
def test_axe_finds_nothing_serious(
    cluster: Cluster, opened: Opened, pages: list[Shown], dark: bool
) -> None:
    found = {
        shown.name: faults
        for shown, page in _each(cluster, opened, pages, dark=dark)
        if (faults := axe_faults(page))
    }
    assert found == {}


@pytest.mark.parametrize("width", [390, 1440])
def test_no_page_is_wider_than_the_screen(
    cluster: Cluster, opened: Opened, pages: list[Shown], width: int
) -> None:
    wide = {
        shown.name: more
        for shown, page in _each(cluster, opened, pages, width=width)
        if (more := excess(page))
    }
    assert wide == {}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_page_has_one_language(
    cluster: Cluster, opened: Opened, pages: list[Shown], language: str
) -> None:
    found = {}
    for shown, page in _each(cluster, opened, pages, language=language):
        lang = page.locator("html").get_attribute("lang")
        assert lang == {"en": "en", "zh": "zh-CN"}[language], page.content()
        if texts := foreign(page, language):
            found[shown.name] = texts
    assert found == {}


@THEMES
def test_pictures_of_every_page(
    cluster: Cluster, opened: Opened, pages: list[Shown], dark: bool
) -> None:
    for shown, page in _each(cluster, opened, pages, dark=dark, width=1280):
        keep_picture(page, f"{shown.name}-{'dark' if dark else 'light'}")


EMPTY = ("/", "/nodes", "/services", "/toa", "/general", "/text", "/history", "/logs")
MORE_EMPTY = ("/quick-test", "/users", "/tokens", "/audit")


@THEMES
def test_pages_of_a_new_cluster(
    opened: Opened, ports: Iterator[int], tmp_path: Path, dark: bool
) -> None:
    """They say what to do next; and the first one of all, the set-up."""
    theme = "dark" if dark else "light"
    with Server(tmp_path, next(ports)) as server:
        nobody = opened(None, url=server.url, dark=dark, width=1280)
        nobody.goto(server.link)
        assert axe_faults(nobody) == []
        keep_picture(nobody, f"setup-{theme}")
        api = server.set_up()
        cookies = [
            {"name": cookie.name, "value": cookie.value or "", "url": server.url}
            for cookie in api.client.cookies.jar
        ]
        api.close()
        for language, width in (("en", 1280), ("zh", 390)):
            page = opened(None, url=server.url, dark=dark, width=width, language=language)
            page.context.add_cookies(cookies)  # type: ignore[arg-type]
            for path in (*EMPTY, *MORE_EMPTY):
                page.goto(path)
                assert page.get_by_role("heading", level=1).count() == 1, path
                assert (path, axe_faults(page)) == (path, [])
                assert (path, excess(page)) == (path, 0)
                assert (path, foreign(page, language)) == (path, [])
                if path == "/" and language == "en":
                    keep_picture(page, f"dashboard-new-{theme}")
                links = page.get_by_role("main").get_by_role("link")
                for at in range(links.count()):
                    to = links.nth(at).get_attribute("href")
                    assert page.request.get(to or "").ok, (path, to)


def _each(
    cluster: Cluster, opened: Opened, pages: list[Shown], **how: object
) -> Iterator[tuple[Shown, Page]]:
    """Each page in turn, in one window for each who looks."""
    windows: dict[str | None, Page] = {}
    for shown in pages:
        if shown.who not in windows:
            windows[shown.who] = opened(shown.who, **how)
        say(cluster)
        show(windows[shown.who], shown)
        yield shown, windows[shown.who]
