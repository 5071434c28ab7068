# SPDX-License-Identifier: Apache-2.0
"""What doctor says of one prerequisite."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a prerequisite stands. Only ``MISSING`` makes doctor fail."""

    OK = "ok"
    MISSING = "missing"
    NOT_NEEDED = "not needed"


@dataclass(frozen=True)
class Remedy:
    """The commands, for root's shell, that mend something."""

    debian: str
    rhel: str


@dataclass(frozen=True)
class Finding:
    """One prerequisite; the fields are the keys of ``doctor --json``."""

    name: str
    state: State
    detail: str
    remedy_debian: str | None = None
    remedy_rhel: str | None = None


def there(name: str, detail: str) -> Finding:
    """It is as it should be."""
    return Finding(name, State.OK, detail)


def absent(name: str, detail: str, remedy: Remedy, *, needed: bool = True) -> Finding:
    """It is not there; a remedy belongs only to what is needed."""
    if needed:
        return Finding(name, State.MISSING, detail, remedy.debian, remedy.rhel)
    return Finding(name, State.NOT_NEEDED, detail)


def advice(name: str, detail: str, remedy: Remedy) -> Finding:
    """All works, and this command would make it better."""
    return Finding(name, State.NOT_NEEDED, detail, remedy.debian, remedy.rhel)
