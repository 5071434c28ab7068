# SPDX-License-Identifier: Apache-2.0
"""``python -m fuzz.target NAME PROGRAM FLAGS...``: a target in Python, with libFuzzer's flags.

``PROGRAM`` is what runs this, and libFuzzer runs it again.
"""

import importlib
import sys

import atheris


def main() -> None:
    """Until libFuzzer has enough, or something is found."""
    _, name, program, *flags = sys.argv
    with atheris.instrument_imports(include=["cloud_toa", "tomlkit", "tomllib"]):
        module = importlib.import_module(f"fuzz.{name}")
    atheris.Setup([program, *flags], module.one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
