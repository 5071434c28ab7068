# SPDX-License-Identifier: Apache-2.0
"""The commands that mend what is missing, on Debian and Ubuntu, and on RHEL and its kin.

Source: the distributions' packages. libbpf.so.1 came with Debian 12, Ubuntu 23.04
and RHEL 9; the ones before have libbpf.so.0, which does not serve.
"""

import platform
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from cloud_toa.doctor.finding import Remedy
from cloud_toa.packages import Package

_FROM_SOURCE = (
    "curl -fL https://github.com/libbpf/libbpf/archive/refs/tags/v1.3.0.tar.gz | tar -xz && "
    "make -C libbpf-1.3.0/src PREFIX=/usr/local LIBDIR=/usr/local/lib install && "
    "echo /usr/local/lib > /etc/ld.so.conf.d/libbpf.conf && ldconfig"
)
_FIRST_WITH_LIBBPF_1 = {"debian": (12,), "ubuntu": (23, 4)}


def os_release() -> Mapping[str, str]:
    """The host's /etc/os-release; empty where there is none."""
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def both(command: str) -> Remedy:
    """One command for all distributions."""
    return Remedy(command, command)


def package(wanted: Package) -> Remedy:
    """A package that a datapath needs."""
    return Remedy(f"apt-get install {wanted.debian}", f"dnf install {wanted.rhel}")


def kernel(host: Mapping[str, str]) -> Remedy:
    """A distribution's newest kernel for this release."""
    debian = "apt-get install linux-image-$(dpkg --print-architecture) && reboot"
    if host.get("ID") == "ubuntu":
        debian = f"apt-get install linux-generic-hwe-{host.get('VERSION_ID', '')} && reboot"
    return Remedy(debian, "dnf upgrade kernel && reboot")


def libbpf(host: Mapping[str, str]) -> Remedy:
    """libbpf.so.1 from a package, or from its source where the release is too old for one."""
    debian, rhel = "apt-get install libbpf1", "dnf install libbpf"
    version = tuple(int(part) for part in host.get("VERSION_ID", "").split(".") if part.isdigit())
    identity = host.get("ID", "")
    first = _FIRST_WITH_LIBBPF_1.get(identity)
    if first and version and version < first:
        debian = (
            "apt-get install build-essential curl libelf-dev pkg-config zlib1g-dev && "
            + _FROM_SOURCE
        )
    if "rhel" in (identity, *host.get("ID_LIKE", "").split()) and version and version < (9,):
        rhel = (
            "dnf install curl elfutils-libelf-devel gcc make pkgconf tar zlib-devel && "
            + _FROM_SOURCE
        )
    return Remedy(debian, rhel)


def haproxy_line(config: Path, line: str) -> Remedy:
    """HAProxy without this line of its configuration, which stays as a comment."""
    words = "[[:space:]]+".join(map(re.escape, line.split()))
    spot = f"^[[:space:]]*{words}[[:space:]]*(#.*)?$"
    edit = shlex.join(("sed", "-i.bak", "-E", f"s/{spot}/#&/", str(config)))
    return both(f"{edit} && systemctl restart haproxy")


def kept(upstreams: Sequence[str], *, by_default: bool) -> Remedy:
    """An nginx that keeps no connection to these upstreams. Files are the operator's to write."""
    names = " ".join(upstreams)
    edit = f"write 'keepalive 0;' in upstream {names}"
    if not by_default:
        edit = f"take keepalive out of upstream {names}"
    return both(f"# {edit} (docs/recipes/nginx.md), then: nginx -t && systemctl reload nginx")


def net_raw(unit: str | None, user: str) -> Remedy:
    """An nginx that may keep CAP_NET_RAW."""
    if unit is None:
        return both(f"# start nginx with CAP_NET_RAW, or as {user} from the outset")
    folder = f"/etc/systemd/system/{unit}.d"
    # Lists of one unit add up.
    lines = shlex.quote("[Service]\\nCapabilityBoundingSet=CAP_NET_RAW\\n")
    return both(
        f"mkdir -p {folder} && printf {lines} > {folder}/cap-net-raw.conf && "
        f"systemctl daemon-reload && systemctl restart {unit}"
    )


BPFFS = both("mount -t bpf bpf /sys/fs/bpf")
CGROUP2 = both("mount -t cgroup2 none /sys/fs/cgroup")
# Mounted over a host's version 1 controllers, cgroup2 would hide them.
CGROUP2_BESIDE_V1 = both(
    "mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified"
)
# sudo has a PATH of its own, in which a virtual environment is not.
SUDO = both('sudo "$(command -v cloud-toa)" doctor')
_PRIVILEGED = (
    "run --cap-add SYS_ADMIN --userns host --network host --cgroupns host "
    "-v /sys/fs/bpf:/sys/fs/bpf IMAGE cloud-toa doctor"
)
CONTAINER = Remedy(f"docker {_PRIVILEGED}", f"podman {_PRIVILEGED}")
JIT = both("sysctl -w net.core.bpf_jit_enable=1")

# The kernel loads them by itself, unless they are not installed or somebody forbade it.
_LOAD = "modprobe -a nft_ct nft_fib_inet nft_masq nft_queue"
NFQUEUE = Remedy(
    f"{_LOAD} || {{ apt-get install linux-image-$(dpkg --print-architecture) && reboot; }}",
    f"{_LOAD} || {{ dnf install kernel-modules-$(uname -r) && {_LOAD}; }}",
)

# In the project's source; then `cloud-toa origin attach` says whom to believe.
_BUILD = "make -C kmod install && modprobe toa"
BUILD_MODULE = Remedy(
    f"apt-get install gcc make linux-headers-$(uname -r) && {_BUILD}",
    f"dnf install gcc make kernel-devel-$(uname -r) && {_BUILD}",
)
UNLOAD_MODULE = both("rmmod toa")
CLUSTER = both("pip install 'cloud-toa[cluster]'")
