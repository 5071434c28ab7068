# SPDX-License-Identifier: Apache-2.0
"""What a host's kernel has counted of its network."""

import json

from cloud_toa.isolation import Namespace


def nstat(host: Namespace) -> dict[str, int]:
    """Every counter since the host began, by its name there, such as ``TcpExtListenDrops``."""
    return dict(json.loads(host.run("nstat", "--ignore", "--zeros", "--json"))["kernel"])
