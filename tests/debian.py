# SPDX-License-Identifier: Apache-2.0
"""The Debian package that scripts/package has built, and a newer one."""

import subprocess
from pathlib import Path

DIST = Path(__file__).parents[1] / "dist"
NEWER = "9.0"
"""The version of the newer one."""


def built() -> Path:
    """The package; tests can't build it, as they have no network but their own."""
    found = list(DIST.glob("cloud-toa_*.deb"))
    assert len(found) == 1, f"{DIST} has {len(found)} Debian packages: scripts/package builds one"
    return found[0]


def newer(package: Path, place: Path) -> Path:
    """The same package with a higher version and another example of run.toml."""
    tree, made = place / "newer", place / "newer.deb"
    subprocess.run(["dpkg-deb", "-R", str(package), str(tree)], check=True)
    control = tree / "DEBIAN/control"
    before = f"\nVersion: {package.name.split('_')[1]}\n"
    text = control.read_text()
    assert before in text
    control.write_text(text.replace(before, f"\nVersion: {NEWER}\n"))
    with (tree / "etc/cloud-toa/run.toml").open("a") as file:
        file.write("\n# What the newer version says of it.\n")
    subprocess.run(["dpkg-deb", "-b", str(tree), str(made)], check=True, stdout=subprocess.DEVNULL)
    return made
