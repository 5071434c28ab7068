# SPDX-License-Identifier: Apache-2.0
import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from cloud_toa.doctor import balancer
from cloud_toa.doctor.finding import State
from tests.netns.traffic import wait_until

SERVICE = """
defaults
  mode tcp
  timeout connect 1s
  timeout client 1s
  timeout server 1s
listen service
  bind unix@{folder}/served
  {source}
  server origin 127.0.0.1:9
"""
USESRC = "source 0.0.0.0 usesrc client"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("nginx version: nginx/1.22.1\nconfigure arguments: --with-stream", ("1.22.1", "stream")),
        (
            "nginx version: nginx/1.22.1\nconfigure arguments: --with-stream=dynamic --with-http",
            ("1.22.1", "stream as a module (load_module)"),
        ),
        # The options of a module are not the module.
        ("nginx version: nginx/1.2\narguments: --with-stream_ssl_module", ("1.2", None)),
        ("nonsense", ("of unknown version", None)),
    ],
)
def test_nginx_needs_stream(said: str, expected: tuple[str, str | None]) -> None:
    assert balancer.nginx_build(said) == expected


def test_haproxy_names_its_version() -> None:
    assert balancer.haproxy_version("HAProxy version 2.6.12-1+deb12u4 2026/10/17") == (
        "2.6.12-1+deb12u4"
    )
    assert balancer.haproxy_version("HA-Proxy version 2.0.13-2 2020/02/15") == "2.0.13-2"
    assert balancer.haproxy_version("") == "of unknown version"


@pytest.mark.parametrize(
    ("settings", "source", "refused"),
    [
        ("user haproxy\n  group haproxy", USESRC, "user haproxy"),
        ("uid 65534", USESRC, "uid 65534"),
        ("user haproxy # not root", USESRC, "user haproxy"),
        ("group haproxy", USESRC, None),
        ("user root", USESRC, None),
        ("# user haproxy", USESRC, None),
        ("user haproxy", "", None),
        ("user haproxy", f"# {USESRC}", None),
        ("maxconn 100\nuserlist people\n  user haproxy password $5$x", USESRC, None),
    ],
)
def test_doctor_knows_what_haproxy_refuses(
    settings: str, source: str, refused: str | None, tmp_path: Path
) -> None:
    config = tmp_path / "haproxy.cfg"
    service = SERVICE.format(folder=tmp_path, source=source)
    config.write_text(f"global\n  stats socket {tmp_path}/asked\n  {settings}\n{service}")

    found = balancer.haproxy(config)

    assert balancer.haproxy_refuses(config.read_text()) == refused
    assert (found.state is State.MISSING) == (refused is not None)
    assert _starts(config) == (refused is None)
    if refused:
        assert f"`{refused}`" in found.detail
        assert found.remedy_debian == found.remedy_rhel
        mend = str(found.remedy_debian).removesuffix(" && systemctl restart haproxy")
        subprocess.run(mend, shell=True, check=True)
        assert balancer.haproxy(config).state is State.OK
        assert _starts(config)


def test_the_remedy_leaves_users_of_lists(tmp_path: Path) -> None:
    config = tmp_path / "haproxy.cfg"
    people = "userlist people\n  user haproxy password $5$x\n"
    config.write_text(f"global\n  user haproxy\n{people}listen a\n  {USESRC}\n")
    mend = str(balancer.haproxy(config).remedy_debian).split(" && ")[0]

    subprocess.run(mend, shell=True, check=True)

    assert config.read_text() == f"global\n#  user haproxy\n{people}listen a\n  {USESRC}\n"


def test_newer_haproxy_keeps_what_usesrc_needs() -> None:
    allowed = f"global\n  setcap cap_net_admin\n  user haproxy\nlisten a\n  {USESRC}\n"
    assert balancer.haproxy_refuses(allowed) is None


def test_haproxy_without_the_packaged_configuration(tmp_path: Path) -> None:
    assert balancer.haproxy(tmp_path / "none").state is State.OK


def _starts(config: Path) -> bool:
    """Whether the real HAProxy answers, and does not end by itself."""
    haproxy = shutil.which("haproxy")
    assert haproxy
    asked = config.with_name("asked")
    asked.unlink(missing_ok=True)
    with subprocess.Popen([haproxy, "-db", "-q", "-f", str(config)]) as process:
        # It listens before it looks at its privileges: only an answer shows that it runs.
        wait_until(lambda: asked.exists() or process.poll() is not None)
        answer = b""
        with suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(asked))
            sock.sendall(b"show version\n")
            answer = sock.recv(100)
        process.terminate()
    return bool(answer)
