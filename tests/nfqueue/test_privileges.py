# SPDX-License-Identifier: Apache-2.0
"""privileges.py: what a process has left afterwards, in the kernel's words."""

import os
import select
import signal
import subprocess
import sys

import pytest

CAP_NET_ADMIN = 1 << 12
NOBODY = ["65534"] * 4
GIVE_UP = "from cloud_toa.nfqueue import privileges; privileges.keep_net_admin()"
SHOW = "print(open('/proc/self/status').read())"
TRY = """
import os
for name, attempt in {
    "another user": lambda: os.setuid(0),
    "another group": lambda: os.setgid(0),
    "other groups": lambda: os.setgroups([0]),
    "a file of root's": lambda: open("/etc/shadow").close(),
    "another root": lambda: os.chroot("/"),
    "a raw socket": lambda: __import__("socket").socket(socket.AF_INET, socket.SOCK_RAW, 6),
    "a signal": lambda: os.kill(os.getppid(), 0),
}.items():
    try:
        attempt()
        print(name)
    except PermissionError:
        pass
"""


def python(*lines: str, before: tuple[str, ...] = ()) -> str:
    command = [*before, sys.executable, "-c", "import os, socket\n" + "\n".join(lines)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def status(text: str) -> dict[str, list[str]]:
    return {
        name: values.split()
        for name, _, values in (line.partition(":") for line in text.splitlines())
    }


def test_nobody_who_may_configure_the_network() -> None:
    left = status(python(GIVE_UP, SHOW))
    assert left["Uid"] == NOBODY
    assert left["Gid"] == NOBODY
    assert left["Groups"] == []
    assert int(left["CapEff"][0], 16) == CAP_NET_ADMIN
    assert int(left["CapPrm"][0], 16) == CAP_NET_ADMIN
    assert int(left["CapBnd"][0], 16) == CAP_NET_ADMIN
    assert int(left["CapInh"][0], 16) == 0
    assert int(left["CapAmb"][0], 16) == 0
    assert left["NoNewPrivs"] == ["1"]


def test_a_program_that_it_starts_may_nothing() -> None:
    start = "os.execv('/bin/cat', ['cat', '/proc/self/status'])"
    left = status(python(GIVE_UP, start))
    assert left["Uid"] == NOBODY
    assert int(left["CapEff"][0], 16) == 0
    assert int(left["CapPrm"][0], 16) == 0


def test_nothing_else_is_allowed() -> None:
    assert python(TRY).count("\n") == 7
    assert python(GIVE_UP, TRY) == ""


def test_the_network_can_be_configured() -> None:
    allowed = "socket.socket().setsockopt(socket.SOL_IP, 19, 1)  # IP_TRANSPARENT"
    assert python(GIVE_UP, allowed) == ""


def test_a_user_who_has_only_this_privilege_keeps_it() -> None:
    before = (
        *("setpriv", "--reuid=1", "--regid=1", "--clear-groups"),
        *("--inh-caps=+net_admin", "--ambient-caps=+net_admin"),
    )
    left = status(python(GIVE_UP, SHOW, before=before))
    assert left["Uid"] == ["1"] * 4
    assert int(left["CapEff"][0], 16) == CAP_NET_ADMIN
    assert left["NoNewPrivs"] == ["1"]


def test_a_user_without_it_is_refused() -> None:
    before = ("setpriv", "--reuid=1", "--regid=1", "--clear-groups")
    tried = f"try: {GIVE_UP.partition('; ')[2]}\nexcept OSError as error: print(error.strerror)"
    said = python("from cloud_toa.nfqueue import privileges", tried, before=before)
    assert said == "Operation not permitted\n"


PARENT = """
import os, subprocess, sys
child = [sys.executable, "-c", sys.argv[1], str(os.getpid())]
subprocess.run(child, stdout=1)
"""
CHILD = """
import os, signal, sys
from cloud_toa.nfqueue import privileges
privileges.keep_net_admin()
privileges.end_with(int(sys.argv[1]))
os.write(1, b"%d\\n" % os.getpid())
signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_its_parent(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        try:
            parent.send_signal(number)
            assert select.select([child], [], [], 10)[0], "the child outlives its parent"
        finally:
            os.close(child)


def test_it_ends_at_once_where_the_parent_is_gone_already() -> None:
    stranger = "privileges.end_with(1 << 21)"
    done = subprocess.run(
        [sys.executable, "-c", f"{GIVE_UP}; {stranger}; print('alive')"],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, b"")
