# SPDX-License-Identifier: Apache-2.0
"""An experiment: measured here or in a virtual machine, printed, judged, kept and published.

What all commands of docs/proof.md have in common. A row of the result is a dictionary whose
``what`` is its title.
"""

import argparse
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import figures
import msgspec
import report
import virtual_machine
from figures import Drawing, Row

from cloud_toa.errors import ToaError
from cloud_toa.isolation import isolate


@dataclass(frozen=True)
class Experiment:
    """A question, how it is answered, and how the answer is shown and judged.

    Args:
        command: what a person calls, such as ``bench/soak``.
        name: of its files in docs/figures.
        title: the question, or what the table is of.
        words: what its page says above the table.
        measure: makes the rows, one after the other; the process is isolated before.
        columns: what to show of a row, by the column's title.
        draw: the plot.
        faults: what must not be, of all that was measured.
        arguments: adds the experiment's own options.
        versions: of programs, as `report.facts` takes them.
        counted: whether a virtual machine's clock counts instructions.
    """

    command: str
    name: str
    title: str
    words: str
    measure: Callable[[argparse.Namespace], Iterable[Row]]
    columns: Mapping[str, Callable[[Row], str]]
    draw: Drawing | Sequence[Drawing]
    faults: Callable[[Sequence[Row]], list[str]]
    arguments: Callable[[argparse.ArgumentParser], object]
    versions: Mapping[str, Sequence[str]] = field(default_factory=lambda: report.USUAL)
    counted: bool = False

    def run(self, asked: argparse.Namespace) -> int:
        """Do what was asked; answer the exit code: 1 if something is that must not be."""
        if asked.vm and not virtual_machine.is_inside():
            said = virtual_machine.run(asked.vm, counted=self.counted)
            machine, rows = msgspec.json.decode(said.splitlines()[-1])
        else:
            isolate()
            machine, rows = report.facts(self.versions), []
            for row in self.measure(asked):
                rows.append(row)
                print(self._line(row), file=sys.stderr, flush=True)
        if virtual_machine.is_inside():
            print(msgspec.json.encode([machine, rows]).decode())
            return 0
        report.keep(asked.json, {"machine": machine, "rows": rows})
        print(report.describe(machine), self._table(rows).text(markdown=False), sep="\n\n")
        if asked.publish:
            page = figures.publish(
                self.name, self.title, self.words, f"{self.command} --publish",
                {row["what"]: row for row in rows}, machine, self.columns, self.draw,
            )  # fmt: skip
            print(f"\n{page}")
        faults = self.faults(rows)
        for fault in faults:
            print(f"{self.command}: {fault}", file=sys.stderr)
        return int(bool(faults))

    def _line(self, row: Row) -> str:
        cells = (f"{name} {column(row)}" for name, column in self.columns.items())
        return f"{row['what']}: {', '.join(cells)}"

    def _table(self, rows: Sequence[Row]) -> report.Table:
        shown = report.Table("", *self.columns)
        for row in rows:
            shown.add(row["what"], *(column(row) for column in self.columns.values()))
        return shown


def add_options(
    parser: argparse.ArgumentParser, arguments: Callable[[argparse.ArgumentParser], object]
) -> None:
    """Add an experiment's own options, and those that every one has."""
    arguments(parser)
    virtual_machine.add_option(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every row there")
    parser.add_argument("--publish", action="store_true", help="into docs/figures")


def from_command_line(experiment: Experiment, description: str | None) -> int:
    """Do what the command line asks for; ``description`` is the module's docstring."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    add_options(parser, experiment.arguments)
    return experiment.run(parser.parse_args())


def exit_with(command: str, run: Callable[[], int]) -> None:
    """End the process by what ``run`` answers, or by what was wrong, in a line."""
    try:
        sys.exit(run())
    except ToaError as error:
        sys.exit(f"{command}: {error}")


def some_of(known: Collection[str]) -> Callable[[str], list[str]]:
    """What reads names between commas, for argparse; others are refused."""

    def names(text: str) -> list[str]:
        if unknown := [name for name in text.split(",") if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(known)}")
        return text.split(",")

    return names
