# SPDX-License-Identifier: Apache-2.0
"""What an operator copies from a recipe: the very text is run, with the lab's addresses in it.

A block is known by its first line, a comment that says in which file it belongs.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.cli.command import call

_FOLDER = Path(__file__).parents[2] / "docs/recipes"
# The web server's port is that of the lab's origin, where IPv6 clients show on IPv4 too.
_IN_THE_LAB = {
    "192.0.2.20:80": "10.9.0.2:8001",
    "[::ffff:192.0.2.20]:80": "[::ffff:10.9.0.2]:8001",
    "[2001:db8:9::20]:80": "[fd09::2]:8001",
    "192.0.2.10": "10.9.0.1",
    "192.0.2.20": "10.9.0.2",
    "2001:db8:9::10": "fd09::1",
    "2001:db8:9::20": "fd09::2",
}


@dataclass(frozen=True)
class Page:
    """A recipe, with the lab's addresses instead of those for documentation."""

    text: str

    def block(self, place: str) -> str:
        """The code block that begins with ``# place``."""
        found = [code for code in self._code() if code.startswith(f"# {place}\n")]
        assert len(found) == 1, f"{len(found)} blocks begin with '# {place}'"
        return found[0]

    def json(self) -> str:
        """The only code block in JSON, which has no comments to know it by."""
        (found,) = [code for code in self._code() if code.startswith("{")]
        return found

    def command(self, start: str) -> str:
        """The line of a code block that begins so."""
        lines = [line.strip() for code in self._code() for line in code.splitlines()]
        (found,) = dict.fromkeys(line for line in lines if line.startswith(start))
        return found

    def attach(self, balancer: str, place: Path) -> None:
        """Run the page's commands on origin and edge; ``place`` is the cgroup of the unit."""
        for start in ("cloud-toa origin attach", "cloud-toa edge attach"):
            words = self.command(start).replace(balancer, str(place))
            assert str(place) in words or start == "cloud-toa origin attach"
            said = call(*shlex.split(words)[1:])
            assert said.code == 0, said.err

    def _code(self) -> list[str]:
        return re.findall(r"^```\w*\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)


def page(name: str) -> Page:
    text = (_FOLDER / f"{name}.md").read_text()
    for there, here in _IN_THE_LAB.items():
        text = text.replace(there, here)
    return Page(text)
