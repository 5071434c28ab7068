# SPDX-License-Identifier: Apache-2.0
"""toa.ko installed: loaded by its name, by hand, at boot, and by ``cloud-toa``."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cloud_toa import kmod
from cloud_toa.cli import main
from cloud_toa.trust import Trust
from tests.netns.receivers import MODULE

KERNEL = os.uname().release
PACKAGING = Path(__file__).parents[2] / "packaging"
MODULES_LOAD = "/usr/lib/systemd/systemd-modules-load"


def run(*command: str | Path) -> None:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture
def installed() -> Iterator[None]:
    """In folders that are only ours to see, without the other modules, which take depmod long."""
    with ExitStack() as undo:
        for place in (f"/lib/modules/{KERNEL}", "/etc/modprobe.d"):
            run("mount", "-t", "tmpfs", "cloud-toa", place)
            undo.callback(run, "umount", place)
        (source,) = MODULE.parent.glob("usr/src/toa-*")
        kdir = MODULE.parents[1] / f"{KERNEL}-headers/usr/src/linux-headers-{KERNEL}"
        # W=1, as it was built with: else all is compiled again.
        run("make", "-C", source, f"KDIR={kdir}", f"KERNELRELEASE={KERNEL}", "W=1", "install")
        undo.callback(kmod.detach)
        yield


def trusted() -> Trust:
    status = kmod.status()
    assert status is not None
    return status.settings.trust


@pytest.mark.only_on(kernel="6.1")
@pytest.mark.usefixtures("installed")
def test_by_name() -> None:
    run("modprobe", "toa")
    assert trusted() == Trust()
    run("rmmod", "toa")

    shutil.copy(PACKAGING / "modprobe.d/toa.conf", "/etc/modprobe.d")
    run(MODULES_LOAD, PACKAGING / "modules-load.d/toa.conf")
    assert trusted() == Trust.parse(["192.0.2.10", "2001:db8:9::10"])
    run("rmmod", "toa")

    # What the command line says comes after what the file says, and wins.
    assert main(["origin", "attach", "--datapath", "kmod", "--trust", "192.0.2.99"]) == 0
    assert trusted() == Trust.parse(["192.0.2.99"])
