# SPDX-License-Identifier: Apache-2.0
"""Beside a TOA module of others, under any name: noticed, named, left alone."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from cloud_toa import foreign_modules, kmod
from cloud_toa.cli import main
from tests.netns.module_kernel import TROUBLE, KernelLog
from tests.netns.receivers import MODULE, Module
from tests.vm.module import FOREIGN

ATTACH = ["origin", "attach", "--trust", "192.0.2.1"]
STATS = Path("/proc/1/net/toa_stats")
HELD = "/proc/net/toa_stats and socket option 4096"


@contextmanager
def loaded(name: str, *parameters: str) -> Iterator[None]:
    subprocess.run(
        ["insmod", str(MODULE.parent / f"foreign/{name}/{name}.ko"), *parameters], check=True
    )
    try:
        yield
    finally:
        subprocess.run(["rmmod", name], check=True)


def doctor(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    main(["doctor", "origin", "--json"])
    findings = json.loads(capsys.readouterr().out)["findings"]
    (found,) = (each for each in findings if each["name"] == "toa.ko")
    return dict(found)


@pytest.mark.parametrize("name", FOREIGN)
def test_named_and_not_loaded_beside(
    name: str, module: Module, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fixture sees that the kernel has nothing to complain of."""
    with loaded(name):
        (found,) = foreign_modules.find(ours=False)
        assert found.name == name
        assert found.about[0] == "version 2.0.0.0"
        assert found.about[1].startswith("srcversion ")
        assert found.holds == ("/proc/net/toa_stats", "socket option 4096")

        assert main([*ATTACH, "--datapath", "kmod"]) == 2
        said = capsys.readouterr().err
        assert (
            f"another TOA receiver is in the kernel: {name} (version 2.0.0.0, srcversion " in said
        )
        assert f"), which holds {HELD}. " in said
        assert f"then rmmod {name} (docs/migration.md)" in said
        assert not kmod.ours()

        shown = doctor(capsys)
        assert f"another TOA receiver is in the kernel: {name} (version 2.0.0.0" in shown["detail"]
        assert shown["remedy_debian"] == shown["remedy_rhel"] == f"rmmod {name}"
        assert shown["state"] == "not needed"

        assert not kmod.detach()
        assert kmod.status() is None
        assert foreign_modules.find(ours=False) == [found]
    assert foreign_modules.find(ours=False) == []
    module.receive(Path(), trust="10.9.0.1")
    assert kmod.ours()


@pytest.mark.parametrize("sockopt", [0, 1])
@pytest.mark.parametrize("namespace", ["the first", "another"])
def test_the_kernel_refuses_ours_without_a_warning(
    module: Module, sockopt: int, namespace: str
) -> None:
    """Loaded by hand, where nobody looks before; also where the counters alone are taken.

    The counters of published modules are in the first network namespace, where tests are not.
    """
    first = ["nsenter", "--target", "1", "--net"]
    with loaded("tcp_toa", f"sockopt={sockopt}"):
        log = KernelLog()
        insmod = [*first * (namespace == "the first"), "insmod", str(MODULE)]
        done = subprocess.run(insmod, capture_output=True, text=True, check=False)
        assert done.returncode
        assert "Device or resource busy" in done.stderr
        taken = "socket options 4096 and 4097 are" if sockopt else "/proc/net/toa_stats is"
        assert f"toa: {taken} taken, by another TOA module" in str(log)
        assert not TROUBLE.search(str(log)), log
        assert not kmod.loaded()
        # What is another's is still there.
        assert "syn_recv_sock_toa" in STATS.read_text()
    assert not STATS.exists()


def test_beside_ebpf(module: Module, servers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """eBPF is attached, as migration needs it, and tells of the other."""
    with loaded("tcp_toa"):
        assert main([*ATTACH, "--cgroup", str(servers)]) == 0
        said = capsys.readouterr().err
        assert "tcp_toa (version 2.0.0.0" in said
        assert "rmmod tcp_toa" in said
    assert main([*ATTACH, "--cgroup", str(servers)]) == 0
    assert capsys.readouterr().err == ""


def test_who_wrote_it_is_told_by_the_file_that_is_installed(module: Module) -> None:
    release = MODULE.parent.name.removesuffix("-toa")
    with ExitStack() as undo:
        place = f"/lib/modules/{release}"
        subprocess.run(["mount", "-t", "tmpfs", "cloud-toa", place], check=True)
        undo.callback(subprocess.run, ["umount", place], check=True)
        file = Path(place, "tcp_toa.ko")
        file.write_bytes((MODULE.parent / "foreign/tcp_toa/tcp_toa.ko").read_bytes())
        subprocess.run(["depmod", release], check=True)
        undo.enter_context(loaded("tcp_toa"))
        (found,) = foreign_modules.find(ours=False)
        assert found.about == ("version 2.0.0.0", "by somebody else", str(file))
        # Another module of that name is installed: its author is not this one's.
        file.write_bytes(MODULE.read_bytes())
        (found,) = foreign_modules.find(ours=False)
        assert found.about[1].startswith("srcversion ")
