# SPDX-License-Identifier: Apache-2.0
"""The Python packages that nodes of a cluster need besides our own: the extra ``cluster``."""

import re
from importlib.metadata import PackageNotFoundError, distribution, requires

from cloud_toa.doctor import remedies
from cloud_toa.doctor.finding import Finding, absent, there

_NAME = "Python packages"
_EXTRA = re.compile(r"""^([\w.-]+)[^;]*;.*extra\s*==\s*["']cluster["']""")


def cluster_packages() -> Finding:
    """Whether all of them are installed."""
    wanted = [found[1] for line in requires("cloud-toa") or [] if (found := _EXTRA.match(line))]
    lacks = [name for name in wanted if not _installed(name)]
    if lacks:
        return absent(_NAME, f"not installed: {' '.join(lacks)}", remedies.CLUSTER)
    return there(_NAME, "those of a cluster are installed")


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
