# SPDX-License-Identifier: Apache-2.0
"""What is the same for every call: refusals, sizes, headers, the log, start and end."""

import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.cli.command import spawn
from tests.cluster.api.serving import (
    PATIENCE,
    Events,
    Serving,
    free_port,
    join,
    log_in,
    serving,
    set_up,
)


def test_a_service_manager_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with serving(f"sqlite://{tmp_path}/cluster.db"):
            assert manager.recv(100) == b"READY=1"


def test_refusals_have_one_shape(admin: httpx.Client) -> None:
    said = [
        admin.get("/api/nothing"),
        admin.get("/api/nodes/nothing"),
        admin.patch("/api/settings"),
        admin.post("/api/settings/check", content=b"{", headers={"Content-Type": "text/plain"}),
        admin.post("/api/settings/check", content=b"{", headers=JSON),
        admin.post("/api/settings/check", json={"text": 5}),
        admin.post("/api/settings/check", json={"text": "", "more": 5}),
        admin.post("/api/settings/check", content=b'{"text":"\xff"}', headers=JSON),
        admin.get("/api/settings/history", params={"limit": "many"}),
    ]
    assert [each.status_code for each in said] == [404, 404, 405, 415, 400, 422, 422, 400, 422]
    for each in said:
        problem = each.json()
        assert each.headers["Content-Type"] == "application/problem+json"
        assert problem["status"] == each.status_code
        assert problem["title"]
        assert "\n" not in problem["detail"]
    assert set(said[2].headers["Allow"].split(", ")) == {"GET", "HEAD", "PUT"}
    assert said[5].json()["mistakes"][0]["field"] == "text"
    assert said[8].json()["mistakes"][0]["field"] == "limit"


JSON = {"Content-Type": "application/json"}


def test_largest_body(admin: httpx.Client) -> None:
    large = b'{"text":"' + b"x" * 1_000_000 + b'"}'
    assert admin.post("/api/settings/check", content=large, headers=JSON).status_code == 413

    def pieces() -> "list[bytes]":
        return [large[at : at + 50_000] for at in range(0, len(large), 50_000)]

    said = admin.post("/api/settings/check", content=iter(pieces()), headers=JSON)
    assert said.status_code == 413


@pytest.mark.parametrize("path", ["/health", "/api/me", "/nothing", "/api/settings"])
def test_headers(admin: httpx.Client, nobody: httpx.Client, path: str) -> None:
    for client in (admin, nobody):
        headers = client.get(path).headers
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cache-Control"] == "no-store"
        assert "Server" not in headers


def test_browser_is_led_to_the_login(nobody: httpx.Client) -> None:
    said = nobody.get("/nodes?a=b", headers={"Accept": "text/html"})
    assert said.status_code == 303
    assert said.headers["Location"] == "/login?next=%2Fnodes%3Fa%3Db"
    said = nobody.get("/nodes", headers={"Accept": "text/html", "HX-Request": "true"})
    assert (said.status_code, said.headers["HX-Redirect"]) == (401, "/login")


def test_log(server: Serving, admin: httpx.Client) -> None:
    admin.get("/api/%0Aforged?secret=hidden")
    server.wait_said("forged")
    lines = [line for line in server.log if "forged" in line]
    assert len(lines) == 1
    assert "GET /api/%0Aforged 404" in lines[0]
    assert " ann 127.0.0.1" in lines[0]
    assert not server.said("hidden")


def test_ends_in_order_with_open_streams(fresh: Serving) -> None:
    with set_up(fresh) as admin:
        _, node = join(fresh, admin, "edge-1")
        with node:
            streams = [Events(admin, "/api/events"), Events(node, "/node/events")]
            assert fresh.end() == 0
            for stream in streams:
                stream.wait_end()
                assert ("error", "") not in stream.seen
                assert all(kind != "error" for kind, _ in stream.seen)
    assert fresh.log[-1].endswith("has ended")
    assert not fresh.said("Traceback")


def test_tls(tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    make(certificate, key, "console.example")
    files = ("--tls-certificate", str(certificate), "--tls-key", str(key))
    with serving(f"sqlite://{tmp_path}/c.db", *files) as server:
        assert server.said(f"https://console.example:{server.port}/setup?token=")
        with server.client(verify=False) as client:
            wish = {"token": server.setup_token, "name": "ann", "password": "correct horse 9"}
            assert client.post("/api/setup", json=wish).status_code == 200
            said = client.post("/api/login", json={"name": "ann", "password": "correct horse 9"})
            assert said.headers["Set-Cookie"].startswith("__Host-cloud-toa=")
            assert "; Secure" in said.headers["Set-Cookie"]
            assert "max-age" in said.headers["Strict-Transport-Security"]
            assert client.get("/api/me", headers={"Host": "console.example"}).status_code == 200
            assert client.get("/api/me", headers={"Host": "evil.example"}).status_code == 421
        make(certificate, key, "renewed.example")
        before = certificate_of(server)
        server.process.send_signal(signal.SIGHUP)
        server.wait_said("read again")
        assert certificate_of(server) != before
        key.write_text("no key")
        server.process.send_signal(signal.SIGHUP)
        server.wait_said("the former certificate goes on")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--listen", "0.0.0.0:1"), "can be reached by others"),
        (("--listen", "[::]:1"), "can be reached by others"),
        (("--listen", "here"), "is no address"),
        (("--listen", "127.0.0.1:0"), "is no address"),
        (("--trusted-proxy", "proxy.example"), "is not an address or CIDR"),
        (("--trusted-proxy", "0.0.0.0/0"), "lets everybody say who he is: name the reverse"),
        (("--trusted-proxy", "10.0.0.1/8"), "did you mean 10.0.0.0/8?"),
        (("--tls-key", "k.pem"), "is without --tls-certificate"),
        (("--tls-certificate", "/nothing.pem"), "/nothing.pem can't be read"),
        (("--store", "mysql://x"), "is no store"),
        (("--store", "sqlite:///proc/nothing/c.db"), "/proc/nothing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_refused_at_the_start(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    said = spawn("console", f"--store=sqlite://{tmp_path}/c.db", *arguments)
    assert said.code == 2
    last = said.err.splitlines()[-1]
    assert last.startswith("cloud-toa: ")
    assert says in last
    assert "Traceback" not in said.err


def test_port_that_is_taken(server: Serving, tmp_path: Path) -> None:
    said = spawn(
        "console", f"--store=sqlite://{tmp_path}/c.db", f"--listen=127.0.0.1:{server.port}"
    )
    assert said.code == 2
    assert "Address already in use" in said.err


def test_password_of_the_store_is_not_logged() -> None:
    url = "etcd://root:hunter2@127.0.0.1:1"
    said = spawn("console", f"--listen=127.0.0.1:{free_port()}", f"--store={url}")
    assert said.code == 2
    assert "hunter2" not in said.err
    assert "Traceback" not in said.err


def test_second_login_is_another_session(server: Serving, admin: httpx.Client) -> None:
    with server.client() as other:
        log_in(other, "ann")
        assert other.cookies["cloud-toa"] != admin.cookies["cloud-toa"]
        assert other.post("/api/logout").status_code == 204
    assert admin.get("/api/me").status_code == 200


def make(certificate: Path, key: Path, name: str) -> None:
    """A certificate that signs itself."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"),
            *("ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj", f"/CN={name}"),
            *("-addext", f"subjectAltName=DNS:{name}", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )


def certificate_of(server: Serving) -> str:
    import ssl  # noqa: PLC0415

    return ssl.get_server_certificate(("127.0.0.1", server.port))
