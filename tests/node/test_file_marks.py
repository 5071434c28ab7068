# SPDX-License-Identifier: Apache-2.0
"""file_marks.py: whatever is done to a file shows, and nothing else does."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_toa.node.file_marks import marks


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "edge.toml"
    file.write_text("a = 1")
    os.utime(file, ns=(0, 1_000_000_000))
    return file


def replaced(file: Path) -> None:
    """As editors do it; of the same size and time."""
    new = file.with_name("new")
    new.write_text("a = 2")
    os.utime(new, ns=(0, 1_000_000_000))
    new.replace(file)


def relinked(file: Path) -> None:
    """As Kubernetes does it."""
    other = file.with_name("other")
    other.write_text("a = 1")
    os.utime(other, ns=(0, 1_000_000_000))
    file.unlink()
    file.symlink_to(other)


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.write_text("a = 2"),
        lambda file: os.utime(file, ns=(0, 1_000_000_001)),
        lambda file: file.unlink(),
        replaced,
        relinked,
    ],
    ids=["written", "touched", "removed", "replaced", "linked"],
)
def test_changes_show(file: Path, change: Callable[[Path], object]) -> None:
    before = marks([str(file)])
    change(file)
    assert marks([str(file)]) != before


def test_what_changes_nothing(file: Path) -> None:
    before = marks([str(file), f"{file}.none"])
    file.read_text()
    file.chmod(0o600)
    (file.parent / "beside").write_text("")
    assert marks([str(file), f"{file}.none"]) == before


def test_a_file_that_comes(file: Path) -> None:
    path = f"{file}.none"
    assert marks([path]) == {path: None}
    Path(path).write_text("")
    assert marks([path])[path] is not None


@pytest.mark.parametrize("path", ["/nonexistent/a", "/etc/passwd/a", "/" + "a" * 300])
def test_no_file(path: str) -> None:
    assert marks([path]) == {path: None}
