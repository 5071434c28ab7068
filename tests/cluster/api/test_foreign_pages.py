# SPDX-License-Identifier: Apache-2.0
"""What a page of another site can't do with the cookie of somebody who is logged in."""

import socket

import httpx
import pytest

from tests.cluster.api.serving import PASSWORD, PATIENCE, Serving

WISH = {"language": "zh"}


def change(admin: httpx.Client, **headers: str) -> httpx.Response:
    return admin.put("/api/me/language", json=WISH, headers=headers)


@pytest.fixture
def bare(admin: httpx.Client, server: Serving) -> httpx.Client:
    """The administrator's browser, at a page that knows no token."""
    return server.client(cookies=dict(admin.cookies))


def test_the_page_shows_its_token(admin: httpx.Client, bare: httpx.Client) -> None:
    assert change(admin).status_code == 204
    with bare:
        assert bare.get("/api/settings").status_code == 200
        assert change(bare).status_code == 403
        assert change(bare, **{"X-CSRF-Token": "0" * 64}).status_code == 403
        token = bare.get("/api/me").json()["csrf"]
        assert change(bare, **{"X-CSRF-Token": token}).status_code == 204


def test_by_a_form(bare: httpx.Client) -> None:
    """There is no call that takes a form here; the console has some. 415 is behind the gate."""
    with bare:
        token = bare.get("/api/me").json()["csrf"]
        assert bare.post("/api/logout", data={"a": "b"}).status_code == 403
        assert bare.put("/api/me/language", data={"csrf": token}).status_code == 415
        assert bare.put("/api/me/language", data={"csrf": token + "0"}).status_code == 403
        files = {"csrf": (None, token)}
        assert bare.put("/api/me/language", files=files).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[127.0.0.1"},
        {"Origin": "http://127.0.0.1:1"},
    ],
    ids=str,
)
def test_it_comes_from_here(
    admin: httpx.Client, nobody: httpx.Client, headers: dict[str, str]
) -> None:
    assert change(admin, **headers).status_code == 403
    wish = {"name": "ann", "password": PASSWORD}
    assert nobody.post("/api/login", json=wish, headers=headers).status_code == 403


def test_same_origin(admin: httpx.Client, server: Serving) -> None:
    here = {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}
    assert change(admin, **here).status_code == 204


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "", "[x", "127.0.0.1.evil.eu"])
def test_by_another_name(admin: httpx.Client, nobody: httpx.Client, host: str) -> None:
    for client in (admin, nobody):
        said = client.get("/api/me", headers={"Host": host})
        assert said.status_code in (400, 421)
    assert nobody.get("/health", headers={"Host": host}).status_code in (400, 421)


def test_health_is_told_without_a_name(server: Serving) -> None:
    """HAProxy's ``option httpchk`` asks so; a browser can't."""
    assert bare_answer(server, "/health") == "200"
    assert bare_answer(server, "/api/me") == "421"


def bare_answer(server: Serving, path: str) -> str:
    """The status that HTTP/1.0 without ``Host`` gets."""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
        sock.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        with sock.makefile("rb") as answer:
            return answer.readline().split()[1].decode()


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:7788", "[::1]:80", "192.0.2.1"])
def test_by_its_own_names(admin: httpx.Client, host: str) -> None:
    assert admin.get("/api/me", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("name", ["login", "setup", "x%2Flogin"])
def test_no_path_is_open_by_its_end(bare: httpx.Client, name: str) -> None:
    with bare:
        wish = {"values": {}, "seen": 0}
        said = bare.put(f"/api/settings/services/{name}", json=wish)
        assert said.status_code == 403
        assert "load it again" in said.json()["detail"]
