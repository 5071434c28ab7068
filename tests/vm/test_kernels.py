# SPDX-License-Identifier: Apache-2.0
"""Senders and receivers on Debian's kernels: the real-traffic tests in virtual machines."""

import re
import sys
from functools import partial

import pytest

from tests.vm.machine import KERNELS, kernel, run_in_vm
from tests.vm.module import build, headers

MARKS = "not slow and not one_kernel"
PATIENCE = 3600.0


def _run(package: str) -> tuple[str, int, str]:
    root = kernel(package)
    for there in (root, headers(root)):
        assert there.exists(), f"{there} is missing: python -m tests.vm.module fetches it"
    _, said = build(root)
    assert "warning" not in said, said
    # The guest's own bytecode would vanish with it: no cache either.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"]
    others = (version for other, version in KERNELS.items() if other != package)
    marks = [MARKS, *(f'not only_on(kernel="{version}")' for version in others)]
    command += ["tests/netns", "-m", " and ".join(marks)]
    return root.name, *run_in_vm(root, command, PATIENCE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "package",
    [
        pytest.param(package, marks=pytest.mark.in_machine(run=partial(_run, package)))
        for package in KERNELS
    ],
)
def test_matrix(package: str, answer: tuple[str, int, str]) -> None:
    version, code, said = answer
    assert code == 0, said
    assert re.search(r"\b\d+ passed", said), said
    print(f"Linux {version}:\n{said}")
