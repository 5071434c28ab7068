# SPDX-License-Identifier: Apache-2.0
"""What somebody has filled in, as the values of a file; and which field a mistake is of. Pure.

Names of inputs are places in the file, such as ``origin.0.weight``. What can't be a value (a number
with letters) stays as it was typed: whoever checks it names it, and the form shows it again.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cloud_toa.cluster.console.form_fields import Field
from cloud_toa.cluster.model.values import Mistake

_NUMBER = re.compile(r"[+-]?\d{1,18}")
_MISSING = re.compile(r"(?P<key>\w+) is missing: .*")

Posted = Mapping[str, Sequence[str]]
Values = dict[str, Any]


def read(
    posted: Posted, fields: Iterable[Field], prefix: str = "", before: Values | None = None
) -> Values:
    """The values of a form; what is empty is left out, and what is as by default.

    Args:
        posted: names and values of inputs.
        fields: the form's.
        prefix: of the inputs' names.
        before: what the file said; a default that it spells out stays spelt out.
    """
    before = before or {}
    values = {}
    for field in fields:
        value = _value(posted, field, f"{prefix}{field.name}", before.get(field.name))
        usual = value == _plain(field.default) and field.name not in before
        if value is not None and (field.required or not usual):
            values[field.name] = value
    return values


def without_removed(posted: Posted) -> Posted:
    """What was posted less the row whose button was pressed, such as ``remove=origin.1``."""
    gone = tuple(f"{row}." for row in posted.get("remove", ()))
    return {key: given for key, given in posted.items() if not gone or not key.startswith(gone)}


def with_added(posted: Posted, fields: tuple[Field, ...], values: Values) -> Values:
    """The values with an empty row where a button asked for one, such as ``add=origin``."""
    for path in posted.get("add", ()):
        table, here = values, {field.name: field for field in fields}
        for key in path.split("."):
            field = here.get(key)
            if field is None:
                break
            if field.widget == "rows":
                table.setdefault(key, []).append({})
                break
            table, here = table.setdefault(key, {}), {each.name: each for each in field.fields}
    return values


def by_field(
    mistakes: Iterable[Mistake], place: str, fields: Iterable[Field]
) -> dict[str, list[str]]:
    """Messages by the input that they stand beside; those of none of the form's under ``""``.

    Args:
        mistakes: what is wrong in the file.
        place: where in the file the form's table is, such as ``service.2``.
        fields: the form's.
    """
    known = {field.name for field in fields}
    found: dict[str, list[str]] = {}
    for mistake in mistakes:
        where = mistake.field
        if missing := _MISSING.fullmatch(mistake.message):
            where = f"{where}.{missing['key']}".lstrip(".")
        inside = where.removeprefix(f"{place}.") if place else where
        if (place and inside == where) or inside.split(".")[0] not in known:
            inside = ""
        # What a file is written with is no matter of a form.
        found.setdefault(inside, []).append(mistake.message.removesuffix(", without quotes"))
    return found


def _value(posted: Posted, field: Field, name: str, before: Any) -> Any:  # noqa: ANN401
    given = posted.get(name, ())
    match field.widget:
        case "switch":
            return bool(given)
        case "several":
            return [option for option in field.options if option in given]
        case "rows":
            return _rows(posted, field, name, before if isinstance(before, list) else [])
        case "group":
            was = before if isinstance(before, dict) else {}
            inside = read(posted, field.fields, f"{name}.", was)
            if not field.switchable:
                return inside or None
            return (inside or True) if given else None
    text = given[0].strip() if given else ""
    if not text:
        return None
    match field.widget:
        case "lines":
            return [line.strip() for line in re.split(r"[\n,]", text) if line.strip()]
        case "number":
            return int(text) if _NUMBER.fullmatch(text) else text
        case "choice" if field.options == ("", "true", "false"):
            return text == "true"
        case "text" if field.listable and "," in text:
            return [each.strip() for each in text.split(",") if each.strip()]
    return text


def _rows(posted: Posted, field: Field, name: str, before: list[Values]) -> list[Values] | None:
    """The rows that are there; one that says nothing is none."""
    inside = re.compile(rf"{re.escape(name)}\.(\d{{1,3}})\.")
    numbers = {int(found[1]) for key in posted if (found := inside.match(key))}
    rows = [
        read(
            posted,
            field.fields,
            f"{name}.{number}.",
            before[number] if number < len(before) else None,
        )
        for number in sorted(numbers)
    ]
    return [row for row in rows if row] or None


def _plain(default: object) -> object:
    return list(default) if isinstance(default, tuple) else default
