# SPDX-License-Identifier: Apache-2.0
"""Every page of the console, with something on it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from playwright.sync_api import Page

from cloud_toa.cluster.model.protocol import Applied, Outcome
from tests.console.conftest import Cluster
from tests.console.server import SERVICE


@dataclass(frozen=True)
class Shown:
    """A page; ``name`` is its screenshot's."""

    name: str
    path: str
    who: str | None = "admin"
    do: Callable[[Page], None] | None = None
    """What is done there first."""


def fill(cluster: Cluster) -> list[Shown]:
    """Give a cluster something to show, and say where that is."""
    cluster.reset()
    good, bad = cluster.good, cluster.bad
    say(cluster)
    good.log(
        ("info", "TOA", "starting ..."),
        ("info", "TOA", "args: node --server https://console.example --token-file ..."),
        ("info", "HAProxy", "revision 2 is in force, without a reload"),
        ("warning", "HAProxy", "origin 192.0.2.8:80 of web is down: Connection refused"),
    )
    bad.log(("error", "TOA", "revision 2 is not in force: 0.0.0.0:8080 is in use by nginx"))
    _wait_for_totals(cluster)
    body = {"service": "web", "client": "203.0.113.7"}
    test = cluster.api.call("POST", f"/api/nodes/{good.id}/tests", body)["id"]
    good.finish(
        test,
        Outcome(
            client="203.0.113.7:40112",
            service="10.8.0.1:8080",
            origin="192.0.2.7:80",
            packets=["SYN", "ACK", "data"],
            answer={"cloud-toa": "echo", "client": "203.0.113.7:40112", "peer": "10.9.0.1:51234"},
            good=True,
        ),
    )
    if not cluster.api.call("GET", "/api/tokens"):
        cluster.api.call("POST", "/api/tokens", {"name": "backup of settings", "role": "viewer"})
    number = cluster.api.call("GET", "/api/settings")["number"]
    return [
        Shown("login", "/login", None),
        Shown("dashboard", "/"),
        Shown("nodes", "/nodes"),
        Shown("node", f"/nodes/{good.id}"),
        Shown("node-failed", f"/nodes/{bad.id}"),
        Shown("join", "/nodes/join", do=_press("Make the command", "生成命令")),
        Shown("node-remove", f"/nodes/{bad.id}/remove"),
        Shown("services", "/services"),
        Shown("service", "/services/web", do=_open_all),
        Shown("service-new", "/new-service"),
        Shown("toa", "/toa", do=_open_all),
        Shown("toa-refused", "/toa", do=_refuse_kind),
        Shown("general", "/general", do=_open_all),
        Shown("text", "/text"),
        Shown("confirm", "/services/web", do=_change_service),
        Shown("conflict", "/services/web", do=lambda page: _be_too_late(page, cluster)),
        Shown("history", "/history"),
        Shown("revision", f"/history/{number}"),
        Shown("logs", "/logs"),
        Shown("quick-test", f"/quick-test/{test}"),
        Shown("users", "/users"),
        Shown("user", "/users/viewer"),
        Shown("tokens", "/tokens"),
        Shown("audit", "/audit"),
        Shown("account", "/account"),
        Shown("not-found", "/nothing/here"),
    ]


def say(cluster: Cluster) -> None:
    """Have the nodes tell how they are; who has not for a while counts as offline."""
    cluster.good.say_usual()
    cluster.good.sample()
    wanted = cluster.bad.wanted()
    cluster.bad.say(
        Applied(
            revision=wanted - 1,
            wanted=wanted,
            error="settings, line 4: service web: 0.0.0.0:8080 is in use by nginx: "
            "stop that, or listen elsewhere",
        ),
        datapath="queue",
        why="this kernel refuses eBPF: Operation not permitted",
    )


def show(page: Page, shown: Shown) -> None:
    """Open a page, and wait until it is whole."""
    page.goto(shown.path)
    if shown.do:
        shown.do(page)
    if shown.name == "dashboard":
        page.locator("html[data-charts=shown]").wait_for()
        page.locator(".chart canvas").first.wait_for()


def _wait_for_totals(cluster: Cluster) -> None:
    """Servers keep sums of what nodes tell every few seconds."""
    deadline = time.monotonic() + 60
    while not cluster.api.call("GET", "/api/samples?minutes=60&step=30")["points"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _press(*names: str) -> Callable[[Page], None]:
    def press(page: Page) -> None:
        found = [page.get_by_role("button", name=name) for name in names]
        next(each for each in found if each.count()).click()
        page.locator(".copy").first.wait_for()

    return press


def _open_all(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")


def _refuse_kind(page: Page) -> None:
    page.locator("[name=option_type_v4]").fill("30")
    page.locator("button[name=do][value=save]").click()
    page.locator("#option_type_v4-mistake").wait_for()


def _change_service(page: Page) -> None:
    page.locator("[name='origin.1.port']").fill("8080")
    page.locator("button.main[value=compare]").click()
    page.locator(".diff").wait_for()


def _be_too_late(page: Page, cluster: Cluster) -> None:
    """Have another save while the form is open."""
    page.locator("[name='origin.1.port']").fill("8080")
    cluster.by("operator").save(SERVICE + "\n[toa]\noption_type_v4 = 253\n", "another kind")
    page.locator("button.main[value=compare]").click()
    page.locator(".two .diff").first.wait_for()
    cluster.reset()
