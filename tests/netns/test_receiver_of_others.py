# SPDX-License-Identifier: Apache-2.0
"""From an eBPF receiver of others to ours, as docs/migration.md tells it."""

import errno
import os
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ctypes import c_int, c_uint32
from pathlib import Path

import pytest

from cloud_toa.bpf import libbpf, origin
from cloud_toa.bpf.library import check, library
from cloud_toa.bpf.object import Object
from cloud_toa.cli import main
from cloud_toa.demo.lab import Lab
from cloud_toa.option import Client
from tests.netns.raw_tcp import RawClient, Wire
from tests.netns.receiver import CLIENT, TOA, TRUSTED, peer_of
from tests.netns.traffic import SERVER, listen

_PEERNAME4 = 29  # enum bpf_attach_type, linux/bpf.h
_ALLOW_MULTI = 2
_SOURCE = r"""
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
SEC("cgroup/getpeername4")
int others(struct bpf_sock_addr *ctx)
{
	/* It knows the same client; the port tells who has answered. */
	ctx->user_ip4 = bpf_htonl(CLIENT);
	ctx->user_port = bpf_htons(9);
	return 1;
}
char LICENSE[] SEC("license") = "GPL";
"""
THEIRS = Client(CLIENT.ip, 9)


@contextmanager
def others(cgroup: Path, folder: Path, flags: int) -> Iterator[None]:
    """Their program, attached without a link, as such receivers' scripts do with bpftool."""
    attach, detach = library().bpf_prog_attach, library().bpf_prog_detach2
    attach.argtypes, attach.restype = [c_int, c_int, c_uint32, c_uint32], c_int
    detach.argtypes, detach.restype = [c_int, c_int, c_uint32], c_int
    source = folder / "others.bpf.c"
    source.write_text(_SOURCE.replace("CLIENT", hex(int(CLIENT.ip))))
    include = f"-I/usr/include/{sysconfig.get_config_var('MULTIARCH')}"
    command = ["clang", "-target", "bpf", "-O2", "-g", include, "-c", source.name]
    subprocess.run([*command, "-o", "others.bpf.o"], cwd=folder, check=True)
    with ExitStack() as undo:
        loaded = undo.enter_context(Object(folder / "others.bpf.o"))
        loaded.load()
        program = undo.enter_context(loaded.program("others"))
        directory = undo.enter_context(libbpf.Fd(os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)))
        check(attach(program.number, directory.number, _PEERNAME4, flags))
        undo.callback(lambda: check(detach(program.number, directory.number, _PEERNAME4)))
        yield


def attach(servers: Path) -> int:
    return main(["origin", "attach", "--trust", TRUSTED, "--cgroup", str(servers)])


def visit(lab: Lab, servers: Path, wire: Wire) -> Client:
    with listen(lab, servers, SERVER) as listener:
        client = RawClient(wire, TRUSTED, SERVER)
        client.open(ack=TOA)
        with listener.accept()[0] as conn:
            seen = peer_of(conn)
        client.reset()
    return seen


def test_ours_beside_theirs_then_alone(lab: Lab, servers: Path, wire: Wire, tmp_path: Path) -> None:
    with others(servers, tmp_path, _ALLOW_MULTI):
        assert visit(lab, servers, wire) == THEIRS
        assert attach(servers) == 0
        assert visit(lab, servers, wire) == CLIENT
    assert visit(lab, servers, wire) == CLIENT


def test_theirs_on_a_parent_has_the_last_word(
    lab: Lab, servers: Path, wire: Wire, tmp_path: Path
) -> None:
    below = servers / "below"
    below.mkdir()
    try:
        with others(servers, tmp_path, _ALLOW_MULTI):
            assert attach(below) == 0
            assert visit(lab, below, wire) == THEIRS
        assert visit(lab, below, wire) == CLIENT
    finally:
        origin.detach()
        below.rmdir()


def test_theirs_holds_the_hook_alone(
    lab: Lab,
    servers: Path,
    wire: Wire,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with others(servers, tmp_path, 0):
        assert attach(servers) == 2
        said = capsys.readouterr().err
        assert "cgroup/getpeername4" in said
        assert os.strerror(errno.EPERM) in said
        assert "cgroup/getpeername4 others (id " in said
        assert "may hold it alone" in said
        assert visit(lab, servers, wire) == THEIRS
    assert attach(servers) == 0
    assert visit(lab, servers, wire) == CLIENT
