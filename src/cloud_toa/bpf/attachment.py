# SPDX-License-Identifier: Apache-2.0
"""Programs attached to cgroups, held by the kernel and not by a process.

Theory of operation. The only state is links pinned in bpffs::

    /sys/fs/bpf/cloud-toa/<datapath>/<cgroup id>/<program>

A link leads to its program, the program to its maps, and the maps hold settings
and counters: whatever `status` says is what the kernel runs. There is no file that
could disagree with it, and nothing to restart.

Settings are constants of the programs. Other settings, another list of trusted
networks, or a newer version of this package therefore mean the same thing: load
new programs that share the old ones' sockets and counters, then let every link
point to them, each in one step, so that no connection goes without.

A new cgroup gets its links in the order of `Datapath.hooks`, such that those that
are there do no harm while the others are missing; they leave in the opposite order.
An error undoes what was begun. A killed process may leave a part, which the next
`attach` completes and the next `detach` removes.
"""

import errno
import fcntl
import os
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import resources
from pathlib import Path

from cloud_toa.bpf import cgroup, libbpf
from cloud_toa.bpf.libbpf import Fd, LoadError, Object, ProgramInfo
from cloud_toa.errors import ToaError

_RODATA = ".rodata"


@dataclass(frozen=True)
class Hook:
    """A program and the place in the kernel where it belongs.

    ``attach_type`` as in ``enum bpf_attach_type`` of linux/bpf.h; ``since`` is the
    first Linux that has it.
    """

    program: str
    name: str
    attach_type: int
    since: str


@dataclass(frozen=True)
class Datapath:
    """What one datapath consists of.

    ``kept`` are the maps that outlive an exchange of programs, ``filled`` those
    whose keys are a part of the settings.
    """

    name: str
    hooks: tuple[Hook, ...]
    kept: tuple[str, ...]
    filled: tuple[str, ...] = ()

    @property
    def object(self) -> Path:
        """The compiled programs, shipped beside this module."""
        return Path(str(resources.files("cloud_toa.bpf") / f"{self.name}.bpf.o"))


@dataclass(frozen=True)
class Outcome:
    """What `attach` changed: cgroups that are new, and whether running programs were replaced."""

    attached: tuple[Path, ...] = ()
    replaced: bool = False

    def __bool__(self) -> bool:
        return bool(self.attached) or self.replaced


class Attached:
    """One cgroup's links, as pinned. ``path`` is None when the cgroup was removed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.links = {pin.name: libbpf.pinned(pin) for pin in sorted(folder.iterdir())}

    @cached_property
    def path(self) -> Path | None:
        """The cgroup's directory."""
        return cgroup.by_identity(int(self.folder.name))

    def program(self, name: str) -> Fd | None:
        """The program that a link runs; None when the link is missing."""
        link = self.links.get(name)
        return link and libbpf.program_by_id(libbpf.link_info(link).prog_id)

    def alive(self, name: str) -> bool:
        """Whether this program is there and its cgroup too."""
        return name in self.links and libbpf.link_info(self.links[name]).cgroup_id != 0


class Attachments:
    """A datapath's programs on this host.

    Raises:
        ToaError: not root, or bpffs is not mounted.
    """

    def __init__(self, datapath: Datapath) -> None:
        if os.geteuid() != 0:
            raise ToaError("this needs root: run it with sudo")
        self.datapath = datapath
        bpffs = cgroup.mount_point("bpf", "bpffs is not mounted: mount -t bpf bpf /sys/fs/bpf")
        self._folder = bpffs / "cloud-toa" / datapath.name

    def running(self) -> list[Attached]:
        """What is attached now; empty when nothing is."""
        if not self._folder.is_dir():
            return []
        return [Attached(folder) for folder in sorted(self._folder.iterdir())]

    def programs(self) -> list[ProgramInfo]:
        """The programs in use, each once, in the order of the hooks."""
        found = {}
        for hook in self.datapath.hooks:
            for attached in self.running():
                if (program := attached.program(hook.program)) is not None:
                    info = libbpf.program_info(program)
                    found[info.id] = info
        return list(found.values())

    def map(self, name: str) -> Fd | None:
        """A map of the running programs (``.rodata`` for their settings)."""
        # From the newest on: after a killed exchange, the settings that were asked for last.
        for info in sorted(self.programs(), key=lambda info: info.id, reverse=True):
            for number in info.map_ids:
                fd = libbpf.map_by_id(number)
                found = libbpf.map_info(fd).name
                if found == name or (name == _RODATA and found.endswith(_RODATA)):
                    return fd
        return None

    def counters(self, names: Sequence[str]) -> dict[str, int]:
        """The programs' counters by name, summed over CPUs. Each wraps at 2**64."""
        fd = self.map("counters")
        if fd is None:
            return dict.fromkeys(names, 0)
        data = libbpf.lookup(fd, bytes(4), libbpf.possible_cpus() * len(names) * 8)
        per_cpu = struct.iter_unpack(f"={len(names)}Q", data)
        totals = [sum(column) % 2**64 for column in zip(*per_cpu, strict=True)]
        return dict(zip(names, totals, strict=True))

    def attach(
        self,
        cgroups: Sequence[Path],
        settings: bytes,
        fill: Callable[[Object], None] = lambda _object: None,
    ) -> Outcome:
        """Have these cgroups, and those already attached, run programs with these settings.

        ``fill`` puts the settings' keys into the maps of a loaded object.

        Raises:
            ToaError: the kernel refused, or a cgroup lies inside another that is
                attached. Nothing is changed then.
        """
        with self._locked(), Object(self.datapath.object) as loading:
            running = self.running()
            self._refuse_nested(cgroups, running)
            loading.set_settings(settings)
            for name in self.datapath.kept:
                existing = self.map(name)
                if existing is not None and _compatible(existing, loading, name):
                    loading.reuse_map(name, existing)
            self._load(loading)
            fill(loading)
            fresh = {hook.program: loading.program(hook.program) for hook in self.datapath.hooks}
            stale = not self._same(running, fresh)
            new = [path for path in cgroups if not self._complete(path, running)]
            if not stale and not new:
                return Outcome()
            self._exchange(running if stale or new else [], new, fresh)
            return Outcome(tuple(new), stale and bool(running))

    def detach(self, cgroups: Sequence[Path] | None = None) -> list[Path | None]:
        """Take the programs off these cgroups, or off all; answer which had some.

        A cgroup that no longer exists is forgotten and shows as None.
        """
        with self._locked():
            gone = []
            for attached in self.running():
                if cgroups is None or attached.path is None or attached.path in cgroups:
                    self._remove(attached.folder)
                    gone.append(attached.path)
            return gone

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # One command at a time; the lock ends with its process, however that ends.
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _load(self, loading: Object) -> None:
        try:
            loading.load()
        except LoadError as error:
            for hook in self.datapath.hooks:
                if re.search(rf"prog '{hook.program}'.*Invalid argument", error.log):
                    raise LoadError(_missing(hook), error.log) from error
            raise

    def _refuse_nested(self, cgroups: Sequence[Path], running: Sequence[Attached]) -> None:
        covered = {attached.path for attached in running if attached.path} | set(cgroups)
        for path in cgroups:
            for other in covered:
                if other in path.parents or path in other.parents:
                    inner, outer = sorted((path, other), key=lambda at: len(at.parts), reverse=True)
                    raise ToaError(
                        f"{inner} lies inside {outer}, whose programs already cover it: "
                        f"attach one of the two (cloud-toa {self.datapath.name} detach "
                        f"--cgroup {other})"
                    )

    def _complete(self, path: Path, running: Sequence[Attached]) -> bool:
        number = str(cgroup.identity(path))
        return any(
            attached.folder.name == number
            and all(attached.alive(hook.program) for hook in self.datapath.hooks)
            for attached in running
        )

    def _same(self, running: Sequence[Attached], fresh: dict[str, Fd]) -> bool:
        """Whether every link already runs such programs with such settings."""
        return all(
            (program := attached.program(name)) is not None
            and self._identity(program) == self._identity(wanted)
            for attached in running
            for name, wanted in fresh.items()
            if attached.alive(name)
        )

    def _identity(self, program: Fd) -> dict[str, object]:
        """What makes two programs the same: their code, .rodata, and keys of filled maps."""
        info = libbpf.program_info(program)
        found: dict[str, object] = {"tag": info.tag}
        for number in info.map_ids:
            with libbpf.map_by_id(number) as fd:
                about = libbpf.map_info(fd)
                if about.name.endswith(_RODATA):
                    found[_RODATA] = libbpf.lookup(fd, bytes(4), about.value_size)
                elif about.name in self.datapath.filled:
                    found[about.name] = set(libbpf.keys(fd, about.key_size))
        return found

    def _exchange(
        self, running: Sequence[Attached], new: Sequence[Path], fresh: dict[str, Fd]
    ) -> None:
        undo: list[Callable[[], None]] = []
        try:
            for attached in running:
                for name in filter(attached.alive, fresh):
                    link, before = attached.links[name], attached.program(name)
                    libbpf.link_update(link, fresh[name])
                    if before is not None:
                        undo.append(partial(libbpf.link_update, link, before))
            for path in new:
                folder = self._folder / str(cgroup.identity(path))
                if not folder.is_dir():
                    folder.mkdir(mode=0o700)
                    undo.append(folder.rmdir)
                for hook in self.datapath.hooks:
                    pin = folder / hook.program
                    if not pin.exists():
                        self._link(hook, fresh[hook.program], path, pin)
                        undo.append(partial(_unpin, pin))
        except BaseException:
            for step in reversed(undo):
                step()
            raise

    def _link(self, hook: Hook, program: Fd, path: Path, pin: Path) -> None:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            link = libbpf.link_cgroup(program, directory, hook.attach_type)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise ToaError(_missing(hook)) from error
            raise ToaError(
                f"{path} refused {hook.name} ({error.strerror}): another program may hold it alone"
            ) from error
        finally:
            os.close(directory)
        libbpf.pin(link, pin)

    def _remove(self, folder: Path) -> None:
        order = [hook.program for hook in reversed(self.datapath.hooks)]
        pins = sorted(
            folder.iterdir(),
            key=lambda pin: order.index(pin.name) if pin.name in order else len(order),
        )
        for pin in pins:
            _unpin(pin)
        folder.rmdir()


def _unpin(pin: Path) -> None:
    with libbpf.pinned(pin) as link:
        libbpf.link_detach(link)
    pin.unlink()


def _missing(hook: Hook) -> str:
    return (
        f"kernel {os.uname().release} has no {hook.name} hook: "
        f"Linux {hook.since} or later has it (cloud-toa doctor says what else is missing)"
    )


def _compatible(existing: Fd, loading: Object, name: str) -> bool:
    info = libbpf.map_info(existing)
    return (info.type, info.key_size, info.value_size) == loading.map_sizes(name)
