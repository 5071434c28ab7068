# SPDX-License-Identifier: Apache-2.0
"""Programs that do nothing at the hooks of the sender and the receiver: the floor."""

import os
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from cloud_toa.bpf import edge, libbpf, origin
from cloud_toa.bpf.datapath import Datapath
from cloud_toa.bpf.libbpf import Fd
from cloud_toa.bpf.object import Object
from cloud_toa.isolation import run

_NOOP = Path(__file__).with_name("noop.bpf.c")

SAME_CALLS = ("-DSAME_CALLS",)
"""Have the kernel call as often as it calls the sender (see noop.bpf.c)."""


@contextmanager
def attached(
    at_edge: Path, at_origin: Path, flags: Sequence[str] = ()
) -> Iterator[dict[str, list[Fd]]]:
    """Have both cgroups' hooks run programs that do nothing; yields those, by side."""
    with _object(flags) as noop:
        noop.load()
        with (
            _linked(noop, edge.DATAPATH, at_edge) as on_edge,
            _linked(noop, origin.DATAPATH, at_origin) as on_origin,
        ):
            yield {"edge": on_edge, "origin": on_origin}


@contextmanager
def _object(flags: Sequence[str]) -> Iterator[Object]:
    """Compile and open the programs that do nothing."""
    # Debian keeps asm/ below the processor's name, which -target bpf does not look into.
    include = f"-I/usr/include/{sysconfig.get_config_var('MULTIARCH')}"
    with TemporaryDirectory() as folder:
        compiled = Path(folder, "noop.bpf.o")
        run("clang", "-target", "bpf", "-O2", "-g", "-Wall", "-Werror", include, *flags,
            "-c", str(_NOOP), "-o", str(compiled))  # fmt: skip
        with Object(compiled) as opened:
            yield opened


@contextmanager
def _linked(noop: Object, datapath: Datapath, cgroup: Path) -> Iterator[list[Fd]]:
    """Have a datapath's hooks run the object's programs of the same names; yields those."""
    programs = [noop.program(hook.program) for hook in datapath.hooks]
    with ExitStack() as held:
        directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
        held.callback(os.close, directory)
        for hook, program in zip(datapath.hooks, programs, strict=True):
            held.enter_context(libbpf.link_cgroup(program, directory, hook.attach_type))
        yield programs
