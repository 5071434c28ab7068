# SPDX-License-Identifier: Apache-2.0
"""What is saved, what is refused, and what becomes of two who save at once."""

import re

import pytest
from playwright.sync_api import expect

from tests.console.conftest import Cluster, Opened
from tests.console.server import SERVICE, FakeNode

Nodes = tuple[FakeNode, FakeNode]


def text(cluster: Cluster) -> str:
    return str(cluster.api.call("GET", "/api/settings")["text"])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("option_type_v4", "30", "in use for Multipath TCP"),
        ("option_type_v6", "300", "0 to 255"),
        ("option_type_v4", "abc", "write a number"),
        ("min_queue_id", "70000", "a number from 0 to 65535"),
    ],
)
def test_a_refused_value_has_its_message_beside_the_field(
    opened: Opened, cluster: Cluster, nodes: Nodes, field: str, value: str, message: str
) -> None:
    page = opened("operator")
    page.goto("/toa")
    page.get_by_text("More options").click()
    page.locator(f"[name={field}]").fill(value)
    page.get_by_role("button", name="Save", exact=True).click()
    input_ = page.locator(f"[name={field}]")
    expect(input_).to_have_attribute("aria-invalid", "true")
    expect(input_).to_have_value(value)
    expect(input_).to_be_visible()
    beside = page.locator(f"#{field}-mistake")
    expect(beside).to_contain_text(message)
    assert f"{field}-mistake" in (input_.get_attribute("aria-describedby") or "")
    expect(page.get_by_role("alert")).to_contain_text("Not saved")
    assert text(cluster) == SERVICE


def test_two_wrong_values_are_both_told(opened: Opened, nodes: Nodes) -> None:
    page = opened("operator", language="zh")
    page.goto("/toa")
    page.get_by_label("IPv4选项类型数值").fill("8")
    page.get_by_label("IPv6选项类型数值").fill("1000")
    page.get_by_role("button", name="保存").click()
    expect(page.locator("#option_type_v4-mistake")).to_contain_text("类型数值8已被占用")
    expect(page.locator("#option_type_v6-mistake")).to_contain_text("类型数值1000超出范围")


def test_queue_ids_that_are_swapped(opened: Opened, nodes: Nodes) -> None:
    page = opened("operator")
    page.goto("/toa")
    page.get_by_text("More options").click()
    page.get_by_label("First queue id").fill("9")
    page.get_by_label("Last queue id").fill("3")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#min_queue_id-mistake")).to_contain_text("swap them")


def test_toa_shows_who_has_applied_it_as_it_happens(
    opened: Opened, cluster: Cluster, nodes: Nodes
) -> None:
    good, _ = nodes
    page = opened("operator")
    page.goto("/toa")
    row = page.locator("#applied tr", has_text="edge-1")
    expect(row).to_contain_text("Applied")
    page.get_by_label("IPv6 option kind").fill("253")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(row).to_contain_text("Waiting")
    page.evaluate("window.same = true")
    good.say_usual()
    expect(row).to_contain_text("Applied")
    assert page.evaluate("window.same"), "the page was loaded anew"
    # What was written beside it is still there.
    assert "# Kept by every form." in text(cluster)


def test_a_viewer_sees_and_cannot_save(opened: Opened, cluster: Cluster, nodes: Nodes) -> None:
    page = opened("viewer")
    for path in ("/toa", "/services/web", "/text", "/general"):
        page.goto(path)
        main = page.get_by_role("main")
        expect(main).to_contain_text("You can look")
        expect(main.get_by_role("button", name=re.compile("Save|Show changes"))).to_have_count(0)
    page.goto("/toa")
    expect(page.get_by_label("Enable TOA")).to_be_disabled()
    expect(page.get_by_role("link", name="Users")).to_have_count(0)
    # Who writes the form himself is refused by the server.
    page.evaluate(
        """() => {
        const form = document.querySelector("form[action='/toa']");
        for (const [name, value] of [["option_type_v4", "253"], ["do", "save"]])
          form.insertAdjacentHTML("beforeend", `<input name="${name}" value="${value}">`);
        form.submit();
        }"""
    )
    expect(page.get_by_role("alert")).to_contain_text("viewer is viewer: this takes operator")
    for path in ("/new-service", "/users", "/tokens", "/audit"):
        answer = page.goto(path)
        assert answer is not None
        assert answer.status == 403
    assert text(cluster) == SERVICE


def test_two_operators_at_once(opened: Opened, cluster: Cluster, nodes: Nodes) -> None:
    """They change different things: the second is told, sees both, and saves both."""
    first, second = opened("operator"), opened("admin")
    first.goto("/toa")
    second.goto("/services/web")
    first.get_by_label("IPv4 option kind").fill("253")
    first.get_by_role("button", name="Save", exact=True).click()
    expect(first.get_by_text("Saved.", exact=True)).to_be_visible()

    second.get_by_label("Port").first.fill("8081")
    second.get_by_role("button", name="Show changes").last.click()
    expect(second.get_by_role("alert")).to_contain_text("operator has saved revision")
    expect(second.get_by_role("heading", name="Change by operator")).to_be_visible()
    assert "option_type_v4" not in text(cluster).split("[[service]]")[1]
    assert "8081" not in text(cluster)
    both = second.get_by_label("Text to be saved").input_value()
    assert "port = 8081" in both
    assert "option_type_v4 = 253" in both
    second.get_by_role("button", name="Compare with what is in force").click()
    second.get_by_label("Why").fill("another port")
    second.get_by_role("button", name="Save", exact=True).click()
    expect(second.get_by_role("row").nth(1)).to_contain_text("another port")
    assert "port = 8081" in text(cluster)
    assert "option_type_v4 = 253" in text(cluster)


def test_two_operators_at_the_same_line(opened: Opened, cluster: Cluster, nodes: Nodes) -> None:
    first, second = opened("operator"), opened("admin")
    for page, port in ((first, "8081"), (second, "8082")):
        page.goto("/services/web")
        page.get_by_label("Port").first.fill(port)
        page.get_by_role("button", name="Show changes").last.click()
        expect(page.locator(".diff")).to_contain_text(f"+port = {port}")
    # Both are at the last step: the server sees it all the same.
    first.get_by_role("button", name="Save", exact=True).click()
    expect(first.get_by_text("Saved.", exact=True)).to_be_visible()
    second.get_by_role("button", name="Save", exact=True).click()
    expect(second.get_by_text("The two are about the same lines")).to_be_visible()
    expect(second.locator(".diff").first).to_contain_text("+port = 8082")
    expect(second.locator(".diff").nth(1)).to_contain_text("+port = 8081")
    assert "port = 8082" in second.get_by_label("Text to be saved").input_value()
    assert "port = 8081" in text(cluster)


def test_a_service_with_rows(opened: Opened, cluster: Cluster, nodes: Nodes) -> None:
    """Rows come and go, with what was typed kept; and the file has what was meant."""
    page = opened("operator")
    page.goto("/new-service")
    page.get_by_label("Name (required)").fill("shop")
    page.get_by_label("Listens on").fill("0.0.0.0:8443")
    page.get_by_label("Protocol", exact=True).select_option("tls")
    page.get_by_text("TLS with clients").click()
    page.get_by_label("File with the certificate").fill("/etc/cloud-toa/shop.pem")
    page.locator("[name='origin.0.address']").fill("app.example.com")
    page.get_by_role("button", name="Add an origin").click()
    page.locator("[name='origin.1.address']").fill("192.0.2.9")
    page.get_by_role("button", name="Add an origin").click()
    page.locator("[name='origin.2.address']").fill("192.0.2.10")
    page.locator("[name='origin.2.weight']").fill("7")
    page.get_by_role("button", name="Remove Origin 2").click()
    expect(page.locator("[name='origin.1.address']")).to_have_value("192.0.2.10")
    expect(page.get_by_label("Listens on")).to_have_value("0.0.0.0:8443")
    page.get_by_role("button", name="Show changes").last.click()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Saved.", exact=True)).to_be_visible()
    after = text(cluster)
    assert after.startswith(SERVICE)
    said = after.removeprefix(SERVICE)
    for line in ('name = "shop"', 'protocol = "tls"', "weight = 7", 'address = "192.0.2.10"'):
        assert line in said
    assert "192.0.2.9" not in said

    # All mistakes at once, each at its field; what is of other services as well.
    page.goto("/services/shop")
    page.locator("[name='origin.0.address']").fill("no such name!")
    page.locator("[name='origin.1.weight']").fill("1000")
    page.get_by_label("Name (required)").fill("web")
    page.get_by_role("button", name="Show changes").last.click()
    for field, said in (
        ("origin-0-address", "neither an IP address"),
        ("origin-1-weight", "write a number from 0 to 256"),
        ("name", "two services are named web"),
    ):
        expect(page.locator(f"#{field}-mistake")).to_contain_text(said)

    page.goto("/services/shop")
    page.locator("[name='origin.1.address']").fill("192.0.2.10, 192.0.2.11")
    page.get_by_role("button", name="Show changes").last.click()
    expect(page.locator("#origin-1-address-mistake")).to_contain_text("of one IP version")
    expect(page.locator("[name='origin.1.address']")).to_have_value("192.0.2.10, 192.0.2.11")
    page.locator("[name='origin.1.address']").fill("192.0.2.10, 2001:db8::10")
    page.get_by_role("button", name="Show changes").last.click()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Saved.", exact=True)).to_be_visible()
    assert 'address = ["192.0.2.10", "2001:db8::10"]' in text(cluster)
    page.goto("/services")
    expect(page.get_by_text("192.0.2.10, 2001:db8::10")).to_be_visible()
    page.goto("/services/shop")
    expect(page.locator("[name='origin.1.address']")).to_have_value("192.0.2.10, 2001:db8::10")
    page.goto("/services/shop")
    page.get_by_role("button", name="Remove the service").click()
    page.get_by_role("button", name="Save", exact=True).click()
    assert "shop" not in text(cluster)


def test_going_back(opened: Opened, cluster: Cluster, nodes: Nodes) -> None:
    cluster.api.save(SERVICE + "# Changed.\n", "a comment")
    page = opened("operator")
    page.goto("/history")
    first = page.get_by_role("row").filter(has_text="first service").get_by_role("link")
    first.click()
    expect(page.locator(".diff").first).to_contain_text("+# Changed.")
    page.get_by_role("button", name="Go back to this revision").click()
    expect(page.locator(".diff")).to_contain_text("-# Changed.")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("row").nth(1)).to_contain_text("back to revision 1")
    assert text(cluster) == SERVICE


def test_a_text_with_a_mistake_stays_in_the_form(
    opened: Opened, cluster: Cluster, nodes: Nodes
) -> None:
    page = opened("operator")
    page.goto("/text")
    page.get_by_label("Settings", exact=True).fill(SERVICE + "[toa]\nenabld = true\nwhere = []\n")
    page.get_by_role("button", name="Show changes").click()
    expect(page.get_by_role("alert")).to_contain_text("Line 14")
    expect(page.get_by_role("alert")).to_contain_text("Line 15")
    expect(page.get_by_role("alert")).to_contain_text("did you mean 'enabled'?")
    expect(page.get_by_label("Settings", exact=True)).to_have_value(re.compile("enabld"))
    assert text(cluster) == SERVICE


def test_without_scripts(opened: Opened, cluster: Cluster, nodes: Nodes) -> None:
    """Reading and saving are links and forms."""
    page = opened("operator", script=False)
    page.goto("/toa")
    page.get_by_label("IPv4 option kind").fill("253")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Saved.", exact=True)).to_be_visible()
    page.goto("/services/web")
    page.get_by_role("button", name="Add an origin").click()
    page.locator("[name='origin.2.address']").fill("192.0.2.77")
    page.get_by_role("button", name="Show changes").last.click()
    page.get_by_role("button", name="Save", exact=True).click()
    assert "192.0.2.77" in text(cluster)
    page.goto("/logs")
    page.goto("/nodes")
    expect(page.get_by_role("row").nth(1)).to_contain_text("edge-1")
    page.get_by_role("button", name="Log out").wait_for()


def test_a_page_of_another_session_is_refused_in_words(
    opened: Opened, cluster: Cluster, nodes: Nodes
) -> None:
    page = opened("operator")
    page.goto("/toa")
    page.evaluate(
        "document.querySelectorAll('[name=csrf]').forEach((each) => { each.value = 'x'; })"
    )
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("load it again")
    assert text(cluster) == SERVICE
