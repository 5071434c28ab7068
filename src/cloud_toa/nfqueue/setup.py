# SPDX-License-Identifier: Apache-2.0
"""Put the table, the policy rules and the routes in place, and take them away.

Either may be done again, and in any state that a killed process left: what is there
already is kept or replaced in one step, so that connections under way go on. Nothing but
our own table is touched, and no sysctl.
"""

import fcntl
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from cloud_toa import packages
from cloud_toa.errors import ToaError
from cloud_toa.nfqueue import rules, xtables
from cloud_toa.nfqueue.library import library
from cloud_toa.nfqueue.rules import Queues
from cloud_toa.origins import Origins

_SIOCGIFMTU = 0x8921
_LEGACY = {"ip": "ip_tables_names", "ip6": "ip6_tables_names"}
"""Files in /proc/net with the tables of iptables' own kernel modules, which nft does not list."""
_MOST_RULES = 100
"""Rules of ours that are removed at most: an end, should the kernel never say that none is left."""


def require(auto_setup: bool) -> None:
    """See that what is needed is there, before anything is set up.

    Raises:
        ToaError: libnetfilter_queue, nft or ip is missing; with the command that installs it.
    """
    library()
    if auto_setup:
        for program, package in (("nft", packages.NFT), ("ip", packages.IP)):
            if shutil.which(program) is None:
                raise ToaError(f"{program} is missing: {package}")


def install(
    origins: Origins, control: bool, queues: Queues, *, by_nft: bool, only_named: bool = False
) -> None:
    """Have packets queued; workers should be there before.

    Args:
        origins: the destinations that get the option.
        control: whether a control socket names clients.
        queues: the workers'.
        by_nft: whether the kernel has nft's queue statement; else the target of iptables.
        only_named: see `rules.table`.

    Raises:
        ToaError: the kernel or a program refused; what was begun is undone.
    """
    try:
        # The table comes last: once it changes sources, the answers must find their way.
        for family in families():
            if not _ip(rules.policy_rule(family, "show")).strip():
                _ip(rules.policy_rule(family, "add"))
            # Fails where the table never was.
            if not _run("ip", *rules.our_routes(family, "show").split()).stdout.strip():
                _ip(rules.route(family))
        statement = str(queues) if by_nft else ""
        mtus = device_mtus()
        _nft(rules.table(origins, control, mtus, statement, others=others(), only_named=only_named))
        if not by_nft:
            xtables.add_queue_rule(queues)
    except BaseException:
        with suppress(ToaError):  # the first refusal says more
            remove()
        raise


def follow(mtus: Mapping[str, int]) -> None:
    """Tell the table of devices' new MTUs, in bytes.

    Raises:
        ToaError: the table is gone.
    """
    _nft(rules.follow(mtus))


def track_bystanders(origins: Origins, others: bool) -> None:
    """Have connections that are not to origins tracked, or not: see `rules.bystanders`.

    Raises:
        ToaError: the table is gone.
    """
    _nft(rules.bystanders(origins, others))


def tables() -> set[str]:
    """The tables of this network namespace, such as ``inet cloud_toa``, ours among them."""
    listed = _run("nft", "list", "tables").stdout.splitlines()
    return {line.removeprefix("table ") for line in listed} | legacy_tables()


def legacy_tables() -> set[str]:
    """Those of them that iptables' own kernel modules have."""
    found = set()
    for family, file in _LEGACY.items():
        with suppress(OSError):
            names = Path(f"/proc/thread-self/net/{file}").read_text().split()
            found |= {f"{family} {name} (iptables-legacy)" for name in names}
    return found


def others() -> bool:
    """Whether there are tables that are not ours."""
    return bool(tables() - {rules.TABLE})


def remove() -> bool:
    """Take everything away; answer whether there was something.

    Raises:
        ToaError: nft refused, or a program is missing; the rest is gone.
    """
    found = is_there()
    try:
        if found:  # else nothing is asked of a kernel that may have no nftables
            _nft(rules.delete())
    finally:
        # Of IPv6 too, which may have been switched off in the meantime.
        for family in (4, 6):
            for _ in range(_MOST_RULES):
                if _run("ip", *rules.policy_rule(family, "del").split()).returncode:
                    break
                found = True
            routes = _run("ip", *rules.our_routes(family, "show").split())
            if routes.stdout.strip():
                _run("ip", *rules.our_routes(family, "flush").split())
                found = True
    return found


def can_be_there() -> bool:
    """Whether the programs are installed, without which none of ours can be there."""
    return all(shutil.which(program) for program in ("nft", "ip"))


def is_there() -> bool:
    """Whether our table is in this network namespace."""
    return _run("nft", "list", "counters", "table", *rules.TABLE.split()).returncode == 0


def counters() -> dict[str, int]:
    """The table's named counters, in packets; empty where it is not there."""
    done = _run("nft", "list", "counters", "table", *rules.TABLE.split())
    words = done.stdout.split()
    return {
        words[at + 1]: int(words[at + 4])
        for at, word in enumerate(words)
        if word == "counter" and done.returncode == 0
    }


def families() -> list[int]:
    """The IP versions that this network namespace has, 4 and perhaps 6."""
    disabled = Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6")
    return [4, 6] if disabled.exists() and disabled.read_text().strip() == "0" else [4]


def device_mtus() -> dict[str, int]:
    """The MTU of every device of this network namespace, in bytes."""
    return dict(_device_mtus())


def _device_mtus() -> Iterator[tuple[str, int]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(sock, _SIOCGIFMTU, struct.pack("16s16x", os.fsencode(name)))
            except OSError:
                continue  # gone since it was listed
            yield name, struct.unpack_from("=i", answer, 16)[0]


def _ip(arguments: str) -> str:
    done = _run("ip", *arguments.split())
    if done.returncode:
        raise ToaError(f"ip {arguments} failed: {done.stderr.strip()}")
    return done.stdout


def _nft(text: str) -> None:
    done = _run("nft", "-f", "-", said=text)
    if done.returncode:
        first = done.stderr.strip().splitlines() or ["without a reason"]
        raise ToaError(f"nft refused our table: {first[0]} (see cloud-toa doctor edge)")


def _run(*command: str, said: str = "") -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(command, input=said, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ToaError(f"{command[0]} is missing: see cloud-toa doctor edge") from None
