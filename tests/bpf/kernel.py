# SPDX-License-Identifier: Apache-2.0
"""What the kernel itself says is attached, and programs that are not ours."""

import ctypes
import os
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cloud_toa.bpf import edge, libbpf
from cloud_toa.bpf.attachment import Datapath
from cloud_toa.bpf.object import Object

PINS = Path("/sys/fs/bpf/cloud-toa")
_SOURCES = edge.DATAPATH.object.parent

State = tuple[dict[str, int], dict[tuple[str, str], tuple[int, ...]]]


def programs(cgroup: Path, attach_type: int) -> tuple[int, ...]:
    """Ids of the programs that the kernel runs for this cgroup at a hook."""
    ids, number = (ctypes.c_uint32 * 64)(), ctypes.c_uint32(64)
    directory = os.open(cgroup, os.O_RDONLY)
    try:
        answer = libbpf.library().bpf_prog_query(
            directory, attach_type, 0, None, ids, ctypes.byref(number)
        )
    finally:
        os.close(directory)
    assert answer == 0, os.strerror(-answer)
    return tuple(ids[: number.value])


def state(datapath: Datapath, *cgroups: Path) -> State:
    """All that attach and detach may change: the pins, and what runs for these cgroups."""
    pins = {}
    for path in sorted((PINS / datapath.name).rglob("*")):
        name = str(path.relative_to(PINS))
        if path.is_dir():
            pins[name] = 0
        else:
            with libbpf.pinned(path) as link:
                pins[name] = libbpf.link_info(link).prog_id
    running = {
        (path.name, hook.name): programs(path, hook.attach_type)
        for path in cgroups
        for hook in datapath.hooks
    }
    return pins, running


def whole(datapath: Datapath, cgroups: list[Path], others: list[Path]) -> bool:
    """Whether exactly these cgroups run the datapath, all with the same programs and maps."""
    pins, running = state(datapath, *cgroups, *others)
    folders = {name.split("/")[1] for name in pins}
    ids = {running[cgroup.name, hook.name] for cgroup in cgroups for hook in datapath.hooks}
    maps: dict[str, set[int]] = {}
    for number in (number for found in ids for number in found):
        with libbpf.program_by_id(number) as program:
            for map_id in libbpf.program_info(program).map_ids:
                with libbpf.map_by_id(map_id) as fd:
                    maps.setdefault(libbpf.map_info(fd).name, set()).add(map_id)
    return (
        folders == {str(cgroup.stat().st_ino) for cgroup in cgroups}
        and all(len(found) == 1 for found in ids)
        and len(ids) == (len(datapath.hooks) if cgroups else 0)
        and not any(running[cgroup.name, hook.name] for cgroup in others for hook in datapath.hooks)
        and all(len(numbers) == 1 for numbers in maps.values())
    )


def remove(cgroup: Path) -> None:
    """Remove a cgroup, and wait until the kernel has let go of its programs; nothing tells when."""
    number = cgroup.stat().st_ino
    cgroup.rmdir()
    deadline = time.monotonic() + 30
    while any(_cgroup_of(pin) for pin in PINS.glob(f"*/{number}/*")):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _cgroup_of(pin: Path) -> int:
    with libbpf.pinned(pin) as link:
        return libbpf.link_info(link).cgroup_id


@contextmanager
def held_alone(cgroup: Path, datapath: Datapath) -> Iterator[None]:
    """Another's program that lets nobody beside it, at the hook that we attach last."""
    hook = datapath.hooks[-1]
    exclusive = 0
    with Object(datapath.object) as loaded:
        loaded.load()
        with loaded.program(hook.program) as program:
            directory = os.open(cgroup, os.O_RDONLY)
            lib = libbpf.library()
            try:
                args = (program.number, directory, hook.attach_type)
                assert lib.bpf_prog_attach(*args, exclusive) == 0
                yield
                assert lib.bpf_prog_detach2(*args) == 0
            finally:
                os.close(directory)


@dataclass(frozen=True)
class Variant(Datapath):
    """A datapath whose compiled programs lie elsewhere."""

    compiled: Path = Path()

    @property
    def object(self) -> Path:
        return self.compiled


def variant(of: Datapath, folder: Path, old: str, new: str) -> Variant:
    """Compile a datapath's programs with one piece of their source replaced."""
    # The object's name, which names its maps, is that of the file.
    program = folder / f"{of.name}.bpf.c"
    # The other datapath's headers have its name and an underscore before theirs.
    headers = {*_SOURCES.glob("*.h")} - {*_SOURCES.glob("*_*.h")} | {
        *_SOURCES.glob(f"{of.name}_*.h")
    }
    texts = {
        folder / source.name: source.read_text() for source in (_SOURCES / program.name, *headers)
    }
    assert sum(text.count(old) for text in texts.values()) == 1
    for path, text in texts.items():
        path.write_text(text.replace(old, new))
    include = f"/usr/include/{sysconfig.get_config_var('MULTIARCH')}"
    subprocess.run(
        ["clang", "-target", "bpf", "-O2", "-g", f"-I{include}", "-c", program.name],
        cwd=folder,
        check=True,
    )
    return Variant(of.name, of.hooks, of.kept, of.filled, program.with_suffix(".o"))
