# SPDX-License-Identifier: Apache-2.0
"""Programs of others at the hooks that a datapath uses, where they meet the same sockets.

A socket's calls run the programs of its cgroup first and then those of each cgroup above,
in a cgroup in the order in which they were attached. Programs that are held by no link can be
detached by anybody who may attach.

Source: kernel/bpf/cgroup.c; BPF_PROG_QUERY in linux/bpf.h.
"""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cloud_toa.bpf import cgroup, libbpf
from cloud_toa.bpf.datapath import Datapath, Hook
from cloud_toa.bpf.pinned import Attached, Pinned
from cloud_toa.errors import ToaError


class Turn(StrEnum):
    """When another's program runs: before ours, after, or for the cgroups below ours alone."""

    BEFORE = "before"
    AFTER = "after"
    BELOW = "below"
    ANY = "any"
    """Ours is not attached."""


@dataclass(frozen=True)
class Other:
    """Another's program. ``cgroup`` is None where it is above what can be seen from here."""

    id: int
    name: str
    hook: str
    cgroup: Path | None
    turn: Turn
    linked: bool

    def __str__(self) -> str:
        place = self.cgroup or "a cgroup above"
        turn = {Turn.BEFORE: ", before ours", Turn.AFTER: ", after ours"}.get(self.turn, "")
        link = "" if self.linked else ", without a link"
        return f"{self.hook} {self.name or 'without a name'} (id {self.id}) on {place}{turn}{link}"


def beside(pinned: Pinned) -> list[Other]:
    """Those that meet the sockets of the cgroups where a datapath is attached.

    Raises:
        ToaError: cgroup2 is not mounted.
    """
    links = set(_links())
    found: list[Other] = []
    for attached in pinned.running():
        if attached.path is not None:
            found += _around(pinned.datapath, attached, attached.path, links)
    return list(dict.fromkeys(found))


def anywhere(datapaths: Iterable[Datapath], ours: Iterable[int]) -> list[Other]:
    """Those of the whole host; ``ours`` are the ids of programs that are no others'.

    Raises:
        PermissionError: the kernel answers root with CAP_SYS_ADMIN alone.
        ToaError: cgroup2 is not mounted.
    """
    hooks = {hook.name: hook for datapath in datapaths for hook in datapath.hooks}
    known, links = set(ours), set(_links())
    return [
        _other(number, hook, path, Turn.ANY, links)
        for path in cgroup.below(cgroup.root())
        for hook in hooks.values()
        for number in _attached(path, hook)
        if number not in known
    ]


def holding(path: Path, hook: Hook) -> list[Other]:
    """Those of a cgroup and of the ones above it: one of them may keep a hook to itself."""
    links = set(_links())
    return [
        _other(number, hook, place, Turn.ANY, links)
        for place in _upwards(path)
        for number in _attached(place, hook)
    ]


_Link = tuple[int, int, int]
"""Ids of a program and of its cgroup, and the attach type."""


def _around(
    datapath: Datapath, attached: Attached, here: Path, links: set[_Link]
) -> Iterator[Other]:
    below = [path for path in cgroup.below(here) if path != here]
    for hook in datapath.hooks:
        program = attached.program(hook.program) if attached.alive(hook.program) else None
        own = libbpf.program_info(program).id if program is not None else 0
        places = {number: path for path in _upwards(here) for number in _attached(path, hook)}
        effective = _attached(here, hook, effective=True)
        ours = effective.index(own) if own in effective else len(effective)
        for turn, number in enumerate(effective):
            if number != own:
                when = Turn.BEFORE if turn < ours else Turn.AFTER
                yield _other(number, hook, places.get(number), when, links)
        for path in below:
            for number in _attached(path, hook):
                yield _other(number, hook, path, Turn.BELOW, links)


def _upwards(path: Path) -> list[Path]:
    return [place for place in (path, *path.parents) if (place / "cgroup.procs").exists()]


def _other(number: int, hook: Hook, path: Path | None, turn: Turn, links: set[_Link]) -> Other:
    name, place = "", None
    with suppress(OSError), libbpf.program_by_id(number) as program:  # detached meanwhile
        name = libbpf.program_info(program).name
    with suppress(ToaError):  # removed meanwhile
        place = cgroup.identity(path) if path is not None else None
    linked = any(
        (program_id, attach_type) == (number, hook.attach_type) and at == (place or at)
        for program_id, at, attach_type in links
    )
    return Other(number, name, hook.name, path, turn, linked)


def _attached(path: Path, hook: Hook, *, effective: bool = False) -> list[int]:
    """Ids of a cgroup's programs, in the order in which they run; with those above."""
    try:
        directory = libbpf.Fd(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
    except FileNotFoundError:
        return []  # removed while we looked
    with directory:
        try:
            return libbpf.attached(directory, hook.attach_type, effective=effective)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):  # no such hook; removed
                return []
            raise


def _links() -> Iterator[_Link]:
    for number in libbpf.links():
        with suppress(OSError), libbpf.link_by_id(number) as link:
            info = libbpf.link_info(link)
            if info.type == libbpf.LINK_CGROUP:
                yield info.prog_id, info.cgroup_id, info.attach_type
