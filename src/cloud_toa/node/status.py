# SPDX-License-Identifier: Apache-2.0
"""How the sender of this host stands, whichever datapath it is."""

import asyncio
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cloud_toa.balancer import traffic
from cloud_toa.bpf import edge
from cloud_toa.errors import ToaError
from cloud_toa.nfqueue import counters, setup
from cloud_toa.nfqueue.counters import Row
from cloud_toa.node import state


def queue() -> dict[str, Any] | None:
    """The queue datapath at work in this network namespace; None where it is not.

    ``counters`` are the workers' together, and the table's: packets meant for workers
    (``queued``; those that are not among ``packets`` passed as they were, while a worker was
    away or had too much to do; but the kernel cuts a large one into several ``packets``), and
    ``syn_without``.
    """
    found = state.running()
    if found is None:
        return None
    shown, memory = found
    if shown.get("datapath") != "queue" or memory is None:
        return None
    for row, worker in enumerate(shown["workers"]):
        worker["counters"] = Row(memory, row).read()
    total = {
        name: sum(worker["counters"][name] for worker in shown["workers"])
        for name in counters.NAMES
    }
    with suppress(ToaError):  # without nft there is no table of ours to read
        for name, count in setup.counters().items():
            total[name] = total.get(name, 0) + count
    return {"attached": True, **shown, "counters": total}


def edge_run() -> dict[str, Any] | None:
    """The `edge run` at work in this network namespace, and what passes through it.

    ``services`` are as `balancer.traffic.Service`, None where HAProxy does not answer.
    """
    found = state.running()
    if found is None or "edge" not in found[0]:
        return None
    shown = dict(found[0]["edge"])
    shown["pid"] = found[0]["pid"]
    shown["services"] = None
    with suppress(ToaError):
        read = asyncio.run(traffic.read(Path(shown.pop("runtime"))))
        shown["services"] = [asdict(service) for service in read]
    return shown


def everything() -> dict[str, Any] | None:
    """The `edge run` at work here with its datapath and the sender's counters."""
    found, running = state.running(), edge_run()
    if found is None or running is None:
        return None
    datapath = found[0]["datapath"]
    counters = (queue() or {}).get("counters") if datapath == "queue" else bpf_counters()
    return {"datapath": datapath, "counters": counters or {}, "edge": running}


def bpf_counters() -> dict[str, int] | None:
    """The eBPF sender's counters; None where it is not attached."""
    found = edge.status()
    return None if found is None else found.counters
