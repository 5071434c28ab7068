# SPDX-License-Identifier: Apache-2.0
"""What must be installed for the queue datapath: the way for kernels without the eBPF hooks."""

import re
import shutil
import subprocess

from cloud_toa import packages
from cloud_toa.doctor import remedies
from cloud_toa.doctor.finding import Finding, absent, there
from cloud_toa.errors import ToaError
from cloud_toa.nfqueue import library

_TIMEOUT = 10.0


def libnetfilter_queue(*, needed: bool) -> Finding:
    """The library that brings packets to user space."""
    try:
        library.library()
    except ToaError:
        remedy = remedies.package(packages.LIBNETFILTER_QUEUE)
        return absent(library.NAME, "not found", remedy, needed=needed)
    return there(library.NAME, "found")


def nft(*, needed: bool) -> Finding:
    """The program that installs the rules."""
    if shutil.which("nft") is None:
        return absent("nft", "not in PATH", remedies.package(packages.NFT), needed=needed)
    return there("nft", _said("nft", "--version").removeprefix("nftables "))


def ip(*, needed: bool) -> Finding:
    """The program that has answers delivered here, by policy rules and routes."""
    if shutil.which("ip") is None:
        return absent("ip", "not in PATH", remedies.package(packages.IP), needed=needed)
    version = re.search(r"iproute2-([^,\s]+)", _said("ip", "-Version"))
    return there("ip", version[1] if version else "of unknown version")


def _said(*command: str) -> str:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=_TIMEOUT, check=False
    ).stdout.strip()
