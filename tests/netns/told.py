# SPDX-License-Identifier: Apache-2.0
"""Random clients that say inside whose a connection is, and the server that compares.

Both are the benchmarks' (bench/visitors.py, bench/told_server.py), as processes of the lab.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cloud_toa.demo.lab import CLIENTS, EDGE, Lab

_BENCH = Path(__file__).parents[2] / "bench"
SERVER_PORT, BALANCER_PORT = 80, 8080


def serve(lab: Lab, place: Path) -> None:
    """Have the server at work at the origin."""
    command = [sys.executable, str(_BENCH / "told_server.py"), json.dumps({"ports": [SERVER_PORT]})]
    lab.start(lab.origin, command, [("", SERVER_PORT)], place=place)


def visit(lab: Lab, versions: Sequence[int], count: int, seed: int) -> list[dict[str, Any]]:
    """Have a client process for each IP version given, at the same time; what became of each.

    Each makes so many connections to the load balancer, one after the other. Who is not seen as
    himself is wrong here, the edge as well.
    """
    clients = []
    for number, version in enumerate(versions):
        way = {"clients": CLIENTS[version], "host": EDGE[version], "port": BALANCER_PORT}
        task = {"ways": [way], "edges": [], "count": count, "at_once": 1, "seed": seed + number}
        command = [sys.executable, str(_BENCH / "visitors.py"), json.dumps(task)]
        clients.append(lab.client.popen(command, stdout=subprocess.PIPE))
    found = [json.loads(client.communicate(timeout=1500)[0].splitlines()[-1]) for client in clients]
    assert all(each["failures"] == {} for each in found), found
    return found
