# SPDX-License-Identifier: Apache-2.0
"""What this network namespace's kernel has, of all that the queue datapath could change."""

from pathlib import Path

from cloud_toa.isolation import run

Kernel = tuple[str, ...]


def kernel() -> Kernel:
    """Tables without their counters, rules, routes, sysctls: in the words of nft and ip."""
    listed = [run("nft", "--stateless", "list", "ruleset")]
    for family in (4, 6):
        listed.append(run("ip", f"-{family}", "rule"))
        listed.append(run(*f"ip -{family} route show table all".split()))
    tree = sorted(Path("/proc/sys/net").rglob("*"))
    written = [path for path in tree if path.is_file() and path.stat().st_mode & 0o200]
    listed += [f"{path} {_setting(path)}" for path in written if "/neigh/" not in str(path)]
    return tuple(listed)


def _setting(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""  # one that can only be written
