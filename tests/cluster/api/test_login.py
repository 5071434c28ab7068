# SPDX-License-Identifier: Apache-2.0
"""The set-up link, passwords, sessions, and how often one may try."""

import asyncio
import time
from pathlib import Path

import httpx
import msgspec
import pytest

from cloud_toa.cluster.model import attempts, people, random_tokens, sessions
from cloud_toa.cluster.model.sessions import Session
from cloud_toa.cluster.model.values import put, read
from cloud_toa.cluster.store.opening import open_store
from tests.cluster.api.conftest import Company
from tests.cluster.api.serving import PASSWORD, Serving, api_token, log_in, serving, set_up


def user(company: Company, name: str, role: str = "viewer") -> httpx.Client:
    """A new user who has logged in."""
    made = company.admin.post("/api/users", json={"name": name, "password": PASSWORD, "role": role})
    assert made.status_code == 201, made.text
    client = company.server.client()
    log_in(client, name)
    return client


def test_link_makes_the_first_administrator_once(tmp_path: Path) -> None:
    store = f"sqlite://{tmp_path}/cluster.db"
    with serving(store) as server:
        first = server.setup_token
        assert first
        server.end()
    with serving(store) as server, server.client() as client:
        second = server.setup_token
        assert second not in ("", first)
        wish = {"token": "setup_x", "name": "ann", "password": PASSWORD}
        assert client.post("/api/setup", json=wish).status_code == 403
        short = client.post("/api/setup", json={**wish, "token": second, "password": "short"})
        assert short.status_code == 422
        assert short.json()["mistakes"][0]["field"] == "password"
        assert client.post("/api/setup", json={**wish, "token": second}).status_code == 200
        for token in (first, second):
            again = {**wish, "token": token, "name": "eve"}
            assert client.post("/api/setup", json=again).status_code == 403
        log_in(client, "ann")
        assert client.get("/api/me").json()["role"] == "admin"
        server.end()
    with serving(store) as server:
        assert server.setup_token == ""


def test_two_links_at_the_same_moment_make_one(fresh: Serving) -> None:
    async def both() -> list[int]:
        async with httpx.AsyncClient(base_url=fresh.url, timeout=30) as client:
            said = await asyncio.gather(
                *(
                    client.post(
                        "/api/setup",
                        json={"token": fresh.setup_token, "name": name, "password": PASSWORD},
                    )
                    for name in ("ann", "eve")
                )
            )
        return sorted(each.status_code for each in said)

    assert asyncio.run(both()) == [200, 403]


def test_cookie(company: Company) -> None:
    with user(company, "cookie") as client:
        said = client.post("/api/login", json={"name": "cookie", "password": PASSWORD})
    words = [word.strip().lower() for word in said.headers["Set-Cookie"].split(";")]
    assert {"httponly", "samesite=lax", "path=/"} <= set(words)
    assert "secure" not in words  # this one listens on plain loopback; see test_http.py


def test_login_changes_the_session(company: Company) -> None:
    with user(company, "fixed") as client:
        before = client.cookies["cloud-toa"]
        log_in(client, "fixed")
        assert client.cookies["cloud-toa"] != before
        with company.server.client(cookies={"cloud-toa": before}) as thief:
            assert thief.get("/api/me").status_code == 401
    with company.server.client() as client:
        wish = {"name": "fixed", "password": PASSWORD}
        planted = {"Cookie": "cloud-toa=session_of_my_choice"}
        said = client.post("/api/login", json=wish, headers=planted)
        assert said.status_code == 200
        assert "session_of_my_choice" not in said.headers["Set-Cookie"]
        with company.server.client(cookies={"cloud-toa": "session_of_my_choice"}) as thief:
            assert thief.get("/api/me").status_code == 401


def test_logout(company: Company) -> None:
    with user(company, "leaving") as client:
        cookie = client.cookies["cloud-toa"]
        assert client.post("/api/logout").status_code == 204
        with company.server.client(cookies={"cloud-toa": cookie}) as thief:
            assert thief.get("/api/me").status_code == 401


def test_new_password_ends_other_sessions(company: Company) -> None:
    with user(company, "pat") as here, company.server.client() as there:
        log_in(there, "pat")
        wish = {"current": "not mine at all", "new": "another horse battery"}
        assert here.put("/api/me/password", json=wish).status_code == 403
        assert here.put("/api/me/password", json={**wish, "current": PASSWORD}).status_code == 200
        assert here.get("/api/me").status_code == 200
        assert there.get("/api/me").status_code == 401
        wish = {"name": "pat", "password": PASSWORD}
        assert there.post("/api/login", json=wish).status_code == 401


@pytest.mark.parametrize("how", ["role", "password", "remove"])
def test_changed_by_the_administrator(company: Company, how: str) -> None:
    name = f"changed-{how}"
    with user(company, name) as client:
        assert client.get("/api/me").status_code == 200
        match how:
            case "role":
                company.admin.put(f"/api/users/{name}/role", json={"role": "operator"})
            case "password":
                wish = {"password": "yet another horse"}
                company.admin.put(f"/api/users/{name}/password", json=wish)
            case "remove":
                company.admin.delete(f"/api/users/{name}")
        assert client.get("/api/me").status_code == 401


@pytest.mark.parametrize(
    ("began", "used"),
    [(-sessions.WHOLE - 1, 0.0), (-sessions.IDLE - 9, -sessions.IDLE - 1)],
    ids=["a week", "idle"],
)
def test_session_expires(company: Company, began: float, used: float) -> None:
    name = f"late-{int(-began)}"
    with user(company, name) as client:
        cookie = client.cookies["cloud-toa"]
        assert client.get("/api/me").status_code == 200

        async def age() -> None:
            store = await open_store(company.store)
            entry = await store.get(f"sessions/{random_tokens.hashed(cookie)}")
            assert entry is not None
            now = time.time()
            older = msgspec.structs.replace(
                read(entry, Session), began=now + began, used=now + used
            )
            await store.change(put(entry.key, older))
            await store.close()

        asyncio.run(age())
        end = time.monotonic() + 10
        while client.get("/api/me").status_code == 200:
            assert time.monotonic() < end


def test_last_administrator_remains(company: Company) -> None:
    said = company.admin.delete("/api/users/ann")
    assert said.status_code == 422
    assert "last administrator" in said.json()["detail"]
    said = company.admin.put("/api/users/ann/role", json={"role": "viewer"})
    assert said.status_code == 422
    with user(company, "second", "admin"):
        said = company.admin.put("/api/users/second/role", json={"role": "viewer"})
        assert said.status_code == 200
    assert company.admin.delete("/api/users/ann").status_code == 422


def test_too_many_attempts_by_account_on_all_servers(tmp_path: Path) -> None:
    store = f"sqlite://{tmp_path}/cluster.db"
    with serving(store) as one, set_up(one), serving(store) as other:
        wrong = {"name": "ann", "password": "a wrong password"}
        with one.client() as here, other.client() as there:
            for at in range(attempts.BY_ACCOUNT):
                said = (here, there)[at % 2].post("/api/login", json=wrong)
                assert said.status_code == 401
            for client in (here, there):
                said = client.post("/api/login", json={"name": "ann", "password": PASSWORD})
                assert said.status_code == 429
                assert 0 < int(said.headers["Retry-After"]) <= attempts.SECONDS + 1
            # Others are not locked out with them, and nobody learns who there is.
            said = there.post("/api/login", json={"name": "nobody", "password": "a wrong one"})
            assert said.status_code == 401
        one.wait_said("/api/login 429")
        assert not one.said("a wrong password")


def test_nothing_secret_is_in_log_or_store(company: Company) -> None:
    token = api_token(company.admin, "viewer", "a quiet one")
    with company.server.client(token) as client:
        client.get("/api/nodes", params={"password": PASSWORD})
    company.server.wait_said("/api/nodes 200")
    path = Path(company.store.removeprefix("sqlite://"))
    kept = b"".join(file.read_bytes() for file in path.parent.iterdir())
    log = "\n".join(company.server.log)
    for secret in (token, PASSWORD, company.admin.cookies["cloud-toa"]):
        assert secret.encode() not in kept
        assert secret not in log
    assert b"$argon2id$" in kept


def test_api_token_ends(company: Company) -> None:
    said = company.admin.post("/api/tokens", json={"name": "short", "role": "viewer", "days": 1})
    with company.server.client(said.json()["token"]) as client:
        assert client.get("/api/nodes").status_code == 200
        assert client.post("/api/logout").status_code == 403
        id_ = said.json()["about"]["id"]
        assert company.admin.delete(f"/api/tokens/{id_}").status_code == 204
        assert client.get("/api/nodes").status_code == 401
        assert company.admin.delete(f"/api/tokens/{id_}").status_code == 404


def test_roles_are_ordered() -> None:
    assert people.may("admin", "operator")
    assert not people.may("viewer", "operator")
