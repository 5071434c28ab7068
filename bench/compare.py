# SPDX-License-Identifier: Apache-2.0
"""All ways to name the client beside each other: connections, their time and cost, and bulk.

In a round every way is measured in turn, seconds apart: connections at a fixed rate
(steady.py), a download (bulk.py), as many connections as the machine can (connections.py). So
only the ratios within a round count.

In a virtual machine, with toa.ko, and with what eBPF costs taken apart. Its one processor's
clock counts instructions, one a nanosecond, so that little of the noise of a machine is left;
its figures are no time, and stand beside none of another machine.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import bulk
import connections
import figures
import report
import steady
from experiment import Experiment, add_options, exit_with
from matplotlib.axes import Axes
from modes import MODES, Mode
from rounds import Sample, Spread, alternate, ratios, values
from testbed import Testbed

_HERE = "plain,proxy-v2,transparent,go-mmproxy,toa,queue-1,queue-4"
_IN_MACHINE = "plain,proxy-v2,transparent,floor,unread,toa,kmod,edge-run"
_AT_A_TIME = 32
_TITLE = "Ways to name the client"


@dataclass(frozen=True)
class Quantity:
    """What is compared; ``unit`` is for the table, ``better`` for the plot."""

    unit: str
    better: str


QUANTITIES = {
    "rate": Quantity("connections/s", "more"),
    "cpu": Quantity("CPU µs/connection", "less"),
    "p50": Quantity("p50 ms", "less"),
    "p99": Quantity("p99 ms", "less"),
    "gbits": Quantity("Gbit/s", "more"),
}

_WORDS = """
Medians over {rounds} rounds of {seconds} s for each measurement; ×: the ratio to {base} in the
same round, its median and quartiles. A machine's speed drifts, so only the ratios say something.
*connections/s* and *CPU*: 32 at a time, as many as the machine can, with client, edge and
origin. *p50* and *p99*: connections that begin at a fixed rate ({rate} a second), from connect()
to the end of the answer. *Gbit/s*: one download. With PROXY v2, nginx is told to expect the
header; in all other modes it is not changed. *failed*: connections of all rounds; they count in
nothing else.
"""
_OF_MACHINE = """
In a virtual machine with one processor, emulated, whose clock counts instructions: a second is
10⁹ of them. An instruction is not always the same time, and nothing here can stand beside
figures of another machine. *Programs that do nothing* are at all hooks of TOA, called as often.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--rounds", type=int, default=9, help="counted rounds (default 9)")
    parser.add_argument("--seconds", type=int, default=2, help="length of one measurement (2)")
    parser.add_argument("--modes", type=report.modes, metavar="MODE,MODE", help=f"ratios are to "
                        f"the first (default {_HERE}; in a machine {_IN_MACHINE})")  # fmt: skip
    parser.add_argument("--rate", type=int, help="connections/s for p50 and p99 (default 1000; "
                        "in a machine 50)")  # fmt: skip


def experiment(asked: argparse.Namespace) -> Experiment:
    """What is asked: here, or with toa.ko in the machine, which has a page of its own."""
    words = _WORDS.format(base=asked.modes[0].title, **vars(asked))
    return Experiment(
        command=f"bench/compare --vm {asked.vm}" if asked.vm else "bench/compare",
        name="comparison-counted" if asked.vm else "comparison",
        title=_TITLE + (", counted in instructions" if asked.vm else ", compared"),
        words=f"{_OF_MACHINE}\n{words.strip()}" if asked.vm else words,
        measure=measure,
        columns=_columns(asked.modes),
        draw=[_panel(name, asked.modes[0]) for name in QUANTITIES],
        # Each mode was tried before and after, and a figure alone is no fault.
        faults=lambda _: [],
        arguments=arguments,
        counted=True,
    )


def measure(asked: argparse.Namespace) -> Iterator[figures.Row]:
    """A row for each mode."""
    with Testbed() as testbed:

        def once(address: tuple[str, int]) -> Sample:
            calm = steady.latency(testbed, address, asked.seconds, asked.rate)
            gbits = bulk.download(testbed, address, 1, asked.seconds)
            busy = connections.load(testbed, address, asked.seconds, _AT_A_TIME)
            return {
                "rate": busy["rate"],
                "cpu": busy["cpu"],
                "p50": calm["p50"],
                "p99": calm["p99"],
                "gbits": gbits,
                "failed": calm["failed"] + busy["failed"],
            }

        rounds = alternate(testbed, asked.modes, asked.rounds, once)
    for mode in asked.modes:
        row: figures.Row = {"what": mode.title, "rounds": [each[mode.name] for each in rounds]}
        for name in QUANTITIES:
            row[name] = {"median": Spread.extremes(values(rounds, mode.name, name)).median}
            for base in _bases(asked.modes):
                spread = Spread.quartiles(ratios(rounds, mode.name, base.name, name))
                row[name][base.title] = [spread.low, spread.median, spread.high]
        row["failed"] = sum(values(rounds, mode.name, "failed"))
        yield row


def _bases(modes: Sequence[Mode]) -> list[Mode]:
    """What ratios are to: the first mode, and TOA where toa.ko is beside it."""
    kmod, toa = MODES["kmod"], MODES["toa"]
    return [modes[0], toa] if kmod in modes and toa in modes[1:] else [modes[0]]


def _columns(modes: Sequence[Mode]) -> dict[str, Callable[[figures.Row], str]]:
    first, *other = _bases(modes)

    def column(name: str) -> Callable[[figures.Row], str]:
        def cell(row: figures.Row) -> str:
            median = (
                f"{row[name]['median']:,.3g}" if name != "rate" else f"{row[name]['median']:,.0f}"
            )
            return median if row["what"] == first.title else f"{median} ×{_ratio(row, name, first)}"

        return cell

    def to_other(name: str, base: Mode) -> Callable[[figures.Row], str]:
        return lambda row: _ratio(row, name, base)

    return {
        **{quantity.unit: column(name) for name, quantity in QUANTITIES.items()},
        **{
            f"{quantity.unit.split()[0]} to {base.title}": to_other(name, base)
            for base in other
            for name, quantity in QUANTITIES.items()
        },
        "failed": lambda row: f"{row['failed']:,.0f}",
    }


def _ratio(row: figures.Row, name: str, base: Mode) -> str:
    low, median, high = row[name][base.title]
    return f"{median:.3f} ({low:.3f}–{high:.3f})"


def _panel(name: str, base: Mode) -> figures.Drawing:
    """The ratio of one quantity with its quartiles, by mode."""
    quantity = QUANTITIES[name]

    def draw(axes: Axes, titles: Sequence[str], rows: Sequence[figures.Row]) -> None:
        spreads = [row[name][base.title] for row in rows]
        axes.axvline(1, color="#999999", linewidth=0.8)
        axes.errorbar(
            [median for _, median, _ in spreads],
            list(titles),
            xerr=[
                [median - low for low, median, _ in spreads],
                [high - median for _, median, high in spreads],
            ],
            fmt="o",
            markersize=5,
            color="#2f6f9f",
        )
        axes.invert_yaxis()
        axes.margins(x=0.1, y=0.1)
        axes.set_xlabel(f"{quantity.unit} to {base.title}\n({quantity.better} is better)",
                        fontsize="small")  # fmt: skip

    return draw


def main() -> int:
    """Be the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_options(parser, arguments)
    asked = parser.parse_args()
    asked.modes = asked.modes or report.modes(_IN_MACHINE if asked.vm else _HERE)
    asked.rate = asked.rate or (50 if asked.vm else 1000)
    return experiment(asked).run(asked)


if __name__ == "__main__":
    exit_with("bench/compare", main)
