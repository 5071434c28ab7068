# SPDX-License-Identifier: Apache-2.0
"""The Debian package's units under systemd, in a virtual machine; `units` is what runs there."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests import debian
from tests.vm.machine import kernel, run_in_vm
from tests.vm.module import build, headers

PACKAGE = "linux-image-amd64"
PATIENCE = 1800.0


def _run() -> tuple[int, str]:
    root = kernel(PACKAGE)
    for there in (root, headers(root)):
        assert there.exists(), f"{there} is missing: python -m tests.vm.module fetches it"
    built = debian.built()
    module, _ = build(root)
    with TemporaryDirectory() as folder:
        files = (built, debian.newer(built, Path(folder)), module)
        command = [sys.executable, "-m", "tests.vm.units", *map(str, files)]
        return run_in_vm(root, command, PATIENCE, systemd=True)


@pytest.mark.slow
@pytest.mark.in_machine(run=_run)
def test_units(answer: tuple[int, str]) -> None:
    code, said = answer
    assert code == 0, said
