# SPDX-License-Identifier: Apache-2.0
"""A real browser at a real server. Each test's pages are watched: for errors, for violations of the
content policy, and for requests to any other host.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from tests.console.server import SERVICE, Api, FakeNode, Server

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-device-scale-factor=1",
)
# What a page was refused with is seen by the tests that ask for it.
_REFUSED = re.compile(
    r"Failed to load resource: the server responded with a status of (4(01|03|04|09|22)|503)"
)


# Until the last test of this folder, not of all: Playwright runs an event loop of its own in this
# thread, and others could not start one.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=list(ARGUMENTS)
        )
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def ports() -> Iterator[int]:
    """The tests' network has nobody else in it."""
    return iter(range(7800, 7900))


@pytest.fixture(scope="package")
def cluster(ports: Iterator[int]) -> Iterator["Cluster"]:
    """One that runs: three accounts, a service, two nodes of which one has failed."""
    with TemporaryDirectory(prefix="console-") as folder:
        with Server(Path(folder), next(ports)) as server:
            cluster = Cluster(server)
            yield cluster
            cluster.close()


class Cluster:
    """A server with people and nodes."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.api = server.set_up()
        for name in ("operator", "viewer"):
            self.api.add_user(name, name)
        self.api.save(SERVICE, "first service")
        self.good, self.bad = self.api.add_node("edge-1"), self.api.add_node("edge-2")
        self._by: dict[str, Api] = {"admin": self.api}

    def by(self, name: str) -> Api:
        """Somebody's login."""
        if name not in self._by:
            self._by[name] = Api(self.server.url, name)
        return self._by[name]

    def reset(self) -> None:
        """Have the settings as they were at the beginning."""
        if self.api.call("GET", "/api/settings")["text"] != SERVICE:
            self.api.save(SERVICE, "as it was")

    def close(self) -> None:
        for each in self._by.values():
            each.close()
        self.good.close()
        self.bad.close()


@pytest.fixture
def nodes(cluster: Cluster) -> tuple[FakeNode, FakeNode]:
    cluster.reset()
    cluster.good.say_usual()
    return cluster.good, cluster.bad


Opened = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser, cluster: Cluster) -> Iterator[Opened]:
    """Open a window, as somebody who is logged in, or nobody."""
    contexts: list[BrowserContext] = []
    faults: list[str] = []

    def open_(
        who: str | None = "operator",
        *,
        width: int = 1440,
        dark: bool = False,
        language: str = "en",
        url: str | None = None,
        script: bool = True,
    ) -> Page:
        base = url or cluster.server.url
        context = browser.new_context(
            base_url=base,
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            locale={"en": "en-US", "zh": "zh-CN"}[language],
            reduced_motion="reduce",
            java_script_enabled=script,
        )
        contexts.append(context)
        context.set_default_timeout(60_000)
        if who is not None:
            cookies = cluster.by(who).client.cookies
            context.add_cookies(
                [
                    {"name": cookie.name, "value": cookie.value or "", "url": base}
                    for cookie in cookies.jar
                ]
            )
        page = context.new_page()
        watch(page, base, faults)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert faults == []


def watch(page: Page, base: str, faults: list[str]) -> None:
    """Note what must not happen on any page."""

    def said(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not _REFUSED.match(message.text):
            faults.append(f"console: {message.text}")

    page.on("console", said)
    page.on("pageerror", lambda error: faults.append(f"script: {error}"))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((base, "data:"))
            else faults.append(f"request: {request.url}")
        ),
    )
