# SPDX-License-Identifier: Apache-2.0
"""What a connection costs with each receiver, in instructions, on Debian's kernels.

The path of the other benchmarks, in a virtual machine with one processor whose clock counts
instructions, so that little of the noise of a machine is left. The sender writes the option
in every mode; only who reads it at the origin differs. A connection is all of it: client,
HAProxy, nginx, and the kernel for all three.
"""

import argparse
import os
import sys
from pathlib import Path

import report
import serial
from rounds import Sample, alternate
from testbed import MODES, Testbed

from cloud_toa.demo.isolation import isolate
from cloud_toa.errors import ToaError
from tests.vm.machine import KERNELS, kernel, run_in_vm
from tests.vm.module import build

_RECEIVERS = ("unread", "toa", "kmod")
_PATIENCE = 3600.0
_MODULE = "CLOUD_TOA_MODULE"
"""Set in the machine: where toa.ko is."""


def main() -> int:
    """Run the benchmark, or in the machine its part."""
    parser = argparse.ArgumentParser(description="Instructions of a connection, by receiver.")
    parser.add_argument("--rounds", type=int, default=3, help="counted rounds (default 3)")
    parser.add_argument("--markdown", action="store_true", help="print tables as Markdown")
    asked = parser.parse_args()
    if _MODULE in os.environ:
        return measure_here(asked.rounds, markdown=asked.markdown)
    for package in KERNELS:
        root = kernel(package)
        module, _ = build(root)
        settings = [f"{_MODULE}={module}", f"PYTHONPATH={os.environ['PYTHONPATH']}"]
        command = ["env", *settings, sys.executable, *sys.argv]
        code, said = run_in_vm(root, command, _PATIENCE, counted=True)
        if code:
            raise ToaError(f"Linux {root.name}: {said}")
        print(said)
    return 0


def measure_here(rounds: int, *, markdown: bool) -> int:
    """Print what this machine's kernel needs."""
    modes = [MODES[name] for name in _RECEIVERS]
    isolate()
    with Testbed() as testbed:
        testbed.module = Path(os.environ[_MODULE])

        def measure(address: tuple[str, int]) -> Sample:
            with testbed.lab.client.entered():
                seconds = serial.one_connection(address)
            return {"rate": 1 / seconds, "thousands": seconds * 1e6}

        measured = alternate(testbed, modes, rounds, measure)
    print(f"Linux {os.uname().release}\n")
    table = report.comparison(
        measured, modes, "rate", "connections per 10⁹ instructions", {"thousands": "1000 each"}
    )
    print(table.text(markdown))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ToaError as error:
        sys.exit(f"bench/accept: {error}")
