# SPDX-License-Identifier: Apache-2.0
"""Where a call comes from and whether by TLS, behind a reverse proxy and without."""

import asyncio
from pathlib import Path

import httpx
import pytest

from cloud_toa.cluster.api import forwarded
from cloud_toa.cluster.model import attempts
from cloud_toa.cluster.store.opening import open_store
from tests.cluster.api.serving import PASSWORD, Serving, serving, set_up

TRUSTED = forwarded.proxies(["10.0.0.0/8", "2001:db8::1"])


@pytest.mark.parametrize(
    ("source", "said", "client"),
    [
        ("10.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        ("2001:db8::1", ["2001:DB8:0::2"], "2001:db8::2"),
        ("10.0.0.1", ["::ffff:192.0.2.7"], "192.0.2.7"),
        # Not listed: whatever it says.
        ("192.0.2.1", ["192.0.2.7"], "192.0.2.1"),
        ("2001:db8::2", ["192.0.2.7"], "2001:db8::2"),
        # What the client has written before.
        ("10.0.0.1", ["127.0.0.1, 192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["127.0.0.1", "192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["10.0.0.9, 192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["rubbish\x00\xff, 192.0.2.7"], "192.0.2.7"),
        # Several proxies.
        ("10.0.0.1", ["127.0.0.1, 192.0.2.7, 10.0.0.2"], "192.0.2.7"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        # Malformed.
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.7,"], "10.0.0.1"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.7:80"], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.7, \xff"], "10.0.0.1"),
        ("10.0.0.1", ["fe80::1%a line of my own"], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.7, nonsense, 10.0.0.2"], "10.0.0.1"),
    ],
)
def test_client(source: str, said: list[str], client: str) -> None:
    values = [each.encode("latin-1") for each in said]
    assert forwarded.client(source, values, TRUSTED) == client


@pytest.mark.parametrize(
    ("source", "said", "by_tls"),
    [
        ("10.0.0.1", ["https"], True),
        ("10.0.0.1", ["HTTPS "], True),
        ("::ffff:10.0.0.1", ["https"], True),
        ("10.0.0.1", [], False),
        ("10.0.0.1", ["http"], False),
        # Somebody else may have begun the list.
        ("10.0.0.1", ["https, http"], False),
        ("10.0.0.1", ["https", "https"], False),
        ("10.0.0.1", ["gopher\xff"], False),
        # Not listed: whatever it says.
        ("192.0.2.1", ["https"], False),
        ("a unix socket", ["https"], False),
    ],
)
def test_by_tls(source: str, said: list[str], by_tls: bool) -> None:
    values = [each.encode("latin-1") for each in said]
    assert forwarded.says_tls(source, values, TRUSTED) == by_tls


BY_TLS = {"Host": "localhost", "X-Forwarded-Proto": "https", "Accept": "text/html"}
ANN = {"name": "ann", "password": PASSWORD}


def test_a_proxy_that_ends_tls(tmp_path: Path) -> None:
    store = f"sqlite://{tmp_path}/cluster.db"
    with serving(store, "--trusted-proxy=127.0.0.1") as server:
        set_up(server).close()
        with server.client() as browser:
            browser.headers.update(BY_TLS)
            said = browser.post("/api/login", json=ANN, headers={"Origin": "https://localhost"})
            assert said.status_code == 200
            cookie = said.headers["Set-Cookie"]
            assert cookie.startswith("__Host-cloud-toa=")
            assert "; Secure" in cookie
            assert "max-age" in said.headers["Strict-Transport-Security"]
            # The client does not know that it speaks TLS, and would keep the cookie to itself.
            browser.headers["Cookie"] = cookie.partition(";")[0]
            form = {"uses": "1", "csrf": said.json()["csrf"]}
            origin = {"Origin": "http://localhost"}
            assert browser.post("/nodes/join", data=form, headers=origin).status_code == 403
            origin = {"Origin": "https://localhost"}
            page = browser.post("/nodes/join", data=form, headers=origin).text
            assert "--server https://localhost" in page
            assert "--insecure" not in page
            assert "TLS" not in page
            said = browser.get("/nodes/join?theme=dark")
            assert "; Secure" in said.headers["Set-Cookie"]


def test_a_stranger_who_says_that_it_is_tls(tmp_path: Path) -> None:
    store = f"sqlite://{tmp_path}/cluster.db"
    with serving(store, "--trusted-proxy=192.0.2.1") as server:
        set_up(server).close()
        with server.client() as browser:
            browser.headers.update(BY_TLS)
            said = browser.post("/api/login", json=ANN, headers={"Origin": "http://localhost"})
            assert said.status_code == 200
            assert said.headers["Set-Cookie"].startswith("cloud-toa=")
            assert "Secure" not in said.headers["Set-Cookie"]
            assert "Strict-Transport-Security" not in said.headers
            form = {"uses": "1", "csrf": said.json()["csrf"]}
            cookie = {"Cookie": said.headers["Set-Cookie"].partition(";")[0]}
            page = browser.post("/nodes/join", data=form, headers=cookie).text
            assert "--server http://localhost --insecure" in page
            assert "unencrypted" in page


def log_in_from(server: Serving, said: str) -> int:
    with server.client() as client:
        client.headers["X-Forwarded-For"] = said
        wish = {"name": "nobody", "password": "no such password"}
        return client.post("/api/login", json=wish).status_code


async def fail(url: str, address: str) -> None:
    """As often as it may."""
    store = await open_store(url)
    for at in range(attempts.BY_ADDRESS):
        await attempts.take(store, f"nobody-{at}", address)
    await store.close()


def addresses(admin: httpx.Client) -> set[str]:
    return {record["address"] for record in admin.get("/api/audit").json()}


def test_limits_and_logs_have_the_clients_address(tmp_path: Path) -> None:
    store = f"sqlite://{tmp_path}/cluster.db"
    with serving(store, "--trusted-proxy=127.0.0.1") as server, set_up(server) as admin:
        asyncio.run(fail(store, "192.0.2.7"))
        assert log_in_from(server, "192.0.2.66, 192.0.2.7") == 429
        assert log_in_from(server, "192.0.2.7, 192.0.2.66") == 401
        admin.headers["X-Forwarded-For"] = "192.0.2.66, 192.0.2.9"
        admin.post("/api/nodes/join-tokens", json={})
        assert addresses(admin) == {"127.0.0.1", "192.0.2.9"}
        assert any("/api/login 429" in each and "192.0.2.7" in each for each in server.log)
        server.end()
    with serving(store) as server, server.client(cookies=admin.cookies) as again:
        again.headers["X-Forwarded-For"] = "192.0.2.10"
        assert addresses(again) == {"127.0.0.1", "192.0.2.9"}
        again.headers["X-CSRF-Token"] = admin.headers["X-CSRF-Token"]
        again.post("/api/nodes/join-tokens", json={})
        assert addresses(again) == {"127.0.0.1", "192.0.2.9"}
        server.wait_said("POST /api/nodes/join-tokens 201")
        assert not server.said("192.0.2.10")
