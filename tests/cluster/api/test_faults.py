# SPDX-License-Identifier: Apache-2.0
"""Servers that are killed, and stores that do not answer."""

import asyncio
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cloud_toa.cluster.model import audit, settings
from cloud_toa.cluster.store.opening import open_store
from tests.cluster.api.serving import (
    SERVICE,
    Events,
    api_token,
    free_port,
    join,
    save,
    serving,
    set_up,
    status,
)
from tests.cluster.store.etcd_members import Etcd


def test_killed_in_the_middle_of_a_save(tmp_path: Path) -> None:
    """Settings, history and audit agree, and what was answered is kept."""
    store = f"sqlite://{tmp_path}/cluster.db"
    chance = random.Random(7)
    with serving(store) as server:
        with set_up(server) as admin:
            token = api_token(admin, "operator")
    answered = 0

    def saves(client: httpx.Client, running: threading.Event) -> None:
        nonlocal answered
        number = answered = client.get("/api/settings").json()["number"]
        running.set()
        try:
            while True:
                text = SERVICE.replace("8080", str(1024 + number % 60000))
                wish = {"text": text, "seen": number}
                said = client.put("/api/settings", json=wish)
                assert said.status_code == 200, said.text
                number = answered = said.json()["number"]
        except httpx.HTTPError:
            return

    for _ in range(5):
        with serving(store) as server, server.client(token) as client:
            running = threading.Event()
            saver = threading.Thread(target=saves, args=(client, running))
            saver.start()
            assert running.wait(30)
            with pytest.raises(TimeoutError):
                asyncio.run(asyncio.wait_for(asyncio.Event().wait(), chance.uniform(0.01, 0.3)))
            server.end(signal.SIGKILL)
            saver.join()
        last = asyncio.run(agreed(store))
        assert last in (answered, answered + 1)
    assert answered > 5


async def agreed(url: str) -> int:
    """See that the three say the same; the last revision's number."""
    store = await open_store(url)
    try:
        now = await settings.current(store)
        history = await settings.history(store, limit=10_000)
        assert [each.number for each in history] == list(range(now.number, 0, -1))
        if history:
            assert history[0] == now
        records = await audit.latest(store, limit=10_000)
        saved = [int(each.after) for each in records if each.what == "settings.save"]
        assert sorted(saved) == list(range(1, now.number + 1))
        return now.number
    finally:
        await store.close()


@pytest.fixture
def members() -> Iterator[Etcd]:
    etcd = Etcd()
    try:
        etcd.wait()
        yield etcd
    finally:
        etcd.close()


def test_two_of_three_members_down(members: Etcd) -> None:
    """Last settings can be read; a save says that nothing is known to be kept; then all is well."""
    with serving(members.url) as server, set_up(server) as admin, server.client() as balancer:
        save(admin, SERVICE)
        id_, node = join(server, admin, "edge-1")
        with node:
            events = Events(node, "/node/events")
            events.wait_for("settings", revision=1)
            assert balancer.get("/health").json() == {"server": "ok", "store": "ok"}
            for member in members.members[:2]:
                member.kill()
            assert node.get("/node/settings").json()["revision"] == 1
            assert admin.get("/api/settings").json()["number"] == 1
            assert admin.get("/api/nodes").json()[0]["id"] == id_
            assert admin.get("/api/me").status_code == 200
            said = admin.put("/api/settings", json={"text": SERVICE + "\n", "seen": 1})
            assert said.status_code == 503, said.text
            assert "nothing is known to have been kept" in said.json()["detail"]
            assert node.put("/node/status", json=status(1)).status_code == 503
            health = balancer.get("/health")
            assert (health.status_code, health.json()["store"]) == (503, "away")
            assert admin.get("/api/settings").json()["number"] == 1
            assert not events.ended
            for member in members.members[:2]:
                members.start(member)
            members.wait()
            # What nobody knew to be kept may be kept now: then somebody is in front of us.
            text, code = SERVICE.replace("8080", "8081"), 409
            while code == 409:
                seen = admin.get("/api/settings").json()["number"]
                said = admin.put("/api/settings", json={"text": text, "seen": seen})
                code = said.status_code
            assert code == 200, said.text
            number = said.json()["number"]
            assert events.wait_for("settings", revision=number)["text"].count("8081") == 1
            assert node.put("/node/status", json=status(number)).status_code == 204
            assert admin.get(f"/api/nodes/{id_}").json()["state"] == "online"


def test_no_store_at_the_start() -> None:
    from tests.cli.command import spawn  # noqa: PLC0415

    url = f"etcd://127.0.0.1:{free_port()}"
    said = spawn("console", f"--listen=127.0.0.1:{free_port()}", f"--store={url}")
    assert said.code == 2
    assert "Traceback" not in said.err
    assert said.err.splitlines()[-1].startswith("cloud-toa: ")
