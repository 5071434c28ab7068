# SPDX-License-Identifier: Apache-2.0
"""toa.ko, and what stands for modules of others, built for the kernels of the virtual machines.

The packages of a kernel's headers are unpacked beside the kernel and never installed.

``python -m tests.vm.module`` fetches kernels and headers, which the tests can't: they have
no network but their own.

Needs gcc, make, pahole and sparse.
"""

import contextlib
import shutil
import subprocess
import threading
from functools import cache
from pathlib import Path

from tests.vm.machine import KERNELS, KernelUnavailableError, fetch, kernel, unpacked

KMOD = Path(__file__).parents[2] / "kmod"
FOREIGN = ("toa", "tcp_toa")
"""Names that the published modules go by: ``foreign/toa.c`` is built under each."""

_INSTALLED_AT = "/usr/src"
_building = threading.Lock()


def headers(root: Path) -> Path:
    """Where the headers of the kernel unpacked in ``root`` are."""
    return root.with_name(f"{root.name}-headers")


def fetch_headers(root: Path) -> None:
    """Download and unpack them; nothing to do if they are there."""
    place = headers(root)
    if place.exists():
        return
    package = f"linux-headers-{root.name}"
    depends = subprocess.run(
        ["apt-cache", "depends", package], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    parts = {
        word for word in depends.split() if word.startswith(("linux-headers-", "linux-kbuild-"))
    }
    with unpacked(sorted(parts | {package}), place) as new:
        # It names the other package's by where it is installed.
        makefile = new / f"usr/src/{package}/Makefile"
        text = makefile.read_text()
        makefile.write_text(text.replace(_INSTALLED_AT, f"{place}{_INSTALLED_AT}"))


def build(root: Path) -> tuple[Path, str]:
    """Build the module for the kernel unpacked in ``root``, with every warning and sparse.

    From the source that DKMS and the Debian package get. Once: machines that run may read it.

    Returns:
        The toa.ko, in a place of its own, and what the compilers said.
    """
    with _building:
        return _build(root)


@cache
def _build(root: Path) -> tuple[Path, str]:
    place = root.with_name(f"{root.name}-toa")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    subprocess.run(["make", "-s", "-C", KMOD, "source", f"DESTDIR={place}"], check=True)
    (source,) = place.glob("usr/src/toa-*")
    kdir = headers(root) / f"usr/src/linux-headers-{root.name}"
    said = _make([f"KDIR={kdir}", "W=1", "C=1"], source)
    shutil.copy(source / "toa.ko", place)
    for name in FOREIGN:
        foreign = place / "foreign" / name
        foreign.mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("foreign") / "toa.c", foreign / f"{name}.c")
        (foreign / "Makefile").write_text(f"obj-m := {name}.o\n")
        said += _make(["-C", str(kdir), f"M={foreign}", "modules"], foreign)
    return place / "toa.ko", said


def _make(arguments: list[str], directory: Path) -> str:
    done = subprocess.run(
        ["make", *arguments],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise AssertionError(done.stdout)
    return done.stdout


if __name__ == "__main__":
    for package in KERNELS:
        with contextlib.suppress(KernelUnavailableError):  # its test says so
            fetch(kernel(package))
            fetch_headers(kernel(package))
