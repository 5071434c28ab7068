# SPDX-License-Identifier: Apache-2.0
"""What a node and a real API server say to each other, also when the network is as it can be."""

import asyncio
import logging
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cloud_toa.cluster.agent import api as api_module
from cloud_toa.cluster.agent import following, servers, talk
from cloud_toa.cluster.agent.api import Api, RevokedError, UnreachableError
from cloud_toa.cluster.model.protocol import Sample
from cloud_toa.errors import ToaError
from tests.cluster.agent.talking import proxied, run, talking
from tests.cluster.api.serving import SERVICE, Serving, free_port, save, serving, set_up


class Cluster:
    """A server, an administrator, and a token file in the node's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "cluster.db"
        self.server = Serving(f"sqlite://{self.store}")
        self.admin = set_up(self.server)
        self.issue()

    def issue(self) -> None:
        made = self.admin.post("/api/nodes/join-tokens", json={}).json()
        (self.folder / "token").write_text(f"{made['token']}\n")

    async def save(self, text: str) -> int:
        return await asyncio.to_thread(save, self.admin, text)

    async def call(self, method: str, path: str, said: object = None) -> httpx.Response:
        return await asyncio.to_thread(self.admin.request, method, path, json=said)

    async def node(self) -> dict[str, object]:
        (node,) = (await self.call("GET", "/api/nodes")).json()
        return dict(node)

    def close(self) -> None:
        self.admin.close()
        if self.server.process.poll() is None:
            self.server.end(signal.SIGKILL)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.close()


def test_settings_lines_samples_and_tests(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talk, "_SAMPLES", 0.1)

    async def scene() -> None:
        async with talking(cluster.folder, cluster.server.url) as one:
            await one.node.until(lambda: one.node.revisions == [0])
            revision = await cluster.save(SERVICE)
            await one.node.until(lambda: one.node.revisions == [0, revision])
            assert one.node.heard[-1].text == SERVICE
            while (node := await cluster.node())["state"] != "online":
                await asyncio.sleep(0.05)
            path = f"/api/nodes/{node['id']}"

            await cluster.call("PUT", f"{path}/drain", {"drained": True})
            await one.node.until(lambda: one.node.heard[-1].drained)

            asked = await cluster.call("POST", f"{path}/tests", {"service": "web"})
            while not (
                outcome := (await cluster.call("GET", f"/api/tests/{asked.json()['id']}")).json()
            )["outcome"]:
                await asyncio.sleep(0.05)
            assert outcome["outcome"]["good"]
            assert len(one.node.tests) == 1

            log = logging.Logger("cloud_toa.balancer.test")
            log.addHandler(one.lines)
            log.warning("Server web/192.0.2.7 is DOWN")
            while not (lines := (await cluster.call("GET", "/api/logs")).json()):
                await asyncio.sleep(0.05)
            assert (lines[0]["tag"], lines[0]["level"]) == ("HAPROXY", "warning")
            assert not one.lines.some.is_set()

            rates = {"": 5.0, "web": 5.0}
            one.samples.add(
                Sample(time=time.time(), connections=rates, bytes=rates, with_toa=5, without_toa=0)
            )
            await one.node.until(lambda: not one.samples.waiting)
            assert one.kept.identity() is not None

    run(scene())


def test_a_clock_that_is_an_hour_wrong(cluster: Cluster) -> None:
    """It is online, has its settings, and the console says by how much."""

    async def scene() -> None:
        revision = await cluster.save(SERVICE)
        async with talking(cluster.folder, cluster.server.url, ahead=-3600.0) as one:
            await one.node.until(lambda: one.node.revisions == [revision])
            while (node := await cluster.node())["state"] != "online":
                await asyncio.sleep(0.05)
            skew = node["skew"]
            assert isinstance(skew, float)
            assert abs(skew + 3600) < 30

    run(scene())


def test_a_server_that_is_killed_and_another(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several servers the next one is asked; of many changes meanwhile the last is told."""

    async def scene() -> None:
        port = free_port()
        urls = (f"http://127.0.0.1:{port}", cluster.server.url)
        async with talking(cluster.folder, *urls) as one:
            await one.node.until(lambda: one.node.revisions == [0])
            with serving(f"sqlite://{cluster.store}", port=port) as second:
                for number in range(5):
                    last = await cluster.save(f"# {number}\n{SERVICE}")
                await one.node.until(lambda: one.node.revisions[-1] == last)
                cluster.server.end(signal.SIGKILL)
                at = len(one.node.heard)
                await one.node.until(lambda: len(one.node.heard) > at)
                assert one.api.server == second.url
                assert one.node.revisions[-1] == last

    run(scene())


def test_a_store_that_was_restored(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A lower revision counts, but not before the server has said it twice."""
    monkeypatch.setattr(following, "_DOUBT", 1.0)

    async def scene() -> None:
        async with talking(cluster.folder, cluster.server.url) as one:
            await one.node.until(lambda: bool(one.node.heard))
            first = await cluster.save(SERVICE)
            await one.node.until(lambda: one.node.revisions[-1] == first)
            cluster.server.end()
            backup = cluster.folder / "backup.db"
            shutil.copy(cluster.store, backup)
            port = cluster.server.port
            with serving(f"sqlite://{cluster.store}", port=port):
                second = await cluster.save(f"# second\n{SERVICE}")
                await one.node.until(lambda: one.node.revisions[-1] == second)
            with serving(f"sqlite://{backup}", port=port):
                await one.node.until(lambda: one.node.revisions[-1] == first)
                assert f"revision {first} is what is wanted now" in caplog.text
                # And from there on as ever.
                third = await cluster.save(f"# third\n{SERVICE}")
                await one.node.until(lambda: one.node.heard[-1].text.startswith("# third"))
                assert third == second
            assert one.node.revisions[-1] == third

    run(scene())


def test_a_proxy_that_lets_no_events_through(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(following, "_FIRST", 0.3)
    monkeypatch.setattr(following, "_ASK", 0.1)

    async def scene() -> None:
        async with proxied(cluster.server.port) as (proxy, url):
            proxy.holds_events = True
            async with talking(cluster.folder, url) as one:
                await one.node.until(lambda: one.node.revisions == [0])
                revision = await cluster.save(SERVICE)
                await one.node.until(lambda: one.node.revisions == [0, revision])
                assert "by asking, as no events come" in caplog.text
                while (await cluster.node())["state"] != "online":
                    await asyncio.sleep(0.05)

    run(scene())


def test_a_connection_that_is_dead_and_does_not_say_so(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No comment came for so long: it connects anew."""
    monkeypatch.setattr(api_module, "SILENCE", 0.5)

    async def scene() -> None:
        async with proxied(cluster.server.port) as (proxy, url):
            async with talking(cluster.folder, url) as one:
                await one.node.until(lambda: one.node.revisions == [0])
                proxy.open.clear()
                revision = await cluster.save(SERVICE)
                before = proxy.taken
                await one.node.until(lambda: proxy.taken > before + 1)
                assert revision not in one.node.revisions
                proxy.open.set()
                await one.node.until(lambda: revision in one.node.revisions)

    run(scene())


def test_a_token_that_was_revoked(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its stream ends; nothing is said or heard until there is another token in the file."""
    monkeypatch.setattr(following, "_LOOK", 0.05)
    monkeypatch.setattr(following, "_REFUSED", 0.5)

    async def scene() -> None:
        async with talking(cluster.folder, cluster.server.url) as one:
            await one.node.until(lambda: bool(one.node.heard))
            node = await cluster.node()
            await cluster.call("DELETE", f"/api/nodes/{node['id']}")
            await one.node.until(lambda: "this node's token is not good" in caplog.text)
            revision = await cluster.save(SERVICE)
            await asyncio.sleep(1.0)  # it has asked again by now
            assert revision not in one.node.revisions
            assert caplog.text.count("this node's token is not good") == 1
            (cluster.folder / "token").write_text("join_of_no_use")
            await one.node.until(lambda: "or too old: get a new one" in caplog.text)
            await asyncio.to_thread(cluster.issue)
            await one.node.until(lambda: revision in one.node.revisions)
            again = await cluster.node()
            assert again["id"] != node["id"]
            issued = await cluster.call("POST", f"/api/nodes/{again['id']}/token")
            (cluster.folder / "token").write_text(issued.json()["token"])
            await one.node.until(lambda: one.api.token == issued.json()["token"])
            while (await cluster.node())["state"] != "online":
                await asyncio.sleep(0.05)

    run(scene())


def test_a_name_that_another_node_has(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        async with talking(cluster.folder, cluster.server.url) as one:
            await one.node.until(lambda: bool(one.node.heard))
            cluster.issue()
            other = tmp_path / "other"
            other.mkdir()
            shutil.copy(cluster.folder / "token", other / "token")
            async with talking(other, cluster.server.url) as two:
                await two.node.until(lambda: "there is a node edge-1 already" in caplog.text)
                assert two.kept.identity() is None

    run(scene())


def test_an_answer_to_joining_that_is_lost(cluster: Cluster) -> None:
    """It is the same node at the next try, also after a start, and the token is used once."""

    async def scene() -> None:
        async with proxied(cluster.server.port) as (proxy, url):
            proxy.loses_answers = True
            async with talking(cluster.folder, url) as one:
                await one.node.until(lambda: proxy.lost >= 3)
                assert one.kept.identity() is None
            node = await cluster.node()
            proxy.loses_answers = False
            async with talking(cluster.folder, url) as one:
                await one.node.until(lambda: one.node.revisions == [0])
                assert one.kept.identity() is not None
            assert (await cluster.node())["id"] == node["id"]

    run(scene())


def test_a_redirection_gets_no_token(tmp_path: Path) -> None:
    """Neither by calls nor by events; the message says where it leads."""
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        host = asked[-1].partition(b"ost: ")[2].split()[0]
        place = b"Location: http://" + host + b"/elsewhere"
        # Else the next call may meet this connection before its end has come.
        more = b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        writer.write(b"HTTP/1.1 302 Found\r\n" + place + more)
        writer.close()

    async def scene() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        api = Api(servers.parse([f"http://127.0.0.1:{port}/"], insecure=True), "node_1_secret")
        for call in (api.send("GET", "/node/settings"), anext(api.events())):
            with pytest.raises(UnreachableError, match=r"leads to http://\S+/elsewhere, where the"):
                await call
        assert all(b"GET /node/" in each for each in asked)
        await api.close()
        server.close()

    run(scene())


def test_who_the_server_is(cluster: Cluster, tmp_path: Path) -> None:
    """A token that is not good, and a certificate of whom nobody knows."""

    async def scene() -> None:
        api = Api(servers.parse([cluster.server.url], insecure=True), "node_1_wrong")
        with pytest.raises(RevokedError, match="show a token that is good"):
            await api.send("GET", "/node/settings")
        await api.close()

    run(scene())


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://console.example", "who is on the way reads the token"),
        ("console.example:7788", "write https://console.example:7788"),
        ("https://", "write https://console.example:7788"),
        ("ftp://console.example", "write https://console.example:7788"),
        ("https://ann:secret@console.example", "scheme, host, port and path alone"),
        ("https://console.example/?token=x", "scheme, host, port and path alone"),
        ("https://[::1", "--server 'https://"),
    ],
)
def test_urls_that_are_refused(url: str, why: str) -> None:
    with pytest.raises(ToaError, match=why) as error:
        servers.parse([url])
    assert "secret" not in str(error.value)


def test_an_authority_that_can_not_be_used(tmp_path: Path) -> None:
    for content in (None, "no certificate"):
        path = tmp_path / "ca.pem"
        if content:
            path.write_text(content)
        with pytest.raises(ToaError, match=r"--ca \S+ca\.pem can't be used"):
            servers.parse(["https://console.example"], path)
