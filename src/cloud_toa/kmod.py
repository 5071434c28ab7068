# SPDX-License-Identifier: Apache-2.0
"""The receiver as a kernel module, toa.ko: load it, unload it, see how it does.

What the module does is told in ``kmod/toa.c``; its parameters, in ``kmod/README.md``.
It serves the whole host, every network namespace, and has no cgroups.
"""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cloud_toa import foreign_modules
from cloud_toa.config import OriginSettings
from cloud_toa.errors import ToaError
from cloud_toa.option import Kinds, parse_kinds
from cloud_toa.trust import Trust

NAME = "toa"
SYS = Path("/sys/module") / NAME
STATS = Path("/proc/net/toa_stats")
_FTRACE = Path("/proc/sys/kernel/ftrace_enabled")
"""0: no probe at a function's entry is called, on kernels that have them by ftrace."""

_PAGE = os.sysconf("SC_PAGE_SIZE")
"""Bytes of a parameter, its end of line included, in what the kernel shows and takes at a time."""

BUILD = "make -C kmod install"
"""The command that builds and installs the module, in the project's source."""

_COUNTERS = {"syn_recv_sock_toa": "found", "syn_recv_sock_no_toa": "absent"}
"""Names that the eBPF receiver has for the same counts; the others have their own."""


@dataclass(frozen=True)
class ModuleStatus:
    """The module as it runs. ``entries`` of at most ``table_size`` connections are remembered."""

    settings: OriginSettings
    counters: dict[str, int]
    entries: int
    table_size: int


def loaded() -> bool:
    """Whether a module of this name is loaded, ours or another's."""
    return SYS.exists()


def ours() -> bool:
    """Whether ours is loaded: others of its name have no list of whom they believe."""
    return (SYS / "parameters/trust").exists()


def attach(settings: OriginSettings, file: Path | None = None) -> bool:
    """Load the module with these settings, or change those of the one that is loaded.

    Args:
        settings: whom to believe and what to read.
        file: a toa.ko; None for the one that is installed for the kernel that runs.

    Returns:
        Whether anything changed.

    Raises:
        ToaError: a TOA module of others is loaded, there is none for this kernel, the
            kernel refuses it or calls no probes, SYNs were to be kept, or the list of whom to
            believe is longer than a page.
    """
    if settings.save_syn:
        raise ToaError("the module keeps no SYNs: leave --save-syn out, or take --datapath bpf")
    if _FTRACE.exists() and _FTRACE.read_text().strip() == "0":
        raise ToaError(
            "the module would see nothing while the kernel's probes are switched off: "
            "sysctl -w kernel.ftrace_enabled=1"
        )
    wanted = _parameters(settings)
    if not ours():
        _check_alone()
        _load(file, [f"{name}={value}" for name, value in wanted.items()])
        return True
    present = {name: _parameter(name) for name in wanted}
    if present == wanted:
        return False
    # Kinds are added before others are taken away: no list is the only one and empty.
    # A chain and trust in everyone exclude each other: it ends before and begins after the rest.
    for name in sorted(wanted, key=lambda name: _ORDER.get(wanted[name], 1)):
        if present[name] != wanted[name]:
            _write(name, wanted[name])
    return True


def detach() -> bool:
    """Unload the module; whether it was loaded. Servers see the edge's address again.

    Others' modules are left alone.

    Raises:
        ToaError: the kernel keeps it.
    """
    if not ours():
        return False
    _run(["rmmod", NAME], "can't be unloaded")
    return True


def status() -> ModuleStatus | None:
    """The module's state; None where ours is not loaded.

    Raises:
        ToaError: its counters are gone, which another module took away with its own.
    """
    if not ours():
        return None
    if not STATS.exists():
        raise ToaError(
            f"{STATS} is gone, as another TOA module that was unloaded took it along: "
            "rmmod toa, then attach again"
        )
    return ModuleStatus(
        OriginSettings(
            Trust.parse([trust]) if (trust := _parameter("trust")) else Trust(),
            Kinds(*(parse_kinds(_parameter(f"kinds_{layout}")) for layout in _LAYOUTS)),
            chain=_parameter(_CHAIN) == "Y",
        ),
        parse_stats(STATS.read_text()),
        int(_parameter("table_entries")),
        int(_parameter("table_size")),
    )


def parse_stats(text: str) -> dict[str, int]:
    """The counters in /proc/net/toa_stats, of all processors together."""
    rows = (line.split(":") for line in text.splitlines() if ":" in line)
    return {
        _COUNTERS.get(name.strip(), name.strip()): sum(map(int, counts.split()))
        for name, counts in rows
    }


_LAYOUTS = ("v4", "v6", "client_ip")
_CHAIN = "chain"
_ORDER = {"N": 0, "": 2, "Y": 3}
"""When a value is written; any other in between, as 1."""


def _parameters(settings: OriginSettings) -> dict[str, str]:
    """As the kernel shows them: kinds in falling order, single addresses with their prefix."""
    shown = {"trust": ",".join(str(settings.trust).split())}
    for layout in _LAYOUTS:
        kinds = sorted(set(getattr(settings.kinds, layout)), reverse=True)
        shown[f"kinds_{layout}"] = ",".join(map(str, kinds))
    shown[_CHAIN] = "Y" if settings.chain else "N"
    # The kernel would take a longer one in pieces, each of them for the whole list.
    if (length := len(shown["trust"]) + 2) > _PAGE:
        raise ToaError(
            f"trust is {length} bytes as text, and toa.ko takes {_PAGE}: write networks "
            "instead of single addresses, or take --datapath bpf"
        )
    return shown


def _parameter(name: str) -> str:
    file = SYS / "parameters" / name
    # A toa.ko from before there were chains follows none.
    if name == _CHAIN and not file.exists():
        return "N"
    return file.read_text().strip()


def _write(name: str, value: str) -> None:
    file = SYS / "parameters" / name
    if not file.exists():
        raise ToaError(
            f"the toa.ko that is loaded is older and has no {name}: install this version's "
            f"({BUILD}), then rmmod toa, and attach again"
        )
    try:
        file.write_text(value + "\n")
    except OSError as error:
        raise ToaError(
            f"toa.ko refuses {name} {value!r}: {error.strerror} (the kernel's log says why: dmesg)"
        ) from error


def _load(file: Path | None, parameters: Sequence[str]) -> None:
    if file is not None:
        _run(["insmod", str(file), *parameters], f"{file} can't be loaded")
        return
    _run(
        ["modprobe", NAME, *parameters],
        f"toa.ko can't be loaded; if there is none for this kernel, build it: {BUILD}",
    )


def _check_alone() -> None:
    """Refuse where others' modules are: two can't have the same socket options and counters."""
    if others := foreign_modules.find(ours=False):
        raise ToaError(
            f"another TOA receiver is in the kernel: {'; '.join(map(str, others))}. It may believe "
            "everyone: stop using it, then "
            f"{' and '.join(other.command for other in others)} (docs/migration.md)"
        )


def _run(command: Sequence[str], failed: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ToaError(
            f"{command[0]} is missing: apt-get install kmod, or dnf install kmod"
        ) from None
    if done.returncode:
        raise ToaError(f"{failed} ({done.stderr.strip() or f'exit code {done.returncode}'})")
