# SPDX-License-Identifier: Apache-2.0
"""What is asked of systemd, in a virtual machine that it runs; commands and answers are printed."""

import subprocess
from pathlib import Path

PATIENCE = 300.0
"""Seconds: beside other tests, the emulated processor is slow at times."""


def run(*command: str | Path, code: int = 0) -> str:
    print("$", *command, flush=True)
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    print(done.stdout, end="", flush=True)
    assert done.returncode == code, f"{command} ended with {done.returncode}, not {code}"
    return done.stdout


def unit(name: str, text: str) -> None:
    """Write a unit, or a part of one."""
    place = Path("/run/systemd/system", name)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    run("systemctl", "daemon-reload")


def shown(service: str, *names: str) -> list[str]:
    lines = run("systemctl", "show", service, f"--property={','.join(names)}").splitlines()
    values = dict(line.split("=", 1) for line in lines)
    return [values[name] for name in names]
