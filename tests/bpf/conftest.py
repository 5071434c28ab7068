# SPDX-License-Identifier: Apache-2.0
"""Cgroups for load balancers and servers, and the kernel's own word on what runs there."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloud_toa.bpf import cgroup, edge, origin

MakeCgroup = Callable[[str], Path]


@pytest.fixture
def make_cgroup() -> Iterator[MakeCgroup]:
    """Makes cgroups (``parent/child`` for nested ones); all detached and removed afterwards."""
    made: list[Path] = []

    def make(name: str) -> Path:
        # Named like a lab's, so that the next lab removes what a killed run leaves.
        path = cgroup.root() / f"cloud-toa-lab-{os.getpid()}-{name}"
        path.mkdir()
        made.append(path)
        return path

    yield make
    edge.detach()
    origin.detach()
    for path in reversed(made):
        if path.exists():
            path.rmdir()


@pytest.fixture
def balancers(make_cgroup: MakeCgroup) -> Path:
    return make_cgroup("balancers")


@pytest.fixture
def servers(make_cgroup: MakeCgroup) -> Path:
    return make_cgroup("servers")
