# SPDX-License-Identifier: Apache-2.0
"""namespaces.py: network namespaces that are told apart for good."""

import subprocess
from pathlib import Path

import pytest

from cloud_toa import namespaces
from cloud_toa.isolation import Namespace
from tests.node.processes import all_shown

__all__ = ["all_shown"]

HELD_BY_A_THREAD = """
import ctypes, os, sys, threading
def hold():
    ctypes.CDLL(None).unshare(0x40000000)
    print(os.stat("/proc/thread-self/ns/net").st_ino, flush=True)
    sys.stdin.read()
threading.Thread(target=hold).start()
"""


def test_a_cookie_is_its_namespaces_alone() -> None:
    cookies = {namespaces.cookie()}
    for _ in range(5):
        namespace = Namespace("cookie")  # the kernel may give each the number of the last
        with namespace.entered():
            cookies.add(namespaces.cookie())
            assert namespaces.cookie() == namespaces.cookie()
        namespace.remove()
    assert len(cookies) == 6
    assert None not in cookies


def test_a_kernel_that_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces, "SO_NETNS_COOKIE", 9999)
    assert namespaces.cookie() is None


@pytest.mark.usefixtures("all_shown")
def test_what_lives() -> None:
    """Held by this thread, by a mount, by another process's thread that is not its first."""
    named = Namespace("living")
    with subprocess.Popen(
        ["python3", "-c", HELD_BY_A_THREAD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        of_thread = int(process.stdout.readline())
        assert of_thread != int(Path(f"/proc/{process.pid}/ns/net").stat().st_ino)
        living = namespaces.living()
        assert living is not None
        assert {namespaces.inode(), named.path.stat().st_ino, of_thread} <= living
    named.remove()
