# SPDX-License-Identifier: Apache-2.0
"""A host on which nobody has mounted bpffs: whoever attaches mounts it, for the host."""

from pathlib import Path

from tests.vm.systemd import run

BPFFS = Path("/sys/fs/bpf")


def test() -> None:
    run("umount", BPFFS)
    assert run("cloud-toa", "origin", "status", code=1) == "origin: not attached\n"
    run("cloud-toa", "doctor", "origin")
    assert not BPFFS.is_mount()
    run("cloud-toa", "origin", "attach", "--trust", "192.0.2.10")
    assert BPFFS.is_mount()
    assert (BPFFS / "cloud-toa/origin").is_dir()
    # Among the mounts of the first process, which are the host's.
    assert " /sys/fs/bpf bpf rw,nosuid,nodev,noexec," in Path("/proc/1/mounts").read_text()
    run("cloud-toa", "origin", "detach")
