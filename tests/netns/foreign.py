# SPDX-License-Identifier: Apache-2.0
"""eBPF programs that are not ours, compiled and attached beside ours."""

import os
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_int, c_uint32
from pathlib import Path
from tempfile import TemporaryDirectory

from cloud_toa.bpf import libbpf
from cloud_toa.bpf.libbpf import Fd
from cloud_toa.bpf.library import check
from cloud_toa.bpf.object import Object

SOCKOPS, GETSOCKOPT, SETSOCKOPT, PEERNAME4 = 3, 21, 22, 29
"""enum bpf_attach_type, linux/bpf.h."""

_SECTIONS = {
    SOCKOPS: ("sockops", "bpf_sock_ops"),
    GETSOCKOPT: ("cgroup/getsockopt", "bpf_sockopt"),
    SETSOCKOPT: ("cgroup/setsockopt", "bpf_sockopt"),
    PEERNAME4: ("cgroup/getpeername4", "bpf_sock_addr"),
}
_ALLOW_MULTI = 2  # BPF_F_ALLOW_MULTI


def compiled(name: str, hook: int, body: str) -> Fd:
    """A program for a hook, with ``ctx`` for its body."""
    section, context = _SECTIONS[hook]
    include = f"-I/usr/include/{sysconfig.get_config_var('MULTIARCH')}"
    text = (
        "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"
        f'SEC("{section}")\nint {name}(struct {context} *ctx)\n{{\n{body}\nreturn 1;\n}}\n'
        'char LICENSE[] SEC("license") = "GPL";\n'
    )
    with TemporaryDirectory() as folder:
        source = Path(folder, "foreign.bpf.c")
        source.write_text(text)
        command = ["clang", "-target", "bpf", "-O2", "-g", include, "-c", source.name]
        subprocess.run([*command, "-o", "foreign.bpf.o"], cwd=folder, check=True)
        with Object(Path(folder, "foreign.bpf.o")) as loaded:
            loaded.load()
            return loaded.program(name)


@contextmanager
def attached(cgroup: Path, hook: int, body: str = "", name: str = "foreign") -> Iterator[None]:
    """It runs behind what is attached to that cgroup already, and in front of what comes later."""
    with compiled(name, hook, body) as program, _open(cgroup) as directory:
        with libbpf.link_cgroup(program, directory.number, hook):
            yield


@contextmanager
def attached_without_link(
    cgroup: Path, hook: int, body: str = "", name: str = "foreign"
) -> Iterator[None]:
    """The same as programs were attached before there were links."""
    attach, detach = libbpf.library().bpf_prog_attach, libbpf.library().bpf_prog_detach2
    attach.argtypes, attach.restype = [c_int, c_int, c_uint32, c_uint32], c_int
    detach.argtypes, detach.restype = [c_int, c_int, c_uint32], c_int
    with compiled(name, hook, body) as program, _open(cgroup) as directory:
        check(attach(program.number, directory.number, hook, _ALLOW_MULTI))
        try:
            yield
        finally:
            check(detach(program.number, directory.number, hook))


def _open(cgroup: Path) -> Fd:
    return Fd(os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY))
