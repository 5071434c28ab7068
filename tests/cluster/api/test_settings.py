# SPDX-License-Identifier: Apache-2.0
"""Settings are saved by several at once, refused with their place, and gone back on."""

import asyncio
import threading
from collections.abc import Iterator

import httpx
import pytest

from tests.cluster.api.conftest import Company
from tests.cluster.api.serving import SERVICE, Serving, api_token, save, set_up


@pytest.fixture
def admin(fresh: Serving) -> Iterator[httpx.Client]:
    with set_up(fresh) as client:
        yield client


def test_first_revision(admin: httpx.Client) -> None:
    before = admin.get("/api/settings").json()
    assert (before["number"], before["text"]) == (0, "")
    said = admin.put("/api/settings", json={"text": SERVICE, "seen": 0, "why": "it begins"})
    assert said.status_code == 200
    now = admin.get("/api/settings").json()
    assert now == said.json()
    assert (now["number"], now["text"], now["who"], now["why"]) == (1, SERVICE, "ann", "it begins")
    assert admin.get("/api/settings/history").json() == [now]
    record = admin.get("/api/audit").json()[0]
    assert (record["who"], record["what"], record["after"]) == ("ann", "settings.save", "1")
    assert record["address"] == "127.0.0.1"


def test_second_saver_is_told(admin: httpx.Client) -> None:
    save(admin, SERVICE)
    mine = SERVICE.replace("8080", "8081")
    theirs = SERVICE.replace("8080", "8082")
    assert admin.put("/api/settings", json={"text": theirs, "seen": 1}).status_code == 200
    said = admin.put("/api/settings", json={"text": mine, "seen": 1})
    assert said.status_code == 409
    problem = said.json()
    assert problem["seen"]["text"] == SERVICE
    assert problem["current"]["text"] == theirs
    assert "ann has saved revision 2 meanwhile" in problem["detail"]
    assert admin.get("/api/settings").json()["text"] == theirs
    assert admin.put("/api/settings", json={"text": mine, "seen": 2}).json()["number"] == 3


def test_many_savers_at_once_lose_nothing(fresh: Serving, admin: httpx.Client) -> None:
    """Each tries again on top of what the others saved; each revision has one more service."""
    token = api_token(admin, "operator")

    async def one(client: httpx.AsyncClient, port: int) -> int:
        tries = 0
        while True:
            tries += 1
            seen = (await client.get("/api/settings")).json()["number"]
            service = {
                "name": f"s{port}",
                "listen": [f"127.0.0.1:{port}"],
                "origin": [{"address": "192.0.2.7"}],
            }
            wish = {"values": service, "seen": seen}
            said = await client.post("/api/settings/services", json=wish)
            if said.status_code == 201:
                return tries
            assert said.status_code == 409, said.text

    async def all_of_them() -> list[int]:
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=fresh.url, headers=headers, timeout=60) as client:
            return await asyncio.gather(*(one(client, 9000 + at) for at in range(8)))

    tries = asyncio.run(all_of_them())
    assert sum(tries) > 8
    history = admin.get("/api/settings/history").json()
    assert [each["number"] for each in history] == list(range(8, 0, -1))
    counts = [each["text"].count("[[service]]") for each in history]
    assert counts == list(range(8, 0, -1))


@pytest.mark.parametrize(
    ("text", "field", "line", "words"),
    [
        ("[toa]\noption_type_v4 = 300\n" + SERVICE, "toa.option_type_v4", 2, "out of range"),
        ("[toa]\noption_type_v6 = 8\n" + SERVICE, "toa.option_type_v6", 2, "in use for Timestamps"),
        ("[toa]\nmin_queue_id = 65536\n" + SERVICE, "toa.min_queue_id", 2, "0 to 65535"),
        (SERVICE.replace("80\n", "99999\n"), "service.0.origin.0.port", 7, "port"),
        (
            SERVICE + SERVICE.replace(":80", ":81"),
            "service.1.name",
            10,
            "two services are named web",
        ),
        ("[toa\n", "", 1, "Expected ']'"),
        ("", "", 1, "service is missing"),
    ],
    ids=["kind range", "kind in use", "queue", "port", "names", "no TOML", "empty"],
)
def test_refused_with_its_place(
    company: Company, text: str, field: str, line: int, words: str
) -> None:
    admin = company.admin
    before = admin.get("/api/settings").json()
    said = admin.put("/api/settings", json={"text": text, "seen": 0})
    assert said.status_code == 422
    (mistake,) = said.json()["mistakes"]
    assert (mistake["field"], mistake["line"]) == (field, line)
    assert words in mistake["message"]
    assert admin.get("/api/settings").json() == before
    checked = admin.post("/api/settings/check", json={"text": text}).json()
    assert checked["mistakes"] == [mistake]


def test_toa_by_form(admin: httpx.Client) -> None:
    text = f"# ours\n[toa]\nenabled = false # for now\n{SERVICE}"
    save(admin, text)
    values = {"enabled": True, "option_type_v4": 253, "max_queue_id": None}
    said = admin.put("/api/settings/toa", json={"values": values, "seen": 1})
    assert said.status_code == 200
    expected = text.replace("enabled = false #", "enabled = true #")
    assert said.json()["text"] == expected.replace("now\n", "now\noption_type_v4 = 253\n")
    wish = {"values": {"option_type_v4": 8, "option_type_v6": 256}, "seen": 2}
    said = admin.put("/api/settings/toa", json=wish)
    fields = [mistake["field"] for mistake in said.json()["mistakes"]]
    assert (said.status_code, fields) == (422, ["toa.option_type_v4", "toa.option_type_v6"])


def test_services_by_form(admin: httpx.Client) -> None:
    origin = {"address": "192.0.2.7", "port": 80}
    web = {"name": "web", "listen": ["127.0.0.1:8080"], "origin": [origin]}
    wish = {"values": web, "seen": 0}
    assert admin.post("/api/settings/services", json=wish).status_code == 201
    wish = {"values": {**web, "name": "other", "listen": ["127.0.0.1:8081"]}, "seen": 1}
    assert admin.post("/api/settings/services", json=wish).status_code == 201
    wish = {"values": {**web, "algorithm": "source"}, "seen": 2}
    said = admin.put("/api/settings/services/web", json=wish)
    assert said.status_code == 200
    assert 'algorithm = "source"' in said.json()["text"]
    assert admin.put("/api/settings/services/none", json=wish).status_code == 404
    said = admin.delete("/api/settings/services/web", params={"seen": 3})
    assert said.status_code == 200
    assert 'name = "web"' not in said.json()["text"]
    said = admin.delete("/api/settings/services/other", params={"seen": 4})
    assert said.status_code == 422
    assert "service is missing" in said.json()["detail"]


def test_history_and_going_back(admin: httpx.Client) -> None:
    for port in (1, 2, 3):
        save(admin, SERVICE.replace("8080", str(port)))
    diff = admin.get("/api/settings/diff", params={"before": 1, "after": 3}).json()["diff"]
    assert diff.startswith("--- revision 1\n+++ revision 3\n")
    assert '-listen = ["127.0.0.1:1"]\n+listen = ["127.0.0.1:3"]' in diff
    said = admin.post("/api/settings/revert", json={"number": 1, "seen": 2})
    assert said.status_code == 409
    said = admin.post("/api/settings/revert", json={"number": 1, "seen": 3})
    assert (said.json()["number"], said.json()["why"]) == (4, "back to revision 1")
    assert '"127.0.0.1:1"' in admin.get("/api/settings").json()["text"]
    older = admin.get("/api/settings/history", params={"before": 3, "limit": 1}).json()
    assert [each["number"] for each in older] == [2]
    assert admin.get("/api/settings/history/2").json() == older[0]
    assert admin.get("/api/settings/history/9").status_code == 404
    assert admin.post("/api/settings/revert", json={"number": 9, "seen": 4}).status_code == 404


def test_nothing_to_save(admin: httpx.Client) -> None:
    save(admin, SERVICE)
    said = admin.put("/api/settings", json={"text": SERVICE, "seen": 1})
    assert said.status_code == 422
    assert "nothing was changed" in said.json()["detail"]


def test_viewer_can_not_save(fresh: Serving, admin: httpx.Client) -> None:
    with fresh.client(api_token(admin, "viewer")) as viewer:
        said = viewer.put("/api/settings", json={"text": SERVICE, "seen": 0})
        assert said.status_code == 403
        assert viewer.get("/api/settings").json()["number"] == 0


def test_savers_are_threads_of_one_browser(fresh: Serving, admin: httpx.Client) -> None:
    """Two tabs with one session, at the same moment: one is told."""
    save(admin, SERVICE)
    codes: list[int] = []

    def tab(port: int) -> None:
        text = SERVICE.replace("8080", str(port))
        said = admin.put("/api/settings", json={"text": text, "seen": 1})
        codes.append(said.status_code)

    tabs = [threading.Thread(target=tab, args=(port,)) for port in (1, 2)]
    for each in tabs:
        each.start()
    for each in tabs:
        each.join()
    assert sorted(codes) == [200, 409]
