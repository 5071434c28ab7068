# SPDX-License-Identifier: Apache-2.0
"""Services with TLS: certificates, names, versions, and what a wrong file does."""

import os
import signal
import ssl
import subprocess
from pathlib import Path

import pytest

from cloud_toa.balancer.expiry import not_after
from cloud_toa.demo.lab import EDGE, Lab
from tests.netns.authority import Authority
from tests.netns.edge_node import running, write
from tests.netns.edge_services import (
    CLIENT,
    CLIENT6,
    FIRST,
    ORIGIN,
    SECOND,
    THIRD,
    Log,
    connected,
    is_refused,
    is_seen,
    origin,
    service,
    shown,
    shown_name,
    start_origin,
    trusting,
    visit,
)

pytestmark = pytest.mark.one_kernel

PORT = 8443


def tls_service(
    name: str, port: int, *certificates: str, lines: str = "", origins: str = "", tls: str = ""
) -> str:
    listed = ", ".join(certificates)
    settings = f"[service.tls]\ncertificates = [{listed}]\n{tls}"
    return service(name, port, 'protocol = "tls"', lines, settings, origins=origins)


def entry(certificate: Path, key: Path | None = None) -> str:
    shown = f'certificate = "{certificate}"' + (f', key = "{key}"' if key else "")
    return f"{{{shown}}}"


@pytest.fixture
def authority(lab: Lab) -> Authority:
    return Authority(lab.files)


_NGINX = """
daemon off; master_process off; error_log stderr; pid %(files)s/nginx.pid;
events {}
http { access_log off; server { listen 7001; location / { return 200 "$remote_addr"; } } }
"""


def test_curl_and_nginx(lab: Lab, receiver: Path, authority: Authority) -> None:
    """Programs that nobody of us wrote, from a page's address to the client's in it."""
    configuration = lab.files / "nginx.conf"
    configuration.write_text(_NGINX % {"files": lab.files})
    lab.start(lab.origin, ["nginx", "-c", str(configuration)], [(ORIGIN, FIRST)], place=receiver)
    path = write(lab, tls_service("web", PORT, entry(*authority.issue("shop.test"))))
    with running(lab, "--config", str(path)):
        for client in (CLIENT, "203.0.113.10"):
            said = lab.client.run(
                *("curl", "--silent", "--show-error", "--max-time", "60", "--interface", client),
                *(
                    "--cacert",
                    str(authority.certificate),
                    "--resolve",
                    f"shop.test:{PORT}:{EDGE[4]}",
                ),
                f"https://shop.test:{PORT}/",
            )
            assert said == client


def test_certificates_by_name_and_versions(lab: Lab, receiver: Path, authority: Authority) -> None:
    """The certificate that a client asks for; else the first. In one file, or in two."""
    start_origin(lab, receiver, "web", FIRST)
    certificates = (
        entry(*authority.issue("a.test")),
        entry(authority.pem("b.test")),
        entry(authority.pem("*.c.test")),
    )
    new = tls_service("new", 8444, certificates[0], tls='min_version = "1.3"\n')
    path = write(lab, tls_service("web", PORT, *certificates) + new)
    context = trusting(authority.certificate)
    context.check_hostname = True
    old = trusting(authority.certificate)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with running(lab, "--config", str(path)):
        for name in ("a.test", "b.test", "x.c.test"):
            with connected(lab, PORT, tls=context, name=name) as sock:
                assert shown_name(sock) == name.replace("x.", "*.")
        for unknown in ("unknown.test", None):
            with connected(lab, PORT, tls=trusting(authority.certificate), name=unknown) as sock:
                assert shown_name(sock) == "a.test"
        for client in ("203.0.113.9", CLIENT6):
            said = visit(lab, PORT, tls=context, name="b.test", client=client)
            assert is_seen(said)
            assert said["own"][0] == client
        with connected(lab, PORT, tls=old, name="a.test") as sock:
            assert isinstance(sock, ssl.SSLSocket)
            assert sock.version() == "TLSv1.2"
        assert is_seen(visit(lab, 8444, tls=context, name="a.test"))
        with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
            visit(lab, 8444, tls=old, name="a.test")

        said_by_openssl = openssl_client(lab, "-servername", "b.test", "-tls1_2")
        assert "Verify return code: 0 (ok)" in said_by_openssl
        assert "subject=CN = b.test" in said_by_openssl


def openssl_client(lab: Lab, *options: str) -> str:
    """What `openssl s_client` says of the service."""
    ca = str(lab.files / "authority.pem")
    command = ["openssl", "s_client", "-connect", f"{EDGE[4]}:{PORT}", "-CAfile", ca, *options]
    return subprocess.run(
        ["nsenter", f"--net={lab.client.path}", *command],
        input="Q\n", capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip


def test_client_certificates(lab: Lab, receiver: Path, authority: Authority) -> None:
    start_origin(lab, receiver, "web", FIRST)
    other = Authority(lab.files, "other")
    log = Log(lab)
    clients = f'client_ca = "{authority.certificate}"\n'
    path = write(
        lab, tls_service("web", PORT, entry(authority.pem("a.test")), tls=clients) + log.settings
    )
    ca = authority.certificate
    with running(lab, "--config", str(path)):
        right = trusting(ca, certificate=authority.pem("joe"))
        assert is_seen(visit(lab, PORT, tls=right))
        assert log.next()["end"] == "--"
        assert is_refused(lab, PORT, tls=trusting(ca))
        assert log.next()["error"]
        assert is_refused(lab, PORT, tls=trusting(ca, certificate=other.pem("eve")))
        assert log.next()["error"]


def test_wrong_files_are_refused(lab: Lab, receiver: Path, authority: Authority) -> None:
    """What runs goes on, even if HAProxy must be started again."""
    start_origin(lab, receiver, "web", FIRST)
    certificate, key = authority.issue("a.test")
    other, _ = authority.issue("other.test")
    good = tls_service("web", PORT, entry(certificate, key))
    path = write(lab, good)
    context = trusting(authority.certificate)
    context.check_hostname = True

    def serves() -> bool:
        return is_seen(visit(lab, PORT, tls=context, name="a.test"))

    with running(lab, "--config", str(path)) as node:
        for wrong, why in (
            (entry(certificate, lab.files / "none.key"), "none.key can't be read: No such file"),
            (entry(lab.files / "none.pem"), "none.pem can't be read: No such file"),
            (entry(other, key), "is not the key of"),
            (entry(key), "has no certificate"),
            (entry(certificate), "has no key"),
        ):
            write(lab, tls_service("web", PORT, wrong))
            said = node.until("not applied")
            assert why in said
            assert serves()
        write(lab, tls_service("web", PORT, entry(certificate, key), tls=f'client_ca = "{key}"\n'))
        assert "has no certificate" in node.until("not applied")
        write(lab, tls_service("web", PORT, entry(certificate, key), tls='ciphers = "NOPE"\n'))
        assert "NOPE" in node.until("not applied")
        write(lab, good)
        node.until("applied")
        # The key alone is replaced, as by a renewal that is half done.
        whole = key.read_text()
        key.write_text(authority.issue("other.test")[1].read_text())
        assert "is not the key of" in node.until("not applied")
        assert serves()
        os.kill(node.haproxy, signal.SIGKILL)
        node.until("HAProxy is process")
        assert serves()
        key.write_text(whole)
        node.until("applied")
        assert serves()


def test_services_by_name_on_one_port(lab: Lab, receiver: Path, authority: Authority) -> None:
    """An exact name goes before a wildcard, wherever in the file each is."""
    for name, port in (("any", FIRST), ("www", SECOND), ("rest", THIRD)):
        start_origin(lab, receiver, name, port)
    certificate = entry(authority.pem("a.test"))
    some = (
        tls_service(
            "any", PORT, certificate, lines='server_names = ["*.a.test"]', origins=origin(FIRST)
        )
        + tls_service(
            "www",
            PORT,
            certificate,
            lines='server_names = ["www.a.test", "a.test"]',
            origins=origin(SECOND),
        )
        + tls_service(
            "deep",
            PORT,
            certificate,
            lines='server_names = ["*.deep.a.test"]',
            origins=origin(THIRD),
        )
    )
    log = Log(lab)
    path = write(lab, some + log.settings)
    context = trusting(authority.certificate)
    with running(lab, "--config", str(path)) as node:
        for name, whose in (
            ("www.a.test", "www"),
            ("A.Test", "www"),
            ("WWW.a.test", "www"),
            ("x.a.test", "any"),
            ("x.deep.a.test", "rest"),
        ):
            said = visit(lab, PORT, tls=context, name=name)
            assert (said["name"], is_seen(said)) == (whose, True)
            assert log.next()["server_name"] == name
        for unknown in ("unknown.test", None):
            assert is_refused(lab, PORT, tls=context, name=unknown)
            line = log.next()
            assert (line["origin"], line["server_name"]) == ("-", unknown or "-")
        write(
            lab, some + tls_service("rest", PORT, certificate, origins=origin(THIRD)) + log.settings
        )
        node.until("applied")
        for unknown in ("unknown.test", None):
            assert visit(lab, PORT, tls=context, name=unknown)["name"] == "rest"


def test_a_certificate_is_renewed(lab: Lab, receiver: Path, authority: Authority) -> None:
    """Once it is there, new connections get it, and old ones go on; an owner needs no care."""
    start_origin(lab, receiver, "web", FIRST)
    one, (two, key) = authority.pem("a.test"), authority.issue("b.test")
    for file in (one, key):
        os.chown(file, 12345, 12345)
        file.chmod(0o600)
    path = write(lab, tls_service("web", PORT, entry(one), entry(two, key)))
    context = trusting(authority.certificate)
    with running(lab, "--config", str(path)) as node:
        with connected(lab, PORT, tls=context, name="a.test") as sock:
            for name in ("a.test", "b.test"):
                was = serial(lab, context, name)
                if name == "a.test":
                    authority.pem("a.test")
                else:
                    authority.issue("b.test")
                while serial(lab, context, name) == was:
                    node.until("applied by a reload")
            sock.sendall(b"ask\n")
            assert sock.recv(1 << 12).startswith(b"{")


def serial(lab: Lab, context: ssl.SSLContext, name: str) -> str:
    with connected(lab, PORT, tls=context, name=name) as sock:
        return str(shown(sock)["serialNumber"])


def test_a_certificate_that_expires(lab: Lab, receiver: Path, authority: Authority) -> None:
    """It is served all the same; who runs the edge is warned."""
    start_origin(lab, receiver, "web", FIRST)
    late, soon = authority.pem("late.test", days=-1), authority.pem("soon.test", days=5)
    path = write(lab, tls_service("web", PORT, entry(late), entry(soon)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with running(lab, "--config", str(path)) as node:
        assert f"certificate {late} has expired on " in node.log
        assert f"certificate {soon} expires on " in node.log
        assert is_seen(visit(lab, PORT, tls=context))
        said = node.command("config", "check", str(path))
        assert said.returncode == 0
        assert f"certificate {late} has expired on " in said.stderr


def test_the_end_of_a_certificate(tmp_path: Path) -> None:
    """As openssl reads it, in both of the forms that X.509 has for a time."""
    authority = Authority(tmp_path)
    for days in (-1, 90, 12000):
        certificate, _ = authority.issue("a.test", days=days)
        said = subprocess.run(
            ["openssl", "x509", "-noout", "-enddate", "-in", str(certificate)],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        end = not_after(str(certificate))
        assert end is not None
        assert end.timestamp() == ssl.cert_time_to_seconds(said.strip().removeprefix("notAfter="))
