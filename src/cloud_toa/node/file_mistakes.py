# SPDX-License-Identifier: Apache-2.0
"""What is wrong in a TOML file, in the words of who writes it: line, value and remedy. Pure."""

import difflib
import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import inspect

_AT = re.compile(r"(?s)(?P<what>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?")
_NO_TOML = re.compile(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column \d+|end of document)\)")
_WORDS = {
    "Invalid value": 'write numbers, true, false, or "text in quotes"',
    "Cannot overwrite a value": "this key is there already, leave one out",
}
_SHOWN = 80

Path = tuple[str | int, ...]
"""Keys, and places in arrays."""


def no_toml(error: Exception, text: str) -> tuple[str, int | None]:
    """Of an error of tomllib's, what it is and in which line."""
    found = _NO_TOML.fullmatch(str(error))
    if found is None:
        return "it has a number that is too long", None  # Python's limit, not one of TOML
    what = ": ".join(filter(None, (found["what"], _WORDS.get(found["what"]))))
    lines = text.split("\n")
    number = int(found["line"] or len(text.rstrip().split("\n")))
    line = "".join(
        each if each.isprintable() else ascii(each)[1:-1]
        for each in lines[number - 1].strip(" \t\r")
    )
    return f"{_short(line)}: {what}", number


def what_of(
    error: msgspec.ValidationError, data: dict[str, Any], kind: type, at: Path = ()
) -> tuple[str, Path]:
    """What is wrong with a value, and where in ``data``, which ``kind`` is to be made of.

    Args:
        error: what was said of the value.
        data: all that there is.
        kind: what that is to be.
        at: where the value is.
    """
    parts = _AT.fullmatch(str(error))
    assert parts is not None
    path = (
        *at,
        *(
            int(index) if index else key
            for index, key in re.findall(r"\[(\d+)]|([^.\[\]]+)", parts["path"] or "")
        ),
    )
    value = _value(data, path)
    name = next((part for part in reversed(path) if isinstance(part, str)), "")
    if isinstance(value, str) and _lists_text(path, kind):
        return f"{name} {_shown(value)}: write [{_shown(value)[2:]}]", path
    return f"{name} {_shown(value)}: write {_wanted(path, kind)}", path


def unknown(key: str, at: Path, kind: type) -> tuple[str, str | None]:
    """Of a key that the table at a place can't have: what is said, and which one was meant."""
    what = f"unknown key {_short(key)!r}: "
    # What stands behind a table's header belongs to that table, wherever it was meant to be.
    for length in range(len(at) - 1, -1, -1):
        if key in _keys(at[:length], kind):
            where = _header(at[:length], kind) or "the top of the file"
            return f"{what}it belongs to {where}, above {_header(at, kind) or 'this'}", None
    known = _keys(at, kind)
    near = next(iter(difflib.get_close_matches(key, known, 1, 0.5)), None)
    remedy = f"did you mean {near!r}?" if near else f"known here are {', '.join(known)}"
    return what + remedy, near


def missing(key: str, at: Path, kind: type) -> str:
    """Of a key that the table at a place must have."""
    return f"{key} is missing: write {_wanted((*at, key), kind)}"


def _lists_text(path: Path, kind: type) -> bool:
    text = (inspect.StrType, inspect.LiteralType)
    return any(isinstance(each, text) for each in _kinds((*path, 0), kind))


def _value(data: Any, path: Path) -> Any:  # noqa: ANN401  (whatever TOML can hold)
    for key in path:
        data = data[key]
    return data


def _shown(value: object) -> str:
    """As it is written in the file."""
    if isinstance(value, dict | list):
        return ("is a table" if isinstance(value, dict) else "is a list") if value else "is empty"
    if isinstance(value, str | bool):
        return f"= {_short(json.dumps(value, ensure_ascii=False))}"
    return f"= {_short(str(value))}"  # dates as well


def _wanted(path: Path, kind: type) -> str:
    """What may stand at ``path``."""
    given = (_kind_in_words(each, path, kind) for each in _kinds(path, kind))
    return " or ".join(dict.fromkeys(words for words in given if words))


def _kind_in_words(each: inspect.Type, path: Path, kind: type) -> str:
    match each:
        case inspect.Metadata(type=inner, extra_json_schema=extra):
            return str((extra or {}).get("description") or _kind_in_words(inner, path, kind))
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType(ge=None):
            return "a number, without quotes"
        case inspect.IntType(ge=least, le=most):
            return f"a number from {least} to {most}, without quotes"
        case inspect.StrType():
            return "text in quotes"
        case inspect.LiteralType(values=values):
            return " or ".join(f'"{value}"' for value in values)
        case inspect.VarTupleType(item_type=inspect.StructType()):
            return f"{_header(path, kind)}, with two brackets, for each"
        case inspect.VarTupleType(item_type=item):
            return f"a list: [{_kind_in_words(item, path, kind)}, ...]"
        case inspect.StructType():
            return f"a table: {_header(path, kind)}"
    return ""


def _header(path: Path, kind: type) -> str:
    """The line above the table, or array of tables, at ``path``; empty for the whole file."""
    names = [part for part in path if isinstance(part, str)]
    last = max((at for at, part in enumerate(path) if isinstance(part, str)), default=-1)
    several = any(isinstance(each, inspect.VarTupleType) for each in _kinds(path[: last + 1], kind))
    head = f"[{'.'.join(names)}]" if names else ""
    return f"[{head}]" if several else head


def _kinds(path: Path, kind: type) -> Sequence[inspect.Type]:
    """The types that a value at this place may have."""
    kinds: Sequence[inspect.Type] = (inspect.type_info(kind),)
    for key in path:
        inner = [one for each in kinds for one in _inside(each, key)]
        kinds = [
            one
            for each in inner
            for one in (each.types if isinstance(each, inspect.UnionType) else (each,))
        ]
    return kinds


def _inside(kind: inspect.Type, key: str | int) -> list[inspect.Type]:
    if isinstance(kind, inspect.StructType):
        return [field.type for field in kind.fields if field.name == key]
    return [kind.item_type] if isinstance(kind, inspect.VarTupleType) else []


def _keys(path: Path, kind: type) -> list[str]:
    """The keys that a table at this place may have."""
    return [
        field.name
        for each in _kinds(path, kind)
        if isinstance(each, inspect.StructType)
        for field in each.fields
    ]


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
