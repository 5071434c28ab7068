# SPDX-License-Identifier: Apache-2.0
"""The targets, and libFuzzer: alone for C, with atheris for Python."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
FOUND = HERE / "found"
"""Inputs that broke a target."""
_PARSER = HERE / "parser.c"
_INCLUDE = f"-I{HERE.parent / 'src/cloud_toa/bpf'}"
_SANITIZERS = "-fsanitize=fuzzer,address,undefined"
_PULSE = re.compile(r"#\d+\s+\w+\s+cov: (?P<branches>\d+) .*corp: (?P<corpus>\d+)/")
_EXECUTED = re.compile(r"stat::number_of_executed_units: (?P<inputs>\d+)")


@dataclass(frozen=True)
class Target:
    """What is fuzzed."""

    name: str
    about: str
    longest: int
    """Bytes of an input."""
    words: tuple[str, ...] = ()
    """That lead somewhere, as libFuzzer's dictionaries have them."""

    @property
    def corpus(self) -> Path:
        """Inputs that each go another way."""
        return HERE / "corpus" / self.name


@dataclass
class Outcome:
    """What came of a run."""

    target: Target
    seconds: float = 0.0
    inputs: int = 0
    """That were tried."""
    branches: int = 0
    """That were taken."""
    corpus: int = 0
    found: str = ""
    """What libFuzzer said of an input that broke it."""


_OPTION = ('"\\xfe\\x08"', '"\\xfe\\x14"', '"\\x1c\\x07\\x01"', '"\\x1c\\x13"', '"\\xfd\\x14"')
_SETTINGS = (
    *("[[service]]", "[[service.origin]]", "[toa]", "[service.check]", "[access_log]", "name"),
    *("listen", "address", "port", "enabled", "option_type_v4", "where", "datapath", "origin"),
    *("0.0.0.0:80", "[::]:443", "192.0.2.7", "2001:db8::/32", "= true", "= 254", "any"),
)
TARGETS = {
    target.name: target
    for target in (
        Target("parser", "options, as eBPF receiver and module read them; sanitizers", 48, _OPTION),
        Target("options", "options, by the Python decoder and by that parser", 48, _OPTION),
        Target("packets", "packets of the queue, of captures, and saved SYNs", 200, _OPTION),
        Target(
            "control", "the control socket, in pieces", 600,
            tuple(f'"{word}"' for word in ("hello:2\\x0a", "add:", "del:", "quit:0\\x0a",
                                           "192.0.2.7:80\\x0a", "[2001:db8::7]:80\\x0a")),
        ),
        Target(
            "settings", "an edge's file, forms that change it, addresses, X-Forwarded-For", 2000,
            tuple(f'"{word}"' for word in _SETTINGS),
        ),
    )
}  # fmt: skip


def build(place: Path) -> None:
    """Make a program of each target, of its name, in this folder.

    Raises:
        subprocess.CalledProcessError: it can't be.
    """
    common = ["clang", "-g", "-O1", "-Wall", "-Werror", _INCLUDE, str(_PARSER)]
    program = [_SANITIZERS, "-fno-sanitize-recover=all", "-o", str(place / _PARSER.stem)]
    subprocess.run([*common, *program], check=True)
    subprocess.run([*common, "-shared", "-fPIC", "-o", str(place / "libparser.so")], check=True)
    # libFuzzer runs its own program again, by the name that it was run by.
    for name in TARGETS.keys() - {_PARSER.stem}:
        script = place / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m fuzz.target {name} "$0" "$@"\n')
        script.chmod(0o755)


def fuzz(target: Target, place: Path, seconds: int, *, keep: bool = False) -> Outcome:
    """Run it for so long, from its corpus on; with ``keep``, that has what is new afterwards."""
    FOUND.mkdir(exist_ok=True)
    outcome = Outcome(target)
    with TemporaryDirectory() as folder:
        new, words = Path(folder, "new"), Path(folder, "words")
        new.mkdir()
        words.write_text("".join(f"{word}\n" for word in target.words))
        flags = [f"-max_total_time={seconds}", f"-max_len={target.longest}", f"-dict={words}"]
        flags += ["-print_final_stats=1", f"-artifact_prefix={FOUND}/{target.name}-"]
        with _start(target, place, [*flags, str(new), str(target.corpus)]) as process:
            _follow(process, outcome)
        if keep and not outcome.found:
            merge = ["-merge=1", f"-max_len={target.longest}", str(target.corpus), str(new)]
            with _start(target, place, merge) as process:
                process.communicate()
    return outcome


def _start(target: Target, place: Path, flags: Sequence[str]) -> "subprocess.Popen[str]":
    target.corpus.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [str(place / target.name), *flags],
        cwd=HERE.parent,
        env={**os.environ, "TOA_PARSER": str(place / "libparser.so")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def _follow(process: "subprocess.Popen[str]", outcome: Outcome) -> None:
    said: list[str] = []
    begin = time.monotonic()
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if pulse := _PULSE.match(line):
            outcome.branches, outcome.corpus = int(pulse["branches"]), int(pulse["corpus"])
        elif executed := _EXECUTED.match(line):
            outcome.inputs = int(executed["inputs"])
    outcome.seconds = time.monotonic() - begin
    if process.wait():
        outcome.found = "".join(said[-60:])


@contextmanager
def built() -> Iterator[Path]:
    """A folder with what `build` has built."""
    with TemporaryDirectory() as folder:
        build(Path(folder))
        yield Path(folder)
