# SPDX-License-Identifier: Apache-2.0
"""TOA modules of others that are loaded: whose they are, and what they hold.

Published ones have several names (toa, tcp_toa, vtoa), and most tell neither author nor
version. They are noticed by what they leave to see, whatever their name:

- functions named after what they replace, such as ``tcp_v4_syn_recv_sock_toa``; the kernel
  says of each which module it belongs to;
- ``/proc/net/toa_stats``, in the first network namespace alone;
- socket option 4096 of IPPROTO_IP. It is asked of a UDP socket, for which neither our module
  nor our eBPF receiver answers it.

Sources: the modules of DPVS, Huawei, UCloud and Alibaba; proc_modules(5), proc_kallsyms(5).
"""

import errno
import re
import socket
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from os import F_OK, access
from pathlib import Path

NAMES = ("toa", "tcp_toa", "vtoa")
"""Names of published modules, for those whose functions the kernel does not tell."""

_MODULES = Path("/proc/modules")
_SYMBOLS = Path("/proc/kallsyms")
_SYS = Path("/sys/module")
_STATS = ("toa_stats", "vtoa_stats")
_PROC = (Path("/proc/net"), Path("/proc/1/net"))
_DPVS_CLIENT = 4096
_DPVS_SIZE = 20
_FUNCTION = re.compile(r"(^|_)v?toa(_|$)")


@dataclass(frozen=True)
class ForeignModule:
    """One that is loaded. ``name`` is None where something is held, and no module tells by whom."""

    name: str | None
    about: tuple[str, ...] = ()
    """What it says of itself: version, author, file."""
    holds: tuple[str, ...] = ()
    """What ours would need."""

    def __str__(self) -> str:
        about = f" ({', '.join(self.about)})" if self.about else ""
        holds = f", which holds {' and '.join(self.holds)}" if self.holds else ""
        return f"{self.name or 'something that no module tells of'}{about}{holds}"

    @property
    def command(self) -> str:
        """The command that ends it, or that helps to find it."""
        return f"rmmod {self.name}" if self.name else "lsmod"


def find(*, ours: bool) -> list[ForeignModule]:
    """Those that are loaded, and what is part of the kernel itself.

    Args:
        ours: whether the module that is called toa is this project's.
    """
    loaded = [line.split(" ", 1)[0] for line in _lines(_MODULES)]
    symbols = _lines(_SYMBOLS, "toa") if loaded else []
    names = receivers(loaded, symbols, ours=ours)
    # What is held while ours is loaded, ours holds.
    holds = () if ours else (*_stats(), *_socket_option())
    if not names:
        return [ForeignModule(None, holds=holds)] if holds else []
    first, *others = names
    return [
        ForeignModule(first, _about(first), holds),
        *(ForeignModule(name, _about(name)) for name in others),
    ]


def receivers(loaded: Iterable[str], symbols: Iterable[str], *, ours: bool) -> list[str]:
    """Which of the loaded modules are TOA receivers of others.

    Args:
        loaded: names of modules.
        symbols: lines of /proc/kallsyms: address, type, name and, in brackets, the module.
        ours: see `find`.
    """
    told = {
        words[3].strip("[]")
        for line in symbols
        if "toa" in line and len(words := line.split()) == 4 and words[1] in "tT"
        if _FUNCTION.search(words[2])
    }
    return [
        name for name in loaded if (name in NAMES or name in told) and not (ours and name == "toa")
    ]


def _lines(file: Path, word: str = "") -> list[str]:
    """The file's lines that have the word; none where it is not there, or not for us."""
    try:
        with file.open() as lines:
            return [line for line in lines if word in line]
    except OSError:
        return []


def _stats() -> list[str]:
    # Not Path.exists, which raises where one may not look.
    return [
        f"/proc/net/{name}" for name in _STATS if any(access(proc / name, F_OK) for proc in _PROC)
    ]


def _socket_option() -> list[str]:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.getsockopt(socket.IPPROTO_IP, _DPVS_CLIENT, _DPVS_SIZE)
    except OSError as error:
        # In a unit's sandbox there may be no IPv4 to ask.
        if error.errno in (errno.ENOPROTOOPT, errno.EAFNOSUPPORT):
            return []
    return [f"socket option {_DPVS_CLIENT}"]


def _about(name: str) -> tuple[str, ...]:
    about = []
    if version := _own(name, "version"):
        about.append(f"version {version}")
    # The installed file of this name may be another module's, ours for one.
    if (source := _own(name, "srcversion")) and source == _modinfo(name, "srcversion"):
        if author := _modinfo(name, "author"):
            about.append(f"by {author}")
        about.append(_modinfo(name, "filename"))
    elif source:
        about.append(f"srcversion {source}")
    return tuple(about)


def _own(name: str, attribute: str) -> str:
    try:
        return (_SYS / name / attribute).read_text().strip()
    except OSError:
        return ""


def _modinfo(name: str, field: str) -> str:
    try:
        done = subprocess.run(
            ["modinfo", "-F", field, name], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return ""
    return " ".join(done.stdout.split()) if not done.returncode else ""
