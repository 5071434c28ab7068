# SPDX-License-Identifier: Apache-2.0
"""Another program that writes an option of its own, of the same kind, before the sender does."""

import os
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from cloud_toa.bpf import libbpf
from cloud_toa.bpf.object import Object

_SOURCE = r"""
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("sockops")
int rival(struct bpf_sock_ops *ctx)
{
	unsigned char option[4] = { KIND, 4, 1, 2 };

	if (ctx->op == BPF_SOCK_OPS_HDR_OPT_LEN_CB)
		bpf_reserve_hdr_opt(ctx, sizeof(option), 0);
	else if (ctx->op == BPF_SOCK_OPS_WRITE_HDR_OPT_CB)
		bpf_store_hdr_opt(ctx, option, sizeof(option), 0);
	return 1;
}
char LICENSE[] SEC("license") = "GPL";
"""
_SOCKOPS = 3  # enum bpf_attach_type, linux/bpf.h


@contextmanager
def rival(cgroup: Path, kind: int) -> Iterator[None]:
    """It is there, in front of what is attached from now on."""
    include = f"-I/usr/include/{sysconfig.get_config_var('MULTIARCH')}"
    with TemporaryDirectory() as folder:
        source = Path(folder, "rival.bpf.c")
        source.write_text(_SOURCE.replace("KIND", str(kind)))
        command = ["clang", "-target", "bpf", "-O2", "-g", include, "-c", source.name]
        subprocess.run([*command, "-o", "rival.bpf.o"], cwd=folder, check=True)
        with Object(Path(folder, "rival.bpf.o")) as loaded:
            loaded.load()
            program = loaded.program("rival")
    directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with program, libbpf.link_cgroup(program, directory, _SOCKOPS):
            yield
    finally:
        os.close(directory)
