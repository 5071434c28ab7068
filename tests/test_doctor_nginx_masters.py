# SPDX-License-Identifier: Apache-2.0
"""Real nginx masters, and how doctor finds what they read; other tests' own may run beside them."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloud_toa.doctor.nginx import findings, found
from cloud_toa.doctor.nginx.masters import Nginx
from tests.netns.traffic import wait_until

NOBODY = 65534
UNPRIVILEGED = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
PYTHON = (sys.executable, "-c")
UPSTREAM = "upstream o { server 192.0.2.7; keepalive 8; }"
SERVICE = "location / { proxy_bind $remote_addr transparent; proxy_pass http://o; }"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One that another user may write to, as nginx does."""
    for place in (tmp_path, *tmp_path.parents[:2]):
        place.chmod(0o777)
    return tmp_path


def configured(folder: Path, more: str = "") -> Path:
    file = folder / "nginx.conf"
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file.write_text(
        f"{more} pid {folder}/pid; error_log stderr; events {{ }}\n"
        f"http {{ access_log off; {temporary} {UPSTREAM}\n"
        f"server {{ listen unix:{folder}/served; {SERVICE} }} }}\n"
    )
    return file


def wait_for_master(process: "subprocess.Popen[bytes]") -> None:
    """Until it has its title, which it takes some time after it listens."""
    title = Path(f"/proc/{process.pid}/cmdline")
    wait_until(lambda: title.read_bytes().startswith(b"nginx: master process ") or ended(process))
    assert not ended(process)


def ended(process: "subprocess.Popen[bytes]") -> bool:
    return process.poll() is not None


@contextmanager
def running(folder: Path, command: Sequence[str]) -> Iterator[Nginx]:
    """Start it; what is found of it, once it serves."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for_master(process)
        assert (folder / "served").exists()
        (one,) = [each for each in found() if each.process.pid == process.pid]
        yield one
    finally:
        process.terminate()
        process.wait()


def test_a_master_s_own_file_is_read(folder: Path) -> None:
    """Options with spaces have no quotes in its title."""
    file = configured(folder)
    command = ["nginx", "-g", "daemon off; user www-data;", "-c", str(file), "-e", "stderr"]
    with running(folder, command) as one:
        assert (one.file, one.trouble, one.user) == (str(file), "", "www-data")
        (clients, capability) = findings([one])
        assert f"{file}:3 names the wrong client" in clients.detail
        assert capability.name == "nginx CAP_NET_RAW"


def test_what_another_user_s_nginx_reads_is_read_as_that_user(folder: Path) -> None:
    """Root would read more, and load that user's modules."""
    file = configured(folder, "daemon off;")
    with running(folder, [*UNPRIVILEGED, "nginx", "-c", str(file), "-e", "stderr"]) as one:
        assert one.trouble == ""
        assert one.process.uid == NOBODY
        file.chmod(0o600)
        (again,) = [each for each in found() if each.process.pid == one.process.pid]
        assert "Permission denied" in again.trouble
        assert f"not read: {again.trouble}" == findings([again])[0].detail


def test_who_only_looks_like_nginx_is_asked_without_what_is_ours(folder: Path) -> None:
    """A shell by that title, of another user: neither as root, nor with root's environment."""
    asked, about = folder / "asked", folder / "about"
    asked.write_text(
        f"#!/bin/sh\n{{ id -u; id -G; /usr/bin/env; }} >{about}\n"
        f"echo '# configuration file /n:'; yes 'a {{' | head -n 5000\n"
    )
    asked.chmod(0o755)
    title = f"nginx: master process nginx -c {asked}"
    script = f'exec -a "{title}" {Path("/bin/sh").resolve()} -s'
    command = [*UNPRIVILEGED, "bash", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        cmdline = Path(f"/proc/{process.pid}/cmdline")
        wait_until(lambda: cmdline.read_bytes().startswith(title.encode()))
        (one,) = [each for each in found() if each.process.pid == process.pid]
        process.kill()
    assert "hundreds deep" in one.trouble
    uid, groups, *environment = about.read_text().split()
    assert (uid, groups) == (str(NOBODY), str(NOBODY))
    assert {line.split("=")[0] for line in environment} <= {"PWD", "_", "OLDPWD"}


def test_a_binary_that_is_not_among_our_files_is_not_run(folder: Path) -> None:
    file = configured(folder, "daemon off;")
    copy = folder / "copy"
    nginx = subprocess.run(
        ["which", "nginx"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
    copy.write_bytes(Path(nginx).read_bytes())
    copy.chmod(0o755)
    there = f'mount --bind {copy} {nginx}; exec nginx -c "$0" -e stderr'
    with running(folder, ["unshare", "--mount", "sh", "-ec", there, str(file)]) as one:
        assert "has files of its own, as in a container" in one.trouble


def test_another_user_s_doctor_is_told_to_use_sudo(folder: Path) -> None:
    """And says nothing of what it can't see."""
    file = configured(folder, "daemon off;")
    with running(folder, ["nginx", "-c", str(file), "-e", "stderr"]) as one:
        ask = (
            "from cloud_toa.doctor.nginx import found;"
            f"print([each.trouble for each in found() if each.process.pid == {one.process.pid}])"
        )
        said = subprocess.run(
            [*UNPRIVILEGED, *PYTHON, ask], stdout=subprocess.PIPE, text=True, check=True
        ).stdout
        assert f"process {one.process.pid} can't be looked at" in said


def test_the_one_that_is_installed_is_read_where_none_runs(folder: Path) -> None:
    """In a view of the machine in which no nginx runs; its empty pid file is not left behind."""
    file = configured(folder)
    ask = (
        "from cloud_toa.doctor.nginx import found;"
        "(one,) = found(); print(one.process.pid, one.file, one.trouble)"
    )
    with_it = 'mount --bind "$0" /etc/nginx/nginx.conf; exec "$@"'
    own = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-ec", with_it]
    said = subprocess.run(
        [*own, str(file), *PYTHON, ask], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    assert said == "None /etc/nginx/nginx.conf \n"
    assert not (folder / "pid").exists()
