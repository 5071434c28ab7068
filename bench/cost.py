# SPDX-License-Identifier: Apache-2.0
"""What eBPF costs a connection, by the kernel's own statistics.

The kernel reads a clock before and after each run, which adds some 50 ns to every one.
What programs that do nothing seem to cost at the same hooks (``noop.bpf.c``) is
therefore measured beside it: no program can cost less.

The floor needs the same calls from HAProxy, whose connections then come from the
clients' own addresses: hence the policy routing of the mode `transparent`.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import noop
from modes import MODES
from report import Table
from testbed import Testbed

from cloud_toa.bpf import edge, libbpf, origin
from cloud_toa.bpf.libbpf import Fd, ProgramInfo
from cloud_toa.errors import ToaError

Cost = dict[str, Any]
"""By side, ``edge`` and ``origin``: ns per connection, and ns and runs of each program."""

_STATS_RUN_TIME = 0
_ROUNDS = 7


def measure(testbed: Testbed, load: Callable[[tuple[str, int]], float]) -> dict[str, Cost]:
    """What TOA costs, and what programs cost that do nothing: of several rounds, the median.

    ``load`` makes connections to an address, and answers how many they were.
    """
    rounds = [_measure(testbed, load) for _ in range(_ROUNDS)]

    def total(cost: Cost) -> float:
        return float(cost["edge"]["ns"] + cost["origin"]["ns"])

    return {
        title: sorted((costs[title] for costs in rounds), key=total)[_ROUNDS // 2]
        for title in rounds[0]
    }


def _measure(testbed: Testbed, load: Callable[[tuple[str, int]], float]) -> dict[str, Cost]:
    costs = {}
    with testbed.ready(MODES["toa"]) as address:
        programs = {
            "edge": [libbpf.program_by_id(info.id) for info in _running(edge.status())],
            "origin": [libbpf.program_by_id(info.id) for info in _running(origin.status())],
        }
        costs["TOA"] = _cost(programs, lambda: load(address))
    for title, flags in (("nothing, as often", noop.SAME_CALLS), ("nothing", ())):
        with (
            testbed.ready(MODES["transparent"]) as address,
            noop.attached(testbed.edge_cgroup, testbed.origin_cgroup, flags) as programs,
        ):
            costs[title] = _cost(programs, lambda: load(address))
    return costs


def table(costs: dict[str, Cost]) -> Table:
    """The costs by program; those that never ran are left out."""
    shown = Table("eBPF, ns/connection (runs)", *costs)
    for side in ("edge", "origin"):
        for program in costs["TOA"][side]["programs"]:
            cells = [cost[side]["programs"][program] for cost in costs.values()]
            if any(cell["runs"] for cell in cells):
                shown.add(program, *(f"{cell['ns']:,.0f} ({cell['runs']:.1f})" for cell in cells))
        shown.add(f"{side}, all", *(f"{cost[side]['ns']:,.0f}" for cost in costs.values()))
    return shown


def _cost(programs: dict[str, list[Fd]], load: Callable[[], float]) -> Cost:
    with _statistics():
        before = {side: list(map(libbpf.program_info, of)) for side, of in programs.items()}
        connections = load()
        after = {side: list(map(libbpf.program_info, of)) for side, of in programs.items()}
    cost: Cost = {"connections": connections}
    for side in programs:
        each = {
            done.name: {
                "ns": (done.run_time_ns - begun.run_time_ns) / connections,
                "runs": (done.run_cnt - begun.run_cnt) / connections,
            }
            for begun, done in zip(before[side], after[side], strict=True)
        }
        cost[side] = {"ns": sum(program["ns"] for program in each.values()), "programs": each}
    return cost


@contextmanager
def _statistics() -> Iterator[None]:
    """Have the kernel count and time every run (kernel.bpf_stats_enabled) until the end.

    Raises:
        ToaError: it can't; Linux 5.8 can.
    """
    # By a file descriptor and not the sysctl: so it ends with this process, however that ends.
    number = libbpf.library().bpf_enable_stats(_STATS_RUN_TIME)
    if number < 0:
        raise ToaError(f"the kernel gives no eBPF statistics ({os.strerror(-number)})")
    with Fd(number):
        yield


def _running(status: edge.EdgeStatus | origin.OriginStatus | None) -> tuple[ProgramInfo, ...]:
    return status.programs if status is not None else ()
