# SPDX-License-Identifier: Apache-2.0
"""All processes, also where these tests run in a sandbox that hides some of another's."""

from pathlib import Path

import pytest

from cloud_toa import namespaces


@pytest.fixture
def all_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what even root with CAP_SYS_PTRACE may not see: this machine's first process."""
    shown = namespaces._processes

    def without() -> list[Path]:
        return [path for path in shown() if path.name != "1"]

    try:
        Path("/proc/1/ns/net").readlink()
    except PermissionError:
        monkeypatch.setattr(namespaces, "_processes", without)
