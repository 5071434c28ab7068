# SPDX-License-Identifier: Apache-2.0
"""How the sender of this host stands, whichever datapath it is."""

from contextlib import suppress
from typing import Any

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
        total |= setup.counters()
    return {"attached": True, **shown, "counters": total}


def bpf_counters() -> dict[str, int] | None:
    """The eBPF sender's counters; None where it is not attached."""
    found = edge.status()
    return None if found is None else found.counters
