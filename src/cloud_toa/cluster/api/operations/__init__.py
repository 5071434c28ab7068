# SPDX-License-Identifier: Apache-2.0
"""Every call that the API answers."""

from cloud_toa.cluster.api.operation import Operation
from cloud_toa.cluster.api.operations import (
    health,
    node,
    nodes,
    people,
    session,
    settings,
    watching,
)

_MODULES = (health, session, settings, nodes, watching, people, node)

ALL: tuple[Operation, ...] = tuple(
    each for module in _MODULES for each in vars(module).values() if isinstance(each, Operation)
)
