# SPDX-License-Identifier: Apache-2.0
"""Every run has mounts, a bpffs and networks of its own: the host is neither seen nor touched."""

import os

import pytest

from cloud_toa.isolation import Namespace, isolate


def pytest_configure(config: pytest.Config) -> None:
    if os.geteuid() != 0:
        raise pytest.UsageError("the tests attach eBPF programs and build networks: run as root")
    isolate()
    Namespace("tests").enter()
