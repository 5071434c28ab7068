# SPDX-License-Identifier: Apache-2.0
"""What the eBPF datapaths need of the host besides the hooks."""

import ctypes
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cloud_toa.bpf import cgroup, libbpf, mounts
from cloud_toa.doctor import remedies
from cloud_toa.doctor.finding import Finding, Remedy, absent, advice, there
from cloud_toa.errors import ToaError

OLDEST = (5, 10)
"""The first Linux whose sockops programs may write TCP options."""

_CAP_SYS_ADMIN = 1 << 21  # linux/capability.h
_EVERY_UID = ["0", "0", "4294967295"]


@dataclass(frozen=True)
class Privileges:
    """Who runs doctor: the effective user and capabilities, and in which user namespace."""

    uid: int
    effective: int
    first_namespace: bool

    @classmethod
    def own(cls) -> Self:
        """This process's."""
        status = Path("/proc/self/status").read_text()
        found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
        uid_map = Path("/proc/self/uid_map").read_text().split()
        return cls(os.geteuid(), int(found[1], 16) if found else 0, uid_map == _EVERY_UID)

    @property
    def suffice(self) -> bool:
        """Whether `attach` and `status` are allowed all that they do.

        CAP_BPF with CAP_NET_ADMIN would load the programs, and no more: opening
        programs and maps by their ids is for CAP_SYS_ADMIN alone.
        """
        return self.uid == 0 and bool(self.effective & _CAP_SYS_ADMIN) and self.first_namespace

    @property
    def remedy(self) -> Remedy:
        """How to run it where they do not."""
        return remedies.SUDO if self.uid != 0 else remedies.CONTAINER


def version(release: str) -> tuple[int, int]:
    """The version in ``uname -r``; (0, 0) when there is none."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def linux(release: str, newer: Remedy, *, has_hooks: bool) -> Finding:
    """The kernel's version, which matters less than what it was seen to do."""
    if version(release) >= OLDEST:
        return there("Linux", release)
    if has_hooks:
        return there("Linux", f"{release}: older than 5.10, and has the hooks all the same")
    return absent("Linux", f"{release}: eBPF needs 5.10 or later", newer)


def cgroup2() -> Finding:
    """Where programs are attached."""
    try:
        return there("cgroup2", str(cgroup.root()))
    except ToaError:
        beside = Path("/sys/fs/cgroup").is_dir() and any(Path("/sys/fs/cgroup").iterdir())
        return _not_mounted("cgroup2", remedies.CGROUP2_BESIDE_V1 if beside else remedies.CGROUP2)


def bpffs() -> Finding:
    """Where the kernel keeps attached programs without a process of ours."""
    if place := mounts.bpffs():
        return there("bpffs", str(place))
    if mounts.for_the_host():
        return there("bpffs", f"not mounted yet: whoever attaches mounts it on {mounts.BPFFS}")
    return _not_mounted("bpffs", remedies.BPFFS)


def _not_mounted(name: str, remedy: Remedy) -> Finding:
    if network := mounts.exec_network():
        why = "out of reach, as 'ip netns exec' puts a /sys of its own in place"
        return absent(name, why, remedies.both(f"{mounts.nsenter(network)} cloud-toa doctor"))
    return absent(name, "not mounted", remedy)


def capabilities(own: Privileges) -> Finding:
    """Whether the kernel lets this user attach."""
    if own.suffice:
        return there("capabilities", "root with CAP_SYS_ADMIN")
    if own.uid != 0:
        detail = f"user {own.uid} is not root"
    elif own.first_namespace:
        detail = "root without CAP_SYS_ADMIN, as in a container"
    else:
        detail = "root of a user namespace only, as in a container"
    return absent("capabilities", detail, own.remedy)


def libbpf_1(remedy: Remedy) -> Finding:
    """The library that loads the programs."""
    try:
        library = libbpf.library()
    except ToaError:
        return absent("libbpf.so.1", "not found", remedy)
    return there(
        "libbpf.so.1",
        f"{ctypes.c_int(library.libbpf_major_version()).value}"
        f".{ctypes.c_int(library.libbpf_minor_version()).value}",
    )


def jit(setting: str | None) -> Finding:
    """Whether programs run as machine code; ``setting`` is net.core.bpf_jit_enable."""
    match setting:
        case None:
            # The setting exists in the first network namespace only.
            return absent("BPF JIT", "can't be seen from here", remedies.JIT, needed=False)
        case "0":
            return advice(
                "BPF JIT", "off: programs are interpreted, several times slower", remedies.JIT
            )
        case _:
            return there("BPF JIT", "on")
