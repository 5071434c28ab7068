# SPDX-License-Identifier: Apache-2.0
"""What a command found, kept under docs/figures: every row as JSON, a page with the table, a plot.

A command that measures some of the rows replaces these and keeps the others, each with the
machine and the day it is from. Nothing there is written by hand.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from report import Table, describe

Row = dict[str, Any]
"""A row's figures by name; ``machine`` and ``time`` are where and when they are from."""

Drawing = Callable[[Axes, Sequence[str], Sequence[Row]], None]
"""Draws all rows, by title, into a plot."""

FOLDER = Path(__file__).parents[1] / "docs/figures"
_ACROSS = 3
"""Plots beside each other."""

# The same plot gives the same file; its text stays text.
mpl.rcParams.update({"svg.hashsalt": "cloud-toa", "svg.fonttype": "none"})


def publish(
    name: str,
    title: str,
    words: str,
    command: str,
    found: Mapping[str, Row],
    machine: Mapping[str, Any],
    columns: Mapping[str, Callable[[Row], str]],
    draw: Drawing | Sequence[Drawing],
) -> Path:
    """Write ``NAME.json``, ``NAME.md`` and ``NAME.svg``; answer the page.

    Args:
        name: of the files.
        title: of page and plot.
        words: what the page says above its table.
        command: what made it, for the page.
        found: the rows by title, which also names the first column.
        machine: as `report.facts` or `report.host` say.
        columns: what to show of a row, by the column's title.
        draw: the plot; several beside each other have the rows in common.
    """
    FOLDER.mkdir(exist_ok=True)
    kept = FOLDER / f"{name}.json"
    rows: dict[str, Row] = json.loads(kept.read_text()) if kept.exists() else {}
    about = {"machine": describe(dict(machine)), "time": machine["time"]}
    rows.update({key: {**row, **about} for key, row in found.items()})
    kept.write_text(json.dumps(rows, indent=1) + "\n")

    machines = list(dict.fromkeys(row["machine"] for row in rows.values()))
    shown = Table("", *columns, "day", *["machine"] * (len(machines) > 1))
    for key, row in rows.items():
        more = [str(1 + machines.index(row["machine"]))] if len(machines) > 1 else []
        shown.add(key, *(column(row) for column in columns.values()), row["time"][:10], *more)
    numbered = [f"{number}. {each}" for number, each in enumerate(machines, 1)]
    parts = [
        f"<!-- Made by {command}: not by hand. -->\n# {title}",
        words.strip(),
        f"![{title}]({name}.svg)",
        shown.text(markdown=True),
        "Measured on " + machines[0] + "." if len(machines) == 1 else "\n".join(numbered),
        f"Made by `{command}`; every figure is in [{name}.json]({name}.json).",
    ]
    page = FOLDER / f"{name}.md"
    page.write_text("\n\n".join(parts) + "\n")

    draws = [draw] if callable(draw) else draw
    across = min(len(draws), _ACROSS)
    down = math.ceil(len(draws) / across)
    figure = Figure(figsize=(9, (1.2 + 0.32 * len(rows)) * down), layout="constrained")
    for number, each in enumerate(draws):
        axes = figure.add_subplot(down, across, number + 1)
        each(axes, list(rows), list(rows.values()))
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelleft=number % across == 0)
    figure.suptitle(title, x=0, ha="left", fontsize="medium")
    figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
    return page


def bars(
    value: Callable[[Row], float], unit: str, *, label: Callable[[Row], str] | None = None
) -> Drawing:
    """One bar for each row, the first on top, with its value beside it."""

    def draw(axes: Axes, titles: Sequence[str], rows: Sequence[Row]) -> None:
        drawn = axes.barh(titles, [value(row) for row in rows], color="#2f6f9f", height=0.7)
        axes.bar_label(drawn, [(label or (lambda row: f"{value(row):g}"))(row) for row in rows],
                       padding=3, fontsize="small")  # fmt: skip
        axes.invert_yaxis()
        axes.set_xlabel(unit)
        axes.margins(x=0.15)

    return draw


def grid(columns: Mapping[str, Callable[[Row], str]], colours: Mapping[str, str]) -> Drawing:
    """A field for each cell of the table, coloured by its words."""

    def draw(axes: Axes, titles: Sequence[str], rows: Sequence[Row]) -> None:
        for down, each in enumerate(rows):
            for across, column in enumerate(columns.values()):
                words = column(each)
                axes.barh(down, 1, left=across, height=1, color=colours.get(words, "#d9d9d9"),
                          edgecolor="white")  # fmt: skip
                short = words.replace("load balancer", "LB").replace("; ", "\n")
                axes.text(across + 0.5, down, short, ha="center", va="center", fontsize="x-small")
        axes.set_yticks(range(len(rows)), titles)
        axes.set_xticks([across + 0.5 for across in range(len(columns))], list(columns))
        axes.tick_params(length=0)
        axes.margins(0)
        axes.invert_yaxis()

    return draw
