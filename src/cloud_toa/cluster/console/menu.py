# SPDX-License-Identifier: Apache-2.0
"""Where one can go. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from cloud_toa.cluster.api.access import Who


@dataclass(frozen=True)
class Entry:
    """A page; ``nav.<name>`` is its text, and ``g`` and then ``key`` go there."""

    name: str
    path: str
    key: str = ""
    here: bool = False


@dataclass(frozen=True)
class Group:
    """Pages that belong together; ``nav.<name>`` is what they are called."""

    name: str
    entries: tuple[Entry, ...]


_ALL = (
    Group(
        "",
        (
            Entry("dashboard", "/", "d"),
            Entry("nodes", "/nodes", "n"),
            Entry("services", "/services", "s"),
        ),
    ),
    Group(
        "settings",
        (
            Entry("toa", "/toa", "t"),
            Entry("general", "/general"),
            Entry("text", "/text"),
            Entry("history", "/history", "h"),
        ),
    ),
    Group("watch", (Entry("logs", "/logs", "l"), Entry("quick_test", "/quick-test", "q"))),
)
_AUDIT = Entry("audit", "/audit")
_PEOPLE = (Entry("users", "/users"), Entry("tokens", "/tokens"))


def of(who: Who | None, path: str) -> list[Group]:
    """The menu for somebody who is at a path."""
    role = who.role if who else None
    entries = [
        *([_AUDIT] if role in ("operator", "admin") else []),
        *(_PEOPLE if role == "admin" else []),
    ]
    groups = [*_ALL, *([Group("admin", tuple(entries))] if entries else [])]
    return [Group(group.name, tuple(_marked(group.entries, path))) for group in groups]


def _marked(entries: tuple[Entry, ...], path: str) -> Iterator[Entry]:
    for each in entries:
        within = each.path != "/" and path.startswith(f"{each.path}/")
        here = path == each.path or within or (each.name, path) == ("services", "/new-service")
        yield Entry(each.name, each.path, each.key, here)
