# SPDX-License-Identifier: Apache-2.0
"""toml_lines.py: every key and value has its line, however it is written."""

import json
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_toa.node.toml_lines import _places, line_of

Place = tuple[str | int, ...]

EDGE = """\
# [[service]] in a comment
resolve_interval = 10

[[service]]
name = "one"   # name = "two"
listen = [
  "0.0.0.0:80",  # = and ] and ,
  "[::]:80",
]
check.enabled = false
origin = [{ address = "a", port = 80 }, {address = "b"},
  { tls = { verify = false } }]

  [[service]]
  "name" = 'two'
  [[service.origin]]
  address = "x"
  [service.origin.tls]
  ca = "/x"
  [[ service . "origin" ]]
  address = \"\"\"
[[service]]
name = \\\"\"\"
\"\"\"
  port = 81
[service.check]
rise = 1
[toa]
enabled = true
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((), 1),
        (("resolve_interval",), 2),
        (("service",), 4),
        (("service", 0), 4),
        (("service", 0, "name"), 5),
        (("service", 0, "listen"), 6),
        (("service", 0, "listen", 0), 7),
        (("service", 0, "listen", 1), 8),
        (("service", 0, "check"), 10),
        (("service", 0, "check", "enabled"), 10),
        (("service", 0, "origin", 0, "port"), 11),
        (("service", 0, "origin", 1), 11),
        (("service", 0, "origin", 2), 12),
        (("service", 0, "origin", 2, "tls", "verify"), 12),
        (("service", 1), 14),
        (("service", 1, "name"), 15),
        (("service", 1, "origin"), 16),
        (("service", 1, "origin", 0, "address"), 17),
        (("service", 1, "origin", 0, "tls"), 18),
        (("service", 1, "origin", 0, "tls", "ca"), 19),
        (("service", 1, "origin", 1), 20),
        (("service", 1, "origin", 1, "address"), 21),
        (("service", 1, "origin", 1, "port"), 25),
        (("service", 1, "check", "rise"), 27),
        (("toa",), 28),
        (("toa", "enabled"), 29),
    ],
    ids=str,
)
def test_lines(path: Place, line: int) -> None:
    assert line_of(EDGE, path) == line
    assert line_of(EDGE.replace("\n", "\r\n"), path) == line


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("nothing",), 1),
        (("toa", "nothing"), 28),
        (("service", 1, "origin", 0, "port"), 16),
        (("service", 7), 4),
        (("service", 0, "listen", 5), 6),
    ],
    ids=str,
)
def test_what_is_not_there_has_the_line_of_what_it_would_lie_in(path: Place, line: int) -> None:
    assert line_of(EDGE, path) == line


@pytest.mark.parametrize("mark", ["\x85", "\u2028", "\u2029"])
def test_only_line_feeds_end_lines(mark: str) -> None:
    text = f"a = 'x'  # {mark}\nb = 'x{mark}y'\nc = 1\n"
    assert tomllib.loads(text)["b"] == f"x{mark}y"
    assert line_of(text, ("c",)) == 3


@pytest.mark.parametrize(
    "value",
    [
        '""', "''", '""""""', "''''''", '"""a"""""', "'''a'''''", '"\\""', '"\\\\"', "'\\'",
        '"""\\""""""', "1.5", "1979-05-27 07:32:00", "+inf", "[]", "{}", "[[], [[]], {}]",
        '[ # ]\n "]", \n]', '"#"', "[1, 2,]", '{a.b = 1, "c.d" = [2]}', '"""\n\n# = [\n"""',
    ],
)  # fmt: skip
def test_a_value_ends_where_it_ends(value: str) -> None:
    text = f"first = {value}\nsecond = [{value}]\n"
    assert tomllib.loads(text + "last = 1")["last"] == 1
    assert line_of(text + "last = 1\n", ("last",)) == text.count("\n") + 1
    assert set(_places(text)) == set(paths(tomllib.loads(text)))


def paths(data: Any, place: Place = ()) -> Iterator[Place]:
    """All that lies in it, as a reader of TOML says."""
    entries = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in entries:
        yield (*place, key)
        if isinstance(value, dict | list):
            yield from paths(value, (*place, key))


texts = st.text(st.characters(codec="utf-8"), max_size=8)
names = st.one_of(st.from_regex(r"[a-z0-9_-]{1,3}", fullmatch=True), texts)
values = st.recursive(
    st.one_of(st.integers(-9, 9), st.booleans(), st.floats(allow_nan=False), texts, st.dates()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=6,
)
tables = st.dictionaries(names, values, max_size=4)
documents = st.dictionaries(
    names, st.one_of(values, st.lists(st.dictionaries(names, values), min_size=1, max_size=3))
)


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


class Writer:
    """Writes data as TOML in one of many ways, and keeps in which line it put what."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw, self.text = draw, ""
        self.lines: dict[Place, int] = {}

    def put(self, text: str) -> None:
        self.text += text

    def mark(self, place: Place) -> None:
        self.lines.setdefault(place, self.text.count("\n") + 1)

    def value(self, value: Any, place: Place) -> None:
        if isinstance(value, dict):
            self.put("{")
            for at, (key, inner) in enumerate(value.items()):
                self.put(", " if at else " ")
                self.entry(key, inner, place)
            self.put("}")
        elif isinstance(value, list):
            self.put("[")
            for at, inner in enumerate(value):
                self.put(self.draw(st.sampled_from(["", " ", "\n", " # [ ' \n  "])))
                self.mark((*place, at))
                self.value(inner, (*place, at))
                self.put(",")
            self.put(self.draw(st.sampled_from(["", "\n"])) + "]")
        elif isinstance(value, str):
            long = self.draw(st.booleans()) and "\r" not in value
            self.put(f'"""\n{quoted(value)[1:-1]}"""' if long else quoted(value))
        else:
            self.put(json.dumps(value) if isinstance(value, bool) else str(value))

    def entry(self, key: str, value: Any, place: Place) -> None:
        self.mark((*place, key))
        self.put(f"{quoted(key)} = ")
        self.value(value, (*place, key))

    def document(self, data: dict[str, Any]) -> None:
        late = {
            key: value
            for key, value in data.items()
            if isinstance(value, dict)
            or (isinstance(value, list) and value and all(isinstance(one, dict) for one in value))
        }
        for key, value in data.items():
            if key not in late:
                self.entry(key, value, ())
                self.put("\n")
        for key, value in late.items():
            for at, table in enumerate(value if isinstance(value, list) else [value]):
                self.put(self.draw(st.sampled_from(["", "\n", "# x = 1\n", "  "])))
                place: Place = (key, at) if isinstance(value, list) else (key,)
                self.mark((key,))
                self.mark(place)
                head = f"[{quoted(key)}]"
                self.put(f"[{head}]\n" if isinstance(value, list) else f"{head}\n")
                for name, inner in table.items():
                    self.entry(name, inner, place)
                    self.put("\n")


@settings(max_examples=40, deadline=None)
@given(documents, st.data())
def test_all_that_is_there_is_found_in_its_line(data: dict[str, Any], draw: st.DataObject) -> None:
    writer = Writer(draw.draw)  # type: ignore[arg-type]
    writer.document(data)
    read = tomllib.loads(writer.text)
    assert read == data
    assert set(_places(writer.text)) == set(paths(read))
    assert _places(writer.text) == writer.lines
