# SPDX-License-Identifier: Apache-2.0
"""Run targets for a while each, from their corpus on; what breaks one is kept and shown.

Ends with code 1 if something was found. A target's corpus is a folder of small files, each of
which goes another way through the code; ``--keep`` adds those that are new.
"""

import argparse
import sys

import report

from fuzz.targets import FOUND, TARGETS, built, fuzz


def main() -> int:
    """Run the targets that were asked for."""
    about = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="fuzz/run", description=about)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default 60)")
    parser.add_argument("--keep", action="store_true", help="add what is new to the corpus")
    parser.add_argument("--markdown", action="store_true", help="print for docs/fuzzing.md")
    asked = parser.parse_args()
    if unknown := [name for name in asked.targets if name not in TARGETS]:
        parser.error(f"no target {', '.join(unknown)}: there are {', '.join(TARGETS)}")
    outcomes = []
    with built() as place:
        for name in asked.targets or TARGETS:
            outcomes.append(fuzz(TARGETS[name], place, asked.seconds, keep=asked.keep))
            if outcomes[-1].found:
                print(f"{name}: {outcomes[-1].found}")
                print(f"the input is in {FOUND}: fuzz/run {name} tries it first if it is put into")
                print(TARGETS[name].corpus)
    print(report.describe(report.host()), end="\n\n")
    table = report.Table(
        "target", "seconds", "inputs", "a second", "branches", "corpus", "found", "what it is"
    )
    for each in outcomes:
        table.add(
            each.target.name,
            f"{each.seconds:.0f}",
            f"{each.inputs:,}",
            f"{each.inputs / max(each.seconds, 1):,.0f}",
            f"{each.branches:,}",
            f"{each.corpus:,}",
            "**yes**" if each.found else "nothing",
            each.target.about,
        )
    print(table.text(asked.markdown))
    return any(outcome.found for outcome in outcomes)


if __name__ == "__main__":
    sys.exit(main())
