# SPDX-License-Identifier: Apache-2.0
"""What tests of the module have in common."""

import re
import subprocess
from ipaddress import ip_address

from cloud_toa import kmod
from cloud_toa.option import Client

TROUBLE = re.compile(r"BUG|WARNING|Oops|Call Trace|refcount|leak", re.IGNORECASE)
"""What a kernel's log must not have."""


class KernelLog:
    """What the kernel has said since."""

    def __init__(self) -> None:
        subprocess.run(["dmesg", "--clear"], check=True)

    def __str__(self) -> str:
        return subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout


def entries() -> int:
    status = kmod.status()
    assert status is not None
    return status.entries


def numbered(number: int) -> Client:
    """A client whose port follows from its address."""
    ip = ip_address(0xCB000000 + number)
    return Client(ip, int(ip) * 2654435761 % 65535 + 1)
