# SPDX-License-Identifier: Apache-2.0
"""The corpora, and a few seconds of fuzzing: `fuzz/run` does it for as long as one likes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzz import targets
from fuzz.targets import TARGETS, built, fuzz

pytestmark = pytest.mark.slow

SECONDS = 3


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with built() as place:
        yield place


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found(place: Path, name: str) -> None:
    if name != "parser":
        pytest.importorskip("atheris", reason="atheris is not to be had for this Python or machine")
    outcome = fuzz(TARGETS[name], place, SECONDS)
    assert not outcome.found, outcome.found
    assert outcome.inputs > outcome.corpus > 10
    assert outcome.branches > 10


def test_what_breaks_a_target_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A parser that reads a byte too far is found out."""
    source = targets._PARSER.read_text()
    wrong = source.replace("malloc(length)", "malloc(length ? length - 1 : 0)")
    assert wrong != source
    (tmp_path / "parser.c").write_text(wrong)
    monkeypatch.setattr(targets, "_PARSER", tmp_path / "parser.c")
    monkeypatch.setattr(targets, "FOUND", tmp_path / "found")
    with built() as place:
        outcome = fuzz(TARGETS["parser"], place, 20)
    assert "heap-buffer-overflow" in outcome.found
    assert list((tmp_path / "found").glob("parser-crash-*"))
