# SPDX-License-Identifier: Apache-2.0
"""Programs attached to cgroups, held by the kernel and not by a process.

Theory of operation. The only state is links pinned in bpffs::

    /sys/fs/bpf/cloud-toa/<datapath>/<cgroup id>/<program>

(and the cgroup's name beside them, see `former_paths`).
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from cloud_toa.bpf import cgroup, libbpf, mounts, others
from cloud_toa.bpf.datapath import Datapath, Hook
from cloud_toa.bpf.libbpf import Fd
from cloud_toa.bpf.object import LoadError, Object
from cloud_toa.bpf.pinned import RODATA, Attached, Pinned
from cloud_toa.errors import ToaError

__all__ = ["Attachments", "Datapath", "Hook", "Outcome"]


@dataclass(frozen=True)
class Outcome:
    """What `attach` changed: cgroups that are new, and whether running programs were replaced."""

    attached: tuple[Path, ...] = ()
    replaced: bool = False

    def __bool__(self) -> bool:
        return bool(self.attached) or self.replaced


class Attachments(Pinned):
    """A datapath's programs on this host, to attach and to detach.

    Raises:
        ToaError: not root, or bpffs is out of reach.
    """

    def attach(
        self,
        cgroups: Sequence[Path],
        settings: bytes,
        fill: Callable[[Object], None] = lambda _object: None,
        sizes: Mapping[str, int] = MappingProxyType({}),
    ) -> Outcome:
        """Have these cgroups, and those already attached, run programs with these settings.

        ``fill`` puts the settings' keys into the maps of a loaded object; ``sizes`` are
        the numbers of entries, by map, that these settings take instead of the object's.

        Raises:
            ToaError: the kernel refused, or a cgroup lies inside another that is
                attached. Nothing is changed then.
        """
        mounts.require()
        with self._locked(), Object(self.datapath.object) as loading:
            cgroups = tuple(dict.fromkeys(cgroups))
            running = self._remembered()
            for attached in running:
                if attached.path is not None:  # an earlier version kept no names
                    self._paths.keep(attached.path)
            self._refuse_nested(cgroups, running)
            loading.set_settings(settings)
            for name, entries in sizes.items():
                loading.set_max_entries(name, entries)
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
        if mounts.bpffs() is None:
            return []
        with self._locked():
            gone = []
            for attached in self.running():
                if cgroups is None or attached.removed or attached.path in cgroups:
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

    def _remembered(self) -> list[Attached]:
        # A removed cgroup never comes back, not under its name either.
        for attached in self.running():
            if attached.removed:
                self._remove(attached.folder)
        return self.running()

    def _load(self, loading: Object) -> None:
        try:
            with cgroup.at_root():
                loading.load()
        except LoadError as error:
            for hook in self.datapath.hooks:
                if re.search(rf"prog '{hook.program}'.*(Invalid argument|EINVAL)", error.log):
                    raise LoadError(_missing(hook), error.log) from error
            raise

    def _refuse_nested(self, cgroups: Sequence[Path], running: Sequence[Attached]) -> None:
        already = [attached.path for attached in running if attached.path]
        for path in cgroups:
            for other in (*already, *cgroups):
                if path in other.parents or other in path.parents:
                    inner, outer = sorted((path, other), key=lambda at: len(at.parts), reverse=True)
                    detach = f"first cloud-toa {self.datapath.name} detach --cgroup {other}"
                    raise ToaError(
                        f"{inner} lies inside {outer}, where programs would run twice: "
                        f"{detach if other in already else 'attach one of the two'}"
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
        """What makes two programs the same: code, .rodata, keys of filled maps, and kept maps."""
        info = libbpf.program_info(program)
        found: dict[str, object] = {"tag": info.tag}
        for number in info.map_ids:
            with libbpf.map_by_id(number) as fd:
                about = libbpf.map_info(fd)
                if about.name.endswith(RODATA):
                    found[RODATA] = libbpf.lookup(fd, bytes(4), about.value_size)
                elif about.name in self.datapath.kept:
                    found[about.name] = number
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
                    _update(link, fresh[name])
                    if before is not None:
                        undo.append(partial(_update, link, before))
            for path in new:
                folder = self._folder / str(cgroup.identity(path))
                if not folder.is_dir():
                    folder.mkdir(mode=0o700)
                    undo.append(folder.rmdir)
                    self._paths.keep(path)
                    undo.append(partial(self._paths.forget, folder.name))
                for hook in self.datapath.hooks:
                    pin = folder / hook.program
                    if not _attached(pin):
                        self._link(hook, fresh[hook.program], path, pin)
                        undo.append(partial(_unpin, pin))
        except BaseException:
            for step in reversed(undo):
                with suppress(OSError):  # whatever one step meets, the others are undone
                    step()
            raise

    def _link(self, hook: Hook, program: Fd, path: Path, pin: Path) -> None:
        try:
            with cgroup.opened(path) as directory:
                link = libbpf.link_cgroup(program, directory, hook.attach_type)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise ToaError(_missing(hook)) from error
            holding = " or ".join(map(str, others.holding(path, hook))) or "another program"
            raise ToaError(
                f"{path} refused {hook.name} ({error.strerror}): {holding} may hold it alone"
            ) from error
        with link:
            libbpf.pin(link, pin)

    def _remove(self, folder: Path) -> None:
        order = [hook.program for hook in reversed(self.datapath.hooks)]
        pins = sorted(
            folder.iterdir(),
            key=lambda pin: order.index(pin.name) if pin.name in order else len(order),
        )
        for pin in pins:
            _unpin(pin)
        self._paths.forget(folder.name)
        folder.rmdir()


def _unpin(pin: Path) -> None:
    with libbpf.pinned(pin) as link:
        libbpf.link_detach(link)
    pin.unlink()


def _attached(pin: Path) -> bool:
    """Whether a link is pinned here and still on; a detached one is cleared away."""
    if not pin.exists():
        return False
    with libbpf.pinned(pin) as link:
        attached = libbpf.link_info(link).cgroup_id != 0
    if not attached:
        pin.unlink()
    return attached


def _update(link: Fd, program: Fd) -> None:
    try:
        libbpf.link_update(link, program)
    except OSError as error:
        if error.errno != errno.ENOLINK:  # the cgroup was removed just now
            raise


def _missing(hook: Hook) -> str:
    return (
        f"kernel {os.uname().release} has no {hook.name} hook: "
        f"Linux {hook.since} or later has it (cloud-toa doctor says what else is missing)"
    )


def _compatible(existing: Fd, loading: Object, name: str) -> bool:
    info = libbpf.map_info(existing)
    sizes = (info.type, info.key_size, info.value_size, info.max_entries)
    return sizes == loading.map_sizes(name)
