# SPDX-License-Identifier: Apache-2.0
"""Nodes: how they join, what they hear, and what each can't do to others."""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud_toa.cluster.store import Delete
from cloud_toa.cluster.store.opening import open_store
from tests.cluster.api.conftest import Company
from tests.cluster.api.serving import (
    SERVICE,
    Events,
    Serving,
    join,
    save,
    serving,
    set_up,
    status,
    until_known,
    wish,
)


def state(client: httpx.Client, id_: str) -> str:
    return str(client.get(f"/api/nodes/{id_}").json()["state"])


def test_join_token_is_used_up(server: Serving, operator: httpx.Client) -> None:
    token = operator.post("/api/nodes/join-tokens", json={"uses": 2}).json()["token"]
    with server.client(token) as newcomer:
        codes = [
            newcomer.post("/node/join", json=wish(name)).status_code
            for name in ("used-1", "used-1", "used 2", "used-2", "used-3")
        ]
    assert codes == [201, 409, 422, 201, 401]
    with server.client("join_nothing") as newcomer:
        said = newcomer.post("/node/join", json=wish("x"))
    assert said.status_code == 401
    assert "get a new one" in said.json()["detail"]


def test_the_same_again_is_the_same_node(company: Company, operator: httpx.Client) -> None:
    """Also where the token is used up; it is counted once. Others with the token are refused."""
    server, same = company.server, wish("again")
    token = operator.post("/api/nodes/join-tokens", json={"uses": 2}).json()["token"]
    with server.client(token) as newcomer, serving(company.store) as second:
        first = newcomer.post("/node/join", json=same).json()
        with second.client(token) as elsewhere:
            assert elsewhere.post("/node/join", json=same).json() == first
        assert newcomer.post("/node/join", json=wish("again")).status_code == 409
        assert newcomer.post("/node/join", json=wish("again-2")).status_code == 201
        assert newcomer.post("/node/join", json=same).json() == first
        assert newcomer.post("/node/join", json={**same, "name": "again-3"}).status_code == 401
        with server.client(first["token"]) as node:
            assert node.get("/node/settings").status_code == 200
        records = operator.get("/api/audit").json()
        assert (
            sum((each["what"], each["subject"]) == ("node.join", "again") for each in records) == 1
        )

        # A token that was issued anew is not undone by it, nor is a removal.
        assert operator.post(f"/api/nodes/{first['id']}/token").status_code == 201
        assert newcomer.post("/node/join", json=same).status_code == 409
        assert operator.delete(f"/api/nodes/{first['id']}").status_code == 204
        assert newcomer.post("/node/join", json=same).status_code == 401


def test_the_same_at_the_same_moment_is_one_node(server: Serving, operator: httpx.Client) -> None:
    token = operator.post("/api/nodes/join-tokens", json={"uses": 2}).json()["token"]
    same = wish("one-node")

    async def both() -> list[str]:
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=server.url, headers=headers) as client:
            said = await asyncio.gather(*(client.post("/node/join", json=same) for _ in range(4)))
        return [each.text for each in said]

    assert len(set(asyncio.run(both()))) == 1
    with server.client(token) as newcomer:
        assert newcomer.post("/node/join", json=wish("another-node")).status_code == 201


def test_secrets_that_are_none(server: Serving, operator: httpx.Client) -> None:
    """Too short, too long, of other letters, not there; the token is not used up by them."""
    token = operator.post("/api/nodes/join-tokens", json={}).json()["token"]
    with server.client(token) as newcomer:
        for secret in ("", "x" * 42, "x" * 44, "x" * 42 + "!", "x" * 42 + "\n", None):
            said = newcomer.post("/node/join", json={**wish("no-secret"), "secret": secret})
            assert said.status_code == 422, secret
            assert said.json()["mistakes"][0]["field"] == "secret"
        assert newcomer.post("/node/join", json=wish("no-secret")).status_code == 201


def test_one_use_for_two_at_the_same_moment(server: Serving, operator: httpx.Client) -> None:
    token = operator.post("/api/nodes/join-tokens", json={}).json()["token"]

    async def both() -> list[int]:
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=server.url, headers=headers) as client:
            said = await asyncio.gather(
                *(client.post("/node/join", json=wish(f"twin-{at}")) for at in range(2))
            )
        return sorted(each.status_code for each in said)

    assert asyncio.run(both()) == [201, 401]


def test_states(company: Company, operator: httpx.Client) -> None:
    wanted = operator.get("/api/settings").json()["number"]
    id_, node = join(company.server, operator, "states")
    with node:
        assert state(operator, id_) == "offline"
        assert node.put("/node/status", json=status(0, wanted)).status_code == 204
        assert state(operator, id_) == "syncing"
        said = status(0, wanted, "line 3: port 80 is in use")
        assert node.put("/node/status", json=said).status_code == 204
        assert state(operator, id_) == "failed"
        assert node.put("/node/status", json=status(wanted)).status_code == 204
        assert state(operator, id_) == "online"
        view = operator.get(f"/api/nodes/{id_}").json()
        assert "token" not in str(view)
        assert view["skew"] == 0.0

        async def expire() -> None:
            store = await open_store(company.store)
            await store.change(Delete(f"alive/{id_}"))
            await store.close()

        events = Events(operator, "/api/events")
        asyncio.run(expire())  # as the store does after 45 s
        events.wait_for("node", id=id_, state="offline")
        assert state(operator, id_) == "offline"


def test_clock_of_a_node_is_an_hour_ahead(server: Serving, operator: httpx.Client) -> None:
    id_, node = join(server, operator, "early")
    with node:
        node.put("/node/status", json={**status(1), "time": time.time() + 3600})
        view = operator.get(f"/api/nodes/{id_}").json()
        assert view["state"] in ("online", "syncing")
        assert view["skew"] == pytest.approx(3600, abs=30)
        assert view["heard"] == pytest.approx(time.time(), abs=30)
        line = {"time": time.time() + 3600, "level": "info", "tag": "TOA", "text": "early word"}
        assert node.post("/node/logs", json=[line]).status_code == 204
        (kept,) = operator.get("/api/logs", params={"node": id_}).json()
        assert kept["time"] == pytest.approx(time.time(), abs=30)


def test_settings_by_polling(server: Serving, operator: httpx.Client) -> None:
    _, node = join(server, operator, "poller")
    with node:
        said = node.get("/node/settings")
        assert said.json()["revision"] == operator.get("/api/settings").json()["number"]
        etag = said.headers["ETag"]
        for tag in (etag, f"W/{etag}", f'"x", {etag}'):
            assert node.get("/node/settings", headers={"If-None-Match": tag}).status_code == 304
        assert node.get("/node/settings", headers={"If-None-Match": '"0"'}).status_code == 200


def test_settings_by_events_at_once_and_at_each_change(tmp_path: Path) -> None:
    """Also on a server that did not save them."""
    store = f"sqlite://{tmp_path}/cluster.db"
    with serving(store) as one, serving(store) as other, set_up(one) as admin:
        id_, node = join(one, admin, "edge-1")
        with node, other.client(node.headers["Authorization"][7:]) as at_the_other:
            until_known(at_the_other)
            events = [Events(node, "/node/events"), Events(at_the_other, "/node/events")]
            for each in events:
                each.wait_for("settings", revision=0)
            save(admin, SERVICE)
            for each in events:
                heard = each.wait_for("settings", revision=1)
                assert heard == {"revision": 1, "text": SERVICE, "drained": False}
            assert admin.put(f"/api/nodes/{id_}/drain", json={"drained": True}).status_code == 200
            for each in events:
                each.wait_for("settings", drained=True)
            said = admin.get("/api/audit").json()[0]
            assert (said["what"], said["before"], said["after"]) == (
                "node.drain",
                "in use",
                "drained",
            )


@pytest.mark.parametrize("how", ["reissue", "remove"])
def test_revoked_token_ends_its_streams_everywhere(tmp_path: Path, how: str) -> None:
    store = f"sqlite://{tmp_path}/cluster.db"
    with serving(store) as one, serving(store) as other, set_up(one) as admin:
        id_, node = join(one, admin, "edge-1")
        _, neighbour = join(one, admin, "edge-2")
        with node, neighbour, other.client(node.headers["Authorization"][7:]) as there:
            until_known(there)
            events = [Events(node, "/node/events"), Events(there, "/node/events")]
            stays = Events(neighbour, "/node/events")
            for each in [*events, stays]:
                each.wait_for("settings")
            if how == "reissue":
                said = admin.post(f"/api/nodes/{id_}/token")
                assert said.status_code == 201
                with one.client(said.json()["token"]) as anew:
                    assert anew.get("/node/settings").status_code == 200
            else:
                assert admin.delete(f"/api/nodes/{id_}").status_code == 204
                assert admin.get(f"/api/nodes/{id_}").status_code == 404
            for each in events:
                each.wait_end()
                assert all(kind != "error" for kind, _ in each.seen)
            for client in (node, there):
                assert client.get("/node/settings").status_code == 401
                assert client.put("/node/status", json=status(0)).status_code == 401
                assert client.get("/node/events").status_code == 401
            assert not stays.ended
            save(admin, SERVICE)
            stays.wait_for("settings", revision=1)


def test_a_removed_name_is_free(server: Serving, operator: httpx.Client) -> None:
    id_, node = join(server, operator, "again")
    node.close()
    assert operator.delete(f"/api/nodes/{id_}").status_code == 204
    _, node = join(server, operator, "again")
    node.close()


def test_a_node_writes_only_its_own(server: Serving, operator: httpx.Client) -> None:
    """There is no call that names another node; tests are by id, and belong to one."""
    wanted = operator.get("/api/settings").json()["number"]
    mine, me = join(server, operator, "mine")
    others, other = join(server, operator, "others")
    with me, other:
        me.put("/node/status", json={**status(wanted), "id": others, "node": others})
        assert (state(operator, mine), state(operator, others)) == ("online", "offline")
        other.put("/node/status", json=status(wanted))
        asked = operator.post(f"/api/nodes/{others}/tests", json={"service": "web"}).json()
        outcome = {"client": "203.0.113.77:1", "service": "web", "good": True}
        assert me.put(f"/node/tests/{asked['id']}", json=outcome).status_code == 404
        assert me.put("/node/tests/..%2Fnodes", json=outcome).status_code == 404
        assert operator.get(f"/api/tests/{asked['id']}").json()["outcome"] is None
        assert other.put(f"/node/tests/{asked['id']}", json=outcome).status_code == 204


def test_quick_test(server: Serving, operator: httpx.Client) -> None:
    id_, node = join(server, operator, "tester")
    with node:
        ask = f"/api/nodes/{id_}/tests"
        said = operator.post(ask, json={"service": "web"})
        assert said.status_code == 422
        assert "is offline" in said.json()["detail"]
        node.put("/node/status", json=status(1))
        assert "there is web" in operator.post(ask, json={"service": "x"}).json()["detail"]
        said = operator.post(ask, json={"service": "web", "client": "here"})
        assert said.json()["mistakes"][0]["field"] == "client"
        console, heard = Events(operator, "/api/events"), Events(node, "/node/events")
        wish = {"service": "web", "client": "2001:DB8::1"}
        id_of_test = operator.post(ask, json=wish).json()["id"]
        told = heard.wait_for("test", id=id_of_test)
        assert told == {"id": id_of_test, "service": "web", "client": "2001:db8::1"}
        # Who comes later, as after a restart, is told what is still to be answered.
        Events(node, "/node/events").wait_for("test", id=id_of_test)
        outcome: dict[str, Any] = {
            "client": "[2001:db8::1]:5",
            "service": "web",
            "origin": "192.0.2.7:80",
            "packets": ["SYN", "ACK"],
            "answer": {"client": "[2001:db8::1]:5"},
            "good": True,
        }
        assert node.put(f"/node/tests/{id_of_test}", json=outcome).status_code == 204
        console.wait(lambda: any(kind == "test" and said["outcome"] for kind, said in console.seen))
        (found,) = operator.get("/api/tests", params={"node": id_}).json()
        assert found["outcome"]["packets"] == ["SYN", "ACK"]
        later = Events(node, "/node/events")
        later.wait_for("settings")
        assert all(kind != "test" for kind, _ in later.seen)


def test_logs(server: Serving, operator: httpx.Client) -> None:
    id_, node = join(server, operator, "talker")
    now = time.time()

    def line(ago: float, level: str, tag: str, text: str) -> dict[str, Any]:
        return {"time": now - ago, "level": level, "tag": tag, "text": text}

    told = [
        line(30, "info", "TOA", "starting ..."),
        line(20, "warning", "HAPROXY", "Server web/192.0.2.7:80 is DOWN"),
        line(10, "error", "TOA", "x" * 3000),
    ]
    with node:
        follower = Events(operator, f"/api/events?log=true&node={id_}&level=warning")
        assert node.post("/node/logs", json=told[:1]).status_code == 204
        assert node.post("/node/logs", json=told[1:]).status_code == 204
        follower.wait(lambda: any(kind == "log" for kind, _ in follower.seen))
        (lines,) = [said for kind, said in follower.seen if kind == "log"]
        assert [each["level"] for each in lines] == ["warning", "error"]

        def found(**wish: Any) -> list[str]:
            said = operator.get("/api/logs", params={"node": id_, **wish})
            assert said.status_code == 200, said.text
            return [each["text"][:8] for each in said.json()]

        assert found() == ["starting", "Server w", "xxxxxxxx"]
        assert found(level="warning") == ["Server w", "xxxxxxxx"]
        assert found(tag="TOA") == ["starting", "xxxxxxxx"]
        assert found(word="DOWN") == found(word="down") == ["Server w"]
        assert found(since=now - 25, until=now - 15) == ["Server w"]
        assert found(limit=1) == ["xxxxxxxx"]
        everybody = operator.get("/api/logs").json()
        assert max(len(each["text"]) for each in everybody) == 2000
        assert operator.get("/api/logs", params={"node": "x"}).status_code == 404
        assert node.post("/node/logs", json=[told[0]] * 501).status_code == 422
        # A node that says too much is told so, and others are not in its way.
        large = [line(0, "info", "TOA", "y" * 1900)] * 450
        codes = [node.post("/node/logs", json=large).status_code for _ in range(4)]
        assert codes[0] == 204
        assert codes[-1] == 429


def test_a_node_has_few_streams(server: Serving, operator: httpx.Client) -> None:
    _, node = join(server, operator, "many")
    with node:
        streams = [Events(node, "/node/events") for _ in range(6)]
        for each in streams[:2]:
            each.wait_end()
        streams[-1].wait_for("settings")
        assert not any(each.ended for each in streams[2:])
        assert node.head("/node/events").status_code == 200
