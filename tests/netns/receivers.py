# SPDX-License-Identifier: Apache-2.0
"""The ways to receive: eBPF everywhere, the module where there is one for this kernel."""

import os
from abc import ABC, abstractmethod
from pathlib import Path

import pytest

from cloud_toa import kmod
from cloud_toa.bpf import origin
from cloud_toa.bpf.attachment import Attachments
from cloud_toa.config import OriginSettings
from cloud_toa.demo.lab import EDGE_TO_ORIGIN
from cloud_toa.option import Kinds
from cloud_toa.trust import Trust

MODULE = Path(__file__).parents[2] / f".cache/kernels/{os.uname().release}-toa/toa.ko"
"""Built by tests.vm.module for the kernels of the virtual machines; the host's takes none."""


class Receiver(ABC):
    """What lets the origin's servers see clients."""

    def receive(
        self, servers: Path, kinds: Kinds | None = None, trust: str = "", save_syn: bool = False
    ) -> None:
        """Attach it, or change its settings; believes the edge where ``trust`` names nobody."""
        believed = Trust.parse([trust] if trust else EDGE_TO_ORIGIN.values())
        self.attach(servers, OriginSettings(believed, kinds or Kinds(), save_syn))

    @abstractmethod
    def attach(self, servers: Path, settings: OriginSettings) -> None: ...

    @abstractmethod
    def counters(self) -> dict[str, int]:
        """By the eBPF receiver's names, all of them."""

    @abstractmethod
    def detach(self) -> None: ...

    def counted(self) -> dict[str, int]:
        """The counters that are not 0."""
        return {name: count for name, count in self.counters().items() if count}


class Bpf(Receiver):
    """eBPF, on the servers' cgroup."""

    def attach(self, servers: Path, settings: OriginSettings) -> None:
        origin.attach([servers], settings)

    def counters(self) -> dict[str, int]:
        return Attachments(origin.DATAPATH).counters(origin.COUNTERS)

    def detach(self) -> None:
        origin.detach()


class Module(Receiver):
    """toa.ko, on the whole machine."""

    def attach(self, servers: Path, settings: OriginSettings) -> None:
        kmod.attach(settings, MODULE)

    def counters(self) -> dict[str, int]:
        status = kmod.status()
        assert status is not None
        return {name: status.counters.get(name, 0) for name in origin.COUNTERS}

    def detach(self) -> None:
        kmod.detach()


RECEIVERS: dict[str, type[Receiver]] = {"bpf": Bpf}
if MODULE.exists():
    RECEIVERS["kmod"] = Module

by_both = pytest.mark.parametrize("receiving", RECEIVERS, indirect=True)
"""For a test whose ``receiving``, ``receiver`` or ``listener`` is to be each of them in turn."""
