# SPDX-License-Identifier: Apache-2.0
"""Senders and receivers on Debian's kernels: the real-traffic tests in virtual machines."""

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.vm.machine import KERNELS, KernelUnavailableError, kernel, run_in_vm
from tests.vm.module import build, headers

MATRIX = ["tests/netns", "-m", "not slow and not one_kernel"]
PATIENCE = 3600.0

Runs = dict[str, "Future[tuple[str, int, str]]"]


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    """The machines, all at the same time: under emulation each keeps one processor busy."""
    with ThreadPoolExecutor() as pool:
        yield {package: pool.submit(_run, package) for package in KERNELS}


def _run(package: str) -> tuple[str, int, str]:
    root = kernel(package)
    for there in (root, headers(root)):
        assert there.exists(), f"{there} is missing: python -m tests.vm.module fetches it"
    _, said = build(root)
    assert "warning" not in said, said
    # The guest's own bytecode would vanish with it: no cache either.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *MATRIX]
    return root.name, *run_in_vm(root, command, PATIENCE)


@pytest.mark.slow
@pytest.mark.parametrize("package", KERNELS)
def test_matrix(runs: Runs, package: str) -> None:
    if platform.machine() != "x86_64":
        pytest.skip(f"the kernels of {package} run on x86-64 only, this is {platform.machine()}")
    for program in ("qemu-system-x86_64", "busybox", "depmod"):
        assert shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin"), program
    try:
        version, code, said = runs[package].result()
    except KernelUnavailableError:
        pytest.skip(f"this distribution's packages have no {package}")
    assert code == 0, said
    passed = re.search(r"\b\d+ passed", said)
    assert passed, said
    print(f"Linux {version}: {passed[0]}")
