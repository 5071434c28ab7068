# SPDX-License-Identifier: Apache-2.0
"""Receivers that are exchanged, detached and attached while connections come."""

import time

import virtual_machine
from fault_edges import ByHand, Stage, interrupted
from fault_load import Span

from cloud_toa import kmod
from cloud_toa.config import OriginSettings
from cloud_toa.demo.lab import EDGE_TO_ORIGIN
from cloud_toa.errors import ToaError
from cloud_toa.trust import Trust

_EDGES = tuple(EDGE_TO_ORIGIN.values())
_MORE = "192.0.2.0/24"
"""An edge that is trusted every second time."""


class ByBpf:
    """The eBPF receiver of one cgroup, by commands; the edge is HAProxy by hand."""

    def __init__(self, stage: Stage) -> None:
        ByHand(stage)
        self._stage = stage
        self._turn = 0
        self._attach = ("origin", "attach", "--cgroup", str(stage.at_origin), "--trust", *_EDGES)
        begun = time.monotonic()
        self._run("nothing changed", *self._attach)
        self._usual = time.monotonic() - begun

    def attached_again(self) -> None:
        """By the same settings."""
        self._run("nothing changed", *self._attach)

    def attached_otherwise(self) -> None:
        """By other settings."""
        self._run("replaced", *self._other())

    def upgraded(self) -> None:
        """By another version and its programs, then by this one and so on."""
        self._turn += 1
        self._run("replaced", *self._attach, another=self._turn % 2 == 1)

    def attaching_killed(self) -> None:
        """While it exchanges programs; then once more, to the end."""
        words = self._other()
        interrupted(self._stage, self._stage.ours(*words), self._usual)
        self._run("origin:", *words)

    def detached(self) -> Span:
        """Then attached again."""
        begun = time.monotonic()
        self._run("detached", "origin", "detach")
        self._run("attached to", *self._attach)
        return begun, time.monotonic()

    def _other(self) -> tuple[str, ...]:
        self._turn += 1
        return (*self._attach, *[_MORE] * (self._turn % 2))

    def _run(self, outcome: str, *words: str, another: bool = False) -> None:
        said = self._stage.lab.origin.run(*self._stage.ours(*words, another=another))
        if outcome not in said:
            raise ToaError(f"{' '.join(words)} says {said.strip()}, and not {outcome!r}")


class ByModule:
    """toa.ko, by what the commands call: in a virtual machine it is not where they look."""

    def __init__(self, stage: Stage) -> None:
        ByHand(stage)
        self._turn = 0

    def attached_again(self) -> None:
        """By the same settings."""
        self._attach(changes=False)

    def attached_otherwise(self) -> None:
        """By other settings."""
        self._turn += 1
        self._attach(*[_MORE] * (self._turn % 2))

    def detached(self) -> Span:
        """Unloaded and loaded again."""
        begun = time.monotonic()
        kmod.detach()
        self._attach()
        return begun, time.monotonic()

    def _attach(self, *more: str, changes: bool = True) -> None:
        settings = OriginSettings(Trust.parse([*_EDGES, *more]))
        if kmod.attach(settings, virtual_machine.module()) != changes:
            raise ToaError(f"toa.ko {'has' if changes else 'had not'} these settings already")
