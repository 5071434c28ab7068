# SPDX-License-Identifier: Apache-2.0
"""A benchmark that runs itself again in a virtual machine with one of Debian's kernels."""

import argparse
import os
import sys
from pathlib import Path

from cloud_toa.errors import ToaError
from tests.vm.machine import KERNELS, kernel, run_in_vm
from tests.vm.module import build

_INSIDE = "CLOUD_TOA_MODULE"
"""Set in the machine: where toa.ko is."""
_PATIENCE = 4 * 3600.0

_PACKAGES = {version: package for package, version in KERNELS.items()}


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--vm KERNEL``."""
    parser.add_argument("--vm", choices=_PACKAGES, help="in a virtual machine with this kernel")


def is_inside() -> bool:
    """Whether this process is in such a machine."""
    return _INSIDE in os.environ


def module() -> Path | None:
    """The toa.ko of the machine's kernel; outside of one None, for the one that is installed."""
    return Path(os.environ[_INSIDE]) if is_inside() else None


def run(version: str, *, counted: bool = False) -> str:
    """Run this process's command in a machine with that kernel; answer what it printed.

    With ``counted``, the machine has one processor, whose clock counts instructions.

    Raises:
        ToaError: it failed there.
    """
    root = kernel(_PACKAGES[version])
    built, _ = build(root)
    settings = [f"{_INSIDE}={built}", f"PYTHONPATH={os.environ['PYTHONPATH']}"]
    command = ["env", *settings, sys.executable, *sys.argv]
    code, said = run_in_vm(root, command, _PATIENCE, counted=counted)
    if code:
        raise ToaError(f"Linux {root.name}: {said}")
    return said
