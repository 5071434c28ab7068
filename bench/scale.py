# SPDX-License-Identifier: Apache-2.0
"""How far does it scale? Each part is a question of docs/scale.md, answered by real connections.

memory: what a connection takes in the kernel, and how much of it is TOA's.
ports: how many connections an edge can have to an origin, and what happens then.
conntrack: what the queue datapath takes of its table, and what happens when that is full.
edges: many edges in front of one origin, behind ECMP or anycast, and one that is withdrawn.
"""

import argparse

import scale_conntrack
import scale_edges
import scale_memory
import scale_ports
from experiment import add_options, exit_with

PARTS = {
    "memory": scale_memory.EXPERIMENT,
    "ports": scale_ports.EXPERIMENT,
    "conntrack": scale_conntrack.EXPERIMENT,
    "edges": scale_edges.EXPERIMENT,
}


def main() -> int:
    """Measure a part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="part", required=True, metavar="PART")
    for name, part in PARTS.items():
        add_options(verbs.add_parser(name, help=part.title), part.arguments)
    asked = parser.parse_args()
    return PARTS[asked.part].run(asked)


if __name__ == "__main__":
    exit_with("bench/scale", main)
