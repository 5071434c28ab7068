# SPDX-License-Identifier: Apache-2.0
"""Every run has mounts, a bpffs and networks of its own: the host is neither seen nor touched."""

import os
from contextlib import suppress

import pytest

from cloud_toa import libc
from cloud_toa.isolation import Namespace, isolate
from cloud_toa.node import state

_MNT_DETACH = 2


def pytest_configure(config: pytest.Config) -> None:
    if os.geteuid() != 0:
        raise pytest.UsageError("the tests attach eBPF programs and build networks: run as root")
    isolate()
    # Another run's namespaces may have had the numbers of ours.
    state.RUN.mkdir(exist_ok=True)
    libc.call("mount", b"tmpfs", os.fsencode(state.RUN), b"tmpfs", 0, b"mode=755")
    Namespace("tests").enter()


def pytest_unconfigure() -> None:
    with suppress(OSError):  # it is somebody's, or was never mounted
        libc.call("umount2", os.fsencode(state.RUN), _MNT_DETACH)
        state.RUN.rmdir()
