# SPDX-License-Identifier: Apache-2.0
"""docs/recipes/nginx.md with a real nginx, its workers without privilege."""

import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from cloud_toa.demo.lab import EDGE, Lab
from cloud_toa.doctor import nginx
from cloud_toa.doctor.finding import Finding, State
from cloud_toa.doctor.nginx.judgement import KEEPS_BY_DEFAULT
from cloud_toa.doctor.nginx.judgement import version as nginx_version
from tests.netns.traffic import wait_until
from tests.recipes.page import page
from tests.recipes.web import PORT, ask, own, start_origin, visit
from tests.test_doctor_nginx_masters import wait_for_master

PAGE = page("nginx")
ONE_FAMILY = "/etc/nginx/nginx.conf"
BOTH = f"{ONE_FAMILY}, clients of both families"
BOTH_V6 = f"{BOTH}, IPv6 origin"
HTTP = f"{ONE_FAMILY}, in http"
SEVERAL = f"{HTTP}, several origins, nginx 1.29.7 or later"
MODULES = "include /etc/nginx/modules-enabled/*.conf;"
"""As in Debian's own nginx.conf; it has the module for streams."""
VERSION = nginx_version(
    subprocess.run(["nginx", "-v"], stderr=subprocess.PIPE, text=True, check=True).stderr
)
NO_NET_RAW = ("setpriv", "--bounding-set=-net_raw")
AS_WORKERS = (*NO_NET_RAW, "--reuid=www-data", "--regid=www-data", "--clear-groups")


def write(lab: Lab, *parts: str, user: str = "user www-data;") -> list[str]:
    """Write a configuration that leaves the machine's own files alone; answer its command."""
    file = lab.files / "nginx.conf"
    for folder in ("run", "body", "proxy", "fastcgi", "uwsgi", "scgi"):
        (lab.files / folder).mkdir(exist_ok=True)
        (lab.files / folder).chmod(0o777)
    head = f"{user} worker_processes 1; pid {lab.files}/run/pid; daemon off; error_log stderr;"
    kept = "".join(
        f"{name}_temp_path {lab.files}/{name.split('_')[-1]};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = "\n".join([head, MODULES, "events { }", *parts])
    file.write_text(text.replace("http {", f"http {{ access_log off; {kept}"))
    return ["nginx", "-c", str(file)]


def doctor(process: "subprocess.Popen[bytes]") -> list[Finding]:
    """What doctor says of this nginx, and of no other that may run here."""
    wait_for_master(process)
    return nginx.findings([each for each in nginx.found() if each.process.pid == process.pid])


@pytest.mark.parametrize(
    ("block", "versions"), [(ONE_FAMILY, (4,)), (BOTH, (4, 6)), (BOTH_V6, (4, 6))]
)
def test_the_server_sees_the_client(
    lab: Lab, balancers: Path, servers: Path, block: str, versions: Sequence[int]
) -> None:
    log = start_origin(lab, servers)
    PAGE.attach("nginx.service", balancers)
    command = write(lab, PAGE.block(block))
    process = lab.start(lab.edge, command, [("", PORT)], place=balancers)
    for version in versions:
        client, seen = visit(lab, log, version)
        assert seen == client
    assert {found.state for found in doctor(process)} == {State.OK}


def right(lab: Lab, log: Path) -> list[bool]:
    """Whether the server sees the client, for three with kept connections, by turns, twice."""
    with ExitStack() as open_ones:
        socks = [
            open_ones.enter_context(lab.connect((f"203.0.113.{number}", 0), (EDGE[4], PORT)))
            for number in (7, 8, 9)
        ]
        return [ask(sock, log) == own(sock) for _ in range(2) for sock in socks]


@pytest.mark.parametrize("block", [HTTP, SEVERAL])
def test_in_http_each_request_has_its_client(
    lab: Lab, balancers: Path, servers: Path, block: str
) -> None:
    if block == SEVERAL and VERSION < KEEPS_BY_DEFAULT:
        pytest.skip("nginx refuses keepalive 0")
    log = start_origin(lab, servers)
    PAGE.attach("nginx.service", balancers)
    process = lab.start(lab.edge, write(lab, PAGE.block(block)), [("", PORT)], place=balancers)
    assert right(lab, log) == [True] * 6
    assert {found.state for found in doctor(process)} == {State.OK}


@pytest.mark.parametrize("keepalive", ["", "keepalive 8;"])
def test_connections_that_are_kept_name_the_wrong_client_and_doctor_says_so(
    lab: Lab, balancers: Path, servers: Path, keepalive: str
) -> None:
    """The page's block that keeps none, with another keepalive in its upstream."""
    log = start_origin(lab, servers)
    PAGE.attach("nginx.service", balancers)
    kept = bool(keepalive) or VERSION >= KEEPS_BY_DEFAULT
    parts = PAGE.block(SEVERAL).replace("keepalive 0;", keepalive)
    old = 'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass'
    command = write(lab, parts.replace("proxy_pass", old))
    process = lab.start(lab.edge, command, [("", PORT)], place=balancers)
    assert all(right(lab, log)) is not kept
    clients = doctor(process)[0]
    assert clients.state is (State.MISSING if kept else State.OK)
    if kept:
        assert f"{command[-1]}:" in clients.detail
        assert "upstream origins keeps connections" in clients.detail
        assert "keepalive" in str(clients.remedy_debian)


def test_a_root_s_nginx_without_cap_net_raw_serves_nothing_and_doctor_says_so(
    lab: Lab, balancers: Path
) -> None:
    PAGE.attach("nginx.service", balancers)
    command = [*NO_NET_RAW, *write(lab, PAGE.block(ONE_FAMILY))]
    process = lab.start(lab.edge, command, [("", PORT)], place=balancers)
    said = lab.files / "setpriv-0.err"
    wait_until(lambda: "cannot be respawned" in said.read_text(), reason=said.read_text)
    words = "capset() failed (1: Operation not permitted)"
    assert words in said.read_text()
    assert words in PAGE.text
    clients, capability = doctor(process)
    assert clients.state is State.OK
    assert capability.state is State.MISSING
    assert f"process {process.pid} is root without CAP_NET_RAW" in capability.detail
    assert "www-data" in capability.detail


def test_without_cap_net_raw_nginx_serves_as_the_workers_user_from_the_outset(
    lab: Lab, balancers: Path, servers: Path
) -> None:
    log = start_origin(lab, servers)
    PAGE.attach("nginx.service", balancers)
    command = [*AS_WORKERS, *write(lab, PAGE.block(ONE_FAMILY), user="")]
    process = lab.start(lab.edge, command, [("", PORT)], place=balancers)
    client, seen = visit(lab, log, 4)
    assert seen == client
    assert [found.state for found in doctor(process)] == [State.OK]


def test_the_unit_attaches_as_the_page_does() -> None:
    line = PAGE.command("ExecStartPre=+/usr/local/bin/")
    assert line.endswith(PAGE.command("cloud-toa edge attach"))
