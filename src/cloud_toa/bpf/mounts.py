# SPDX-License-Identifier: Apache-2.0
"""cgroup2 and bpffs, without which nothing can be attached: mounted, mountable or hidden.

bpffs that nobody has mounted is mounted, as bpftool and systemd do: by whoever attaches, and only
among the host's own mounts. Elsewhere (a container, ``unshare --mount``) what is pinned would
end with that process's mounts, and the programs with it.

``ip netns exec`` gives its command a /sys of its own, which hides both. ``nsenter --net`` changes
to the same network and leaves the mounts alone.

Source: systemd's mount-setup.c (the options of bpffs); ip-netns(8); proc_pid_mountinfo(5):
mounts of two namespaces never share an id; Linux, include/uapi/linux/nsfs.h (PID_NS_INIT_INO).
"""

import os
import shlex
from contextlib import suppress
from pathlib import Path

from cloud_toa import libc
from cloud_toa.bpf import cgroup, mount_table
from cloud_toa.errors import ToaError

BPFFS = Path("/sys/fs/bpf")
"""Where bpffs belongs."""
NOT_MOUNTED = f"bpffs is not mounted: mount -t bpf bpf {BPFFS}"

_NAMED_NETWORKS = Path("/run/netns")
_FIRST_PIDS = "pid:[4026531836]"  # PID_NS_INIT_INO
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8


def require() -> None:
    """Have both within reach; bpffs is mounted where that is all that is missing.

    Raises:
        ToaError: says in one go what is missing, and the remedies.
    """
    if missing := lacks():
        raise ToaError(missing)
    if bpffs() is None:
        _mount_bpffs()


def lacks() -> str:
    """What stands in the way of both, and the remedies; empty where nothing does."""
    missing = {}
    try:
        cgroup.root()
    except ToaError as error:
        missing["cgroup2"] = str(error)
    try:
        cgroup.mount_point("bpf", NOT_MOUNTED)
    except ToaError as error:
        if not mountable():
            missing["bpffs"] = str(error)
    hidden = _hidden(*missing) if missing else None
    return hidden or "; ".join(missing.values())


def cgroup2() -> Path:
    """Where cgroup2 is mounted, for those who need it alone.

    Raises:
        ToaError: it is out of reach; what else is, is said too.
    """
    try:
        return cgroup.root()
    except ToaError:
        raise ToaError(lacks()) from None


def bpffs() -> Path | None:
    """Where bpffs is mounted and can be reached; None where it is not."""
    with suppress(ToaError):
        return cgroup.mount_point("bpf", NOT_MOUNTED)
    return None


def of_pins() -> Path:
    """Where bpffs is, or where it will be mounted: nothing is pinned there then.

    Raises:
        ToaError: it is out of reach, so that nobody can tell.
    """
    try:
        return cgroup.mount_point("bpf", NOT_MOUNTED)
    except ToaError as error:
        if not mountable():
            raise ToaError(_hidden("bpffs") or str(error)) from None
    return BPFFS


def mountable() -> bool:
    """Whether this process may mount bpffs here. Not over one that is covered: it may have pins."""
    return os.geteuid() == 0 and for_the_host() and not mount_table.mounts("bpf")


def for_the_host() -> bool:
    """Whether what is mounted here is mounted for the host, and not for this process alone."""
    return (
        BPFFS.is_dir()
        and bool(_ids("self") & _ids("1"))
        and str(Path("/proc/self/ns/pid").readlink()) == _FIRST_PIDS
    )


def exec_network() -> str | None:
    """The name of the network that ``ip netns exec`` has put this process into, if it did.

    It mounts a sysfs on /sys whose source is that name.
    """
    for line in Path("/proc/self/mounts").read_text().splitlines():
        source, place, kind, *_ = line.split()
        if place == "/sys" and kind == "sysfs" and (_NAMED_NETWORKS / source).exists():
            return source
    return None


def nsenter(network: str) -> str:
    """The beginning of a command that changes to this network, and leaves the mounts alone."""
    return f"nsenter --net={shlex.quote(str(_NAMED_NETWORKS / network))}"


def _hidden(*names: str) -> str | None:
    network = exec_network()
    return network and (
        f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} out of reach, as 'ip netns "
        f"exec' puts a /sys of its own in place: use {nsenter(network)} instead of "
        f"ip netns exec {network}"
    )


def _mount_bpffs() -> None:
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    try:
        libc.call("mount", b"bpf", os.fsencode(BPFFS), b"bpf", flags, b"mode=700")
    except OSError as error:
        raise ToaError(f"{NOT_MOUNTED} (the kernel refused: {error.strerror})") from None


def _ids(process: str) -> set[str]:
    """The ids of all that is mounted for a process; none where we may not look."""
    with suppress(OSError):
        lines = Path(f"/proc/{process}/mountinfo").read_text().splitlines()
        return {line.split(" ", 1)[0] for line in lines}
    return set()
