# SPDX-License-Identifier: Apache-2.0
"""In which line of a TOML text a key or value stands, which the readers of TOML do not tell. Pure.

For texts that such a reader has taken: what is no TOML is not looked for here.

Source: TOML 1.0, https://toml.io/en/v1.0.0
"""

import re
import tomllib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

_Place = tuple[str | int, ...]
_Lines = dict[_Place, int]
_Tokens = deque[tuple[str, int]]

_TOKEN = re.compile(
    r"""
      \"{3} (?: [^\\] | \\. )*? \"{3,5}
    | '{3} .*? '{3,5}
    | " (?: [^"\\] | \\. )* "
    | ' [^']* '
    | \# [^\n]*
    | [=.,\[\]{}\n]
    | [^\s"'#=.,\[\]{}]+
    """,
    re.VERBOSE | re.DOTALL,
)
_VALUE_ENDS = frozenset("\n,]}")


def line_of(text: str, path: Sequence[str | int]) -> int:
    """The line, from 1 on, of what lies at ``path``: keys, and places in arrays from 0 on.

    Of what is not there, it is the line of what it would lie in.
    """
    return lines_of(text, [path])[0]


def lines_of(text: str, paths: Iterable[Sequence[str | int]]) -> list[int]:
    """The same of several."""
    lines = _places(text)
    return [
        next(
            (lines[at] for size in range(len(path), 0, -1) if (at := tuple(path[:size])) in lines),
            1,
        )
        for path in paths
    ]


def _places(text: str) -> _Lines:
    """The line where each key, table and value in an array begins."""
    tokens = _tokens(text)
    found: _Lines = {}
    arrays: dict[_Place, int] = {}
    table: _Place = ()
    while tokens:
        if tokens[0][0] == "[":
            table = _header(tokens, arrays, found)
        elif tokens[0][0] == "\n":
            tokens.popleft()
        else:
            _entry(tokens, table, found)
    return found


def _tokens(text: str) -> _Tokens:
    line, seen = 1, 0
    tokens: _Tokens = deque()
    for token in _TOKEN.finditer(text):
        line += text.count("\n", seen, token.start())
        seen = token.start()
        if not token[0].startswith("#"):
            tokens.append((token[0], line))
    return tokens


def _header(tokens: _Tokens, arrays: dict[_Place, int], found: _Lines) -> _Place:
    """Take ``[a.b]`` or ``[[a.b]]``; answer where what follows it lies."""
    _, line = tokens.popleft()
    of_array = tokens[0][0] == "["
    if of_array:
        tokens.popleft()
    names = list(_names(tokens, "]"))
    if of_array:
        tokens.popleft()
    table: _Place = ()
    for depth, name in enumerate(names, 1):
        table = (*table, name)
        found.setdefault(table, line)
        if of_array and depth == len(names):
            arrays[table] = arrays.get(table, -1) + 1
        if table in arrays:
            table = (*table, arrays[table])
            found.setdefault(table, line)
    return table


def _entry(tokens: _Tokens, place: _Place, found: _Lines) -> None:
    """Take a key and its value."""
    _, line = tokens[0]
    for name in _names(tokens, "="):
        place = (*place, name)
        found.setdefault(place, line)
    _value(tokens, place, found)


def _names(tokens: _Tokens, end: str) -> Iterator[str]:
    while (word := tokens.popleft()[0]) != end:
        if word[0] in "\"'":
            yield tomllib.loads(f"name = {word}")["name"]
        elif word != ".":
            yield word


def _value(tokens: _Tokens, place: _Place, found: _Lines) -> None:
    opened = tokens[0][0]
    if opened not in ("[", "{"):
        while tokens and tokens[0][0] not in _VALUE_ENDS:
            tokens.popleft()
        return
    tokens.popleft()
    count = 0
    while (token := tokens[0])[0] not in ("]", "}"):
        if token[0] in ("\n", ","):
            tokens.popleft()
        elif opened == "{":
            _entry(tokens, place, found)
        else:
            found[*place, count] = token[1]
            _value(tokens, (*place, count), found)
            count += 1
    tokens.popleft()
