# SPDX-License-Identifier: Apache-2.0
"""What a datapath consists of: compiled programs, and the hooks where they belong."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path


@dataclass(frozen=True)
class Hook:
    """A program and the place in the kernel where it belongs.

    ``attach_type`` as in ``enum bpf_attach_type`` of linux/bpf.h; ``since`` is the
    first Linux that has it.
    """

    program: str
    name: str
    attach_type: int
    since: str


@dataclass(frozen=True)
class Datapath:
    """What one datapath consists of.

    ``kept`` are the maps that outlive an exchange of programs, ``filled`` those
    whose keys are a part of the settings.
    """

    name: str
    hooks: tuple[Hook, ...]
    kept: tuple[str, ...]
    filled: tuple[str, ...] = ()

    @property
    def object(self) -> Path:
        """The compiled programs, shipped beside this module."""
        return Path(str(resources.files("cloud_toa.bpf") / f"{self.name}.bpf.o"))
