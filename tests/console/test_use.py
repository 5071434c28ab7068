# SPDX-License-Identifier: Apache-2.0
"""Getting in, around and about: keyboard, language, theme, nodes, logs, quick tests, people."""

import re

from playwright.sync_api import Page, expect

from cloud_toa.cluster.model.protocol import Outcome
from tests.console.conftest import Cluster, Opened
from tests.console.server import PASSWORD, FakeNode
from tests.console.test_saving import Nodes, text


def _tab_to(page: Page, wanted: str) -> None:
    """Press the tabulator until the focus is there, as somebody without a mouse does."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("(wanted) => document.activeElement.matches(wanted)", wanted):
            return
    raise AssertionError(f"the focus does not get to {wanted}")


def test_by_keyboard_alone(opened: Opened, cluster: Cluster, nodes: Nodes) -> None:
    page = opened(None)
    page.goto("/toa")
    # Whoever is not logged in gets there afterwards.
    expect(page.locator("#name")).to_be_focused()
    page.keyboard.type("operator")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/toa$"))
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the page")).to_be_focused()
    page.keyboard.press("Enter")
    _tab_to(page, "[name=option_type_v4]")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.type("253")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Saved.", exact=True)).to_be_visible()
    assert "option_type_v4 = 253" in text(cluster)
    page.keyboard.press("Escape")
    page.locator("body").press("g")
    page.locator("body").press("n")
    expect(page).to_have_url(re.compile("/nodes$"))
    page.locator("body").press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_enter_in_a_service_compares_and_does_not_add_rows(opened: Opened, nodes: Nodes) -> None:
    page = opened("operator")
    page.goto("/services/web")
    page.locator("[name='origin.0.port']").fill("8081")
    page.locator("[name='origin.0.port']").press("Enter")
    expect(page.locator(".diff")).to_contain_text("+port = 8081")


def test_wrong_passwords(opened: Opened, cluster: Cluster) -> None:
    page = opened(None)
    page.goto("/login")
    page.get_by_label("Name").fill("operator")
    page.get_by_label("Password").fill("not this one at all")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("Name or password are wrong.")
    expect(page.get_by_label("Name")).to_have_value("operator")
    # Nobody is led to another site.
    page.goto("/login?next=//example.com/")
    page.get_by_label("Name").fill("operator")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{cluster.server.url}/")


def test_language_and_theme_are_switched_and_kept(opened: Opened, nodes: Nodes) -> None:
    page = opened("viewer")
    page.goto("/nodes")
    page.get_by_role("button", name="中文").click()
    expect(page).to_have_url(re.compile("/nodes$"))
    expect(page.get_by_role("heading", level=1)).to_have_text("边缘节点")
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    page.get_by_role("button", name="主题：深色").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark == "rgb(15, 18, 22)"
    # With the account: also in another browser.
    other = opened("viewer")
    other.goto("/nodes")
    expect(other.get_by_role("heading", level=1)).to_have_text("边缘节点")
    other.get_by_role("button", name="English").click()
    expect(other.get_by_role("heading", level=1)).to_have_text("Nodes")
    # Before the login it is the browser's.
    nobody = opened(None)
    nobody.goto("/login?next=/nodes")
    nobody.get_by_role("link", name="中文").click()
    expect(nobody.get_by_role("heading", level=1)).to_have_text("登录")
    expect(nobody.locator("[name=next]")).to_have_value("/nodes")


def test_a_node_joins_by_the_command(opened: Opened, cluster: Cluster) -> None:
    page = opened("operator")
    page.goto("/nodes/join")
    page.get_by_label("How many nodes").fill("0")
    page.get_by_role("button", name="Make the command").click()
    expect(page.locator("#uses-mistake")).to_contain_text("from 1 to 1000")
    page.get_by_label("How many nodes").fill("1")
    page.get_by_role("button", name="Make the command").click()
    command = page.locator(".copy code").inner_text()
    assert f"--server {cluster.server.url} " in command
    found = re.search(r"echo (join_\S+) \| sudo ", command)
    assert found
    page.get_by_role("button", name="Copy the command").click()
    expect(page.get_by_text("Copied").first).to_be_attached()

    watching = opened("viewer")
    watching.goto("/nodes")
    node = FakeNode(cluster.server.url, "edge-new", found[1])
    row = watching.get_by_role("row").filter(has_text="edge-new")
    expect(row).to_contain_text("Offline")
    node.say_usual()
    expect(row).to_contain_text("Online")

    page.goto(f"/nodes/{node.id}")
    page.get_by_role("button", name="Drain").click()
    expect(page.locator("#node")).to_contain_text("drained")
    page.get_by_role("button", name="Re-issue token").click()
    assert page.locator(".copy code").first.inner_text().startswith("node_")
    page.get_by_role("link", name="Remove the node").click()
    page.get_by_role("button", name="Remove the node").click()
    expect(page.get_by_text("The node was removed.")).to_be_visible()
    expect(row).to_have_count(0)
    node.close()


def test_logs_are_filtered_and_followed(opened: Opened, cluster: Cluster, nodes: Nodes) -> None:
    good, bad = nodes
    good.log(("info", "TOA", "one of many"), ("error", "HAProxy", "<b>bad</b> thing"))
    bad.log(("warning", "TOA", "of another"))
    page = opened("viewer")
    page.goto("/logs")
    lines = page.locator("#lines")
    expect(lines).to_contain_text("one of many")
    expect(lines).to_contain_text("<b>bad</b> thing")
    page.get_by_label("Level").select_option("warning")
    page.get_by_label("Node").select_option(label="edge-1")
    page.get_by_role("button", name="Show").click()
    expect(lines).to_contain_text("thing")
    expect(lines).not_to_contain_text("one of many")
    expect(lines).not_to_contain_text("of another")
    page.get_by_role("link", name="Follow live").click()
    expect(page.get_by_text("New lines appear on top.")).to_be_visible()
    page.evaluate("window.same = true")
    bad.log(("error", "TOA", "not asked for"))
    good.log(("info", "TOA", "too low"), ("error", "TOA", "came just now"))
    expect(lines.get_by_role("row").first).to_contain_text("came just now")
    expect(lines).not_to_contain_text("too low")
    expect(lines).not_to_contain_text("not asked for")
    assert page.evaluate("window.same")
    page.locator("body").press("/")
    expect(page.get_by_label("Word")).to_be_focused()
    page.goto("/logs?word=nothing+like+it")
    expect(page.get_by_text("No line fits these filters.")).to_be_visible()


def test_quick_test_shows_packets_and_what_the_origin_saw(
    opened: Opened, cluster: Cluster, nodes: Nodes
) -> None:
    good, _ = nodes
    page = opened("operator")
    page.goto("/quick-test")
    page.get_by_label("Node").select_option(value=good.id)
    page.get_by_label("Client's address").fill("not an address")
    page.get_by_role("button", name="Test").click()
    expect(page.locator("#client-mistake")).to_contain_text("not an IP address")
    page.get_by_label("Client's address").fill("203.0.113.7")
    page.get_by_role("button", name="Test").click()
    expect(page.get_by_text("The node was asked")).to_be_visible()
    outcome = Outcome(
        client="203.0.113.7:40112",
        service="10.8.0.1:8080",
        origin="192.0.2.7:80",
        packets=["SYN", "ACK", "data"],
        answer={"client": "203.0.113.7:40112"},
        good=True,
    )
    good.finish(page.url.rpartition("/")[2], outcome)
    shown = page.locator("#outcome")
    expect(shown).to_contain_text("The option went out")
    expect(shown.locator(".packets li")).to_have_text(["SYN", "ACK", "data"])
    expect(shown.locator("dd")).to_have_text("203.0.113.7:40112")


def test_people_tokens_and_the_audit_log(opened: Opened, cluster: Cluster) -> None:
    page = opened("admin")
    page.goto("/users")
    page.get_by_label("Name", exact=True).fill("grace")
    page.get_by_label("First password").fill("short")
    page.get_by_role("button", name="Add a user").click()
    expect(page.locator("#password-mistake")).to_contain_text("12 characters")
    expect(page.get_by_label("Name", exact=True)).to_have_value("grace")
    page.get_by_label("First password").fill(PASSWORD)
    page.get_by_role("button", name="Add a user").click()
    row = page.get_by_role("row").filter(has_text="grace")
    expect(row).to_be_visible()
    row.get_by_label("Role of grace").select_option("operator")
    row.get_by_role("button", name="Change").click()
    expect(page.get_by_text("The role was changed.")).to_be_visible()
    page.get_by_label("Role of admin").select_option("viewer")
    page.get_by_role("button", name="Change admin").click()
    expect(page.get_by_role("alert")).to_contain_text("last administrator")
    page.goto("/users/grace")
    page.get_by_role("button", name="Remove the user").click()
    expect(row).to_have_count(0)

    page.goto("/tokens")
    page.get_by_label("What it is for").fill("a program")
    page.get_by_role("button", name="Make a token").click()
    secret = page.locator(".copy code").first.inner_text()
    assert secret.startswith("toa_")
    page.get_by_role("button", name="Remove a program").click()
    expect(page.get_by_text("The token is no longer good.")).to_be_visible()

    page.goto("/audit")
    rows = page.get_by_role("row")
    expect(rows.nth(1)).to_contain_text("API token removed")
    expect(rows.filter(has_text="Role changed").first).to_contain_text("operator")
    assert secret not in page.content()


def test_an_account_changes_its_password(opened: Opened, cluster: Cluster) -> None:
    cluster.api.add_user("margaret", "viewer")
    page = opened("margaret")
    page.goto("/account")
    page.get_by_label("Current password").fill("wrong password")
    page.get_by_label("New password").fill("another password")
    page.get_by_label("The same again").fill("another password")
    page.get_by_role("button", name="Change the password").click()
    expect(page.locator("#current-mistake")).to_contain_text("wrong")
    page.get_by_label("Current password").fill(PASSWORD)
    page.get_by_label("New password").fill("another password")
    page.get_by_label("The same again").fill("another password")
    page.get_by_role("button", name="Change the password").click()
    expect(page.get_by_text("The password was changed.")).to_be_visible()


def test_on_a_small_screen_the_menu_is_folded(opened: Opened, nodes: Nodes) -> None:
    page = opened("viewer", width=390)
    page.goto("/nodes")
    link = page.get_by_role("link", name="Services")
    expect(link).to_be_hidden()
    page.get_by_role("button", name="Menu").click()
    link.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Services")
    # Each cell says what it is.
    name = page.locator("td[data-name]").first
    assert page.evaluate(
        "(cell) => getComputedStyle(cell, '::before').content", name.element_handle()
    )
