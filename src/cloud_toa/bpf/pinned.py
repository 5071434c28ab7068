# SPDX-License-Identifier: Apache-2.0
"""What is pinned, and through the pins what the kernel runs. Nothing here changes it.

Readers wait for nobody: what goes away under them counts as gone.
"""

import struct
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from cloud_toa import capabilities
from cloud_toa.bpf import cgroup, libbpf, mounts
from cloud_toa.bpf.datapath import Datapath
from cloud_toa.bpf.former_paths import FormerPaths
from cloud_toa.bpf.libbpf import Fd, ProgramInfo
from cloud_toa.errors import ToaError

RODATA = ".rodata"
"""A program's constants; libbpf puts the object's name before it."""


class Attached:
    """One cgroup's links, held open.

    Raises:
        FileNotFoundError: they are being detached right now.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.links = {pin.name: libbpf.pinned(pin) for pin in sorted(folder.iterdir())}

    @cached_property
    def path(self) -> Path | None:
        """The cgroup's directory; None when it was removed, or can't be seen from here."""
        return cgroup.by_identity(int(self.folder.name))

    @property
    def removed(self) -> bool:
        """Whether the cgroup is gone, with its last socket: nothing is attached any more."""
        return self.path is None and not any(map(self.alive, self.links))

    def program(self, name: str) -> Fd | None:
        """The program that a link runs; None when the link is missing."""
        link = self.links.get(name)
        return link and libbpf.program_by_id(libbpf.link_info(link).prog_id)

    def alive(self, name: str) -> bool:
        """Whether this program is there and its cgroup too."""
        return name in self.links and libbpf.link_info(self.links[name]).cgroup_id != 0


class Removed(NamedTuple):
    """A cgroup that is gone."""

    path: Path | None
    """Where it was when it was attached; None if not known."""
    again: bool
    """Whether another one has its name by now, which has no programs."""


class Pinned:
    """A datapath's programs on this host.

    Raises:
        ToaError: no CAP_SYS_ADMIN, or bpffs is out of reach.
    """

    def __init__(self, datapath: Datapath) -> None:
        # Programs and maps are opened by their ids, which CAP_BPF alone does not allow.
        if not capabilities.effective() & capabilities.SYS_ADMIN:
            raise ToaError("this needs root with CAP_SYS_ADMIN: run it with sudo")
        self.datapath = datapath
        pins = mounts.of_pins() / "cloud-toa"
        self._folder = pins / datapath.name
        self._paths = FormerPaths(pins / f"{datapath.name}-paths")

    def running(self) -> list[Attached]:
        """What is attached now; empty when nothing is."""
        found = []
        with suppress(FileNotFoundError):  # nothing ever was
            for folder in sorted(self._folder.iterdir()):
                with suppress(FileNotFoundError):  # status does not wait: it was detached now
                    found.append(Attached(folder))
        return found

    def removed(self, running: Sequence[Attached]) -> tuple[Removed, ...]:
        """Those of these cgroups that are not there any more, or can't be seen from here."""
        attached = {each.path for each in running}
        found = []
        for each in running:
            if each.path is None:
                former = self._paths.of(each.folder.name)
                again = former is not None and former.is_dir() and former not in attached
                found.append(Removed(former, again))
        return tuple(found)

    def programs(self) -> list[ProgramInfo]:
        """The programs in use, each once, in the order of the hooks."""
        return self._programs(self.running())

    def map(self, name: str) -> Fd | None:
        """A map of the running programs (``.rodata`` for their settings)."""
        running = self.running()  # held, so that a detach can't take the maps away meanwhile
        # From the newest on: after a killed exchange, the settings that were asked for last.
        for info in sorted(self._programs(running), key=lambda info: info.id, reverse=True):
            for number in info.map_ids:
                fd = libbpf.map_by_id(number)
                found = libbpf.map_info(fd).name
                if found == name or (name == RODATA and found.endswith(RODATA)):
                    return fd
        return None

    def counters(self, names: Sequence[str]) -> dict[str, int]:
        """The programs' counters by name, summed over CPUs. Each wraps at 2**64."""
        fd = self.map("counters")
        if fd is None:
            return dict.fromkeys(names, 0)
        # The map's own size: programs of another version may count more, or less.
        size = libbpf.map_info(fd).value_size
        data = libbpf.lookup(fd, bytes(4), libbpf.possible_cpus() * size)
        per_cpu = struct.iter_unpack(f"={size // 8}Q", data)
        totals = [sum(column) % 2**64 for column in zip(*per_cpu, strict=True)]
        return dict.fromkeys(names, 0) | dict(zip(names, totals, strict=False))

    def _programs(self, running: Sequence[Attached]) -> list[ProgramInfo]:
        found = {}
        for hook in self.datapath.hooks:
            for attached in running:
                if (program := attached.program(hook.program)) is not None:
                    info = libbpf.program_info(program)
                    found[info.id] = info
        return list(found.values())
