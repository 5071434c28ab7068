# SPDX-License-Identifier: Apache-2.0
"""What a form changes in the settings' text; everything else in it stays, comments too. Pure."""

import tomllib
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import msgspec
import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Table

from cloud_toa.cluster.model.values import MissingError, Mistake, RefusedError
from cloud_toa.node import every_mistake
from cloud_toa.node.edge_file import EdgeFile, Toa

P = ParamSpec("P")
T = TypeVar("T")
_UNCHANGEABLE = Mistake(
    message="the text is written in a way that forms can't change: change it there"
)
Values = Mapping[str, Any]
"""As TOML has them: text, numbers, booleans, lists and tables. None takes a key away."""


def _of_tomlkit(function: Callable[P, T]) -> Callable[P, T]:
    """Refuse texts that tomlkit can read and not change, as tables that lie apart may be."""

    @wraps(function)
    def refusing(*arguments: P.args, **named: P.kwargs) -> T:
        try:
            return function(*arguments, **named)
        except (TOMLKitError, LookupError):
            raise RefusedError(_UNCHANGEABLE) from None

    return refusing


@_of_tomlkit
def toa(text: str) -> dict[str, Any]:
    """The table ``[toa]``, with defaults where the text says nothing.

    Raises:
        RefusedError: the text is no TOML.
    """
    said = _parsed(text).unwrap().get("toa", {})
    known = {field.name: field.default for field in msgspec.structs.fields(Toa)}
    return {**known, **(said if isinstance(said, dict) else {})}


def check_toa(values: Values) -> list[Mistake]:
    """What is wrong in a ``[toa]`` table, for each field on its own."""
    given = {key: value for key, value in values.items() if value is not None}
    return [
        Mistake(message=what, field=".".join(map(str, ("toa", *path))))
        for what, path in every_mistake.find(given, Toa)
    ]


@_of_tomlkit
def with_toa(text: str, values: Values) -> str:
    """The text with these values in ``[toa]``; keys that are not named stay as they are.

    Raises:
        RefusedError: the text is no TOML, or a value can't be.
    """
    document = _parsed(text)
    if mistakes := check_toa(values):
        raise RefusedError(*mistakes)
    table = document.get("toa")
    if not isinstance(table, MutableMapping):
        table = tomlkit.table()
        _add_table(document, "toa", table)
    _merge(table, values, whole=False)
    if mistakes := check_toa(document.unwrap()["toa"]):
        raise RefusedError(*mistakes)
    return _written(document)


@_of_tomlkit
def services(text: str) -> list[dict[str, Any]]:
    """Every service, as it is written.

    Raises:
        RefusedError: the text is no TOML.
    """
    return list(_services(_parsed(text)).unwrap())


@_of_tomlkit
def with_service(text: str, name: str | None, values: Values) -> str:
    """The text with a service changed into this; a new one at the end where there is no name.

    Raises:
        RefusedError: the text is no TOML, or no service can be so.
        MissingError: no service has this name.
    """
    document = _parsed(text)
    among = _services(document)
    _check_services(document, len(among) if name is None else _place(among, name), values)
    if name is None:
        table = tomlkit.table()
        _merge(table, values, whole=True)
        table.trivia.indent = "\n"
        among.append(table)
    else:
        _merge(among[_place(among, name)], values, whole=True)
    return _written(document)


@_of_tomlkit
def without_service(text: str, name: str) -> str:
    """The text without a service.

    Raises:
        RefusedError: the text is no TOML.
        MissingError: no service has this name.
    """
    document = _parsed(text)
    among = _services(document)
    del among[_place(among, name)]
    if not among:
        del document["service"]
    return _written(document)


@_of_tomlkit
def with_values(text: str, values: Values) -> str:
    """The text with other keys and tables of the whole file: ``metrics``, ``access_log`` ...

    A table takes the place of the former one; None takes a key away.

    Raises:
        RefusedError: the text is no TOML.
    """
    document = _parsed(text)
    _merge(document, values, whole=False)
    return _written(document)


def _parsed(text: str) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(text)
    except (TOMLKitError, ValueError, RecursionError) as error:
        raise RefusedError(
            Mistake(
                message=f"the text is no TOML, mend it there first: {error}",
                line=getattr(error, "line", None),
            )
        ) from None


def _check_services(document: tomlkit.TOMLDocument, place: int, values: Values) -> None:
    """See that a service can be so, beside the others."""
    data = document.unwrap()
    others = data.get("service", [])
    given = {key: value for key, value in values.items() if value is not None}
    data["service"] = [*others[:place], given, *others[place + 1 :]]
    if found := every_mistake.find(data, EdgeFile):
        raise RefusedError(
            *(Mistake(message=what, field=".".join(map(str, path))) for what, path in found)
        )


def _written(document: tomlkit.TOMLDocument) -> str:
    """The document as text, if that says the same: what is wrong here must not reach a node."""
    try:
        text = tomlkit.dumps(document)
        same = tomllib.loads(text) == document.unwrap()
    except ValueError:
        same = False
    if not same:
        raise RefusedError(_UNCHANGEABLE)
    return text


def _services(document: tomlkit.TOMLDocument) -> Any:  # noqa: ANN401  (tomlkit's types)
    among = document.get("service")
    if among is None:
        document.append("service", tomlkit.aot())
        among = document["service"]
    if not isinstance(among, AoT):
        raise RefusedError(
            Mistake(
                message="services are not written as [[service]] here: change them in the text",
                field="service",
            )
        )
    return among


def _place(among: AoT, name: str) -> int:
    for at, service in enumerate(among):
        if service.get("name") == name:
            return at
    raise MissingError(f"there is no service {name}")


def _add_table(document: tomlkit.TOMLDocument, key: str, table: Table) -> None:
    """Put a table in front of the services, where a reader looks for it."""
    if "service" not in document:
        document.append(key, table)
        return
    rest = document["service"]
    document.remove("service")
    document.append(key, table)
    document.append("service", rest)


def _merge(table: Any, values: Values, *, whole: bool) -> None:  # noqa: ANN401  (tomlkit's types)
    """Write values into a table; where it is ``whole``, keys that are not named go."""
    if whole:
        for key in [key for key in table if values.get(key) is None]:
            del table[key]
    for key, value in values.items():
        if value is None:
            table.pop(key, None)
        elif key not in table:
            table[key] = _item(value)
        elif not _same(table[key], value):
            _replace(table, key, value)


def _same(item: Any, value: Any) -> bool:  # noqa: ANN401  (as _merge)
    said = item.unwrap() if hasattr(item, "unwrap") else item  # tomlkit has plain booleans
    return type(said) is type(value) and bool(said == value)  # 1 is not true, nor 1.0


def _replace(table: Any, key: str, value: Any) -> None:  # noqa: ANN401  (as _merge)
    before = table[key]
    if isinstance(value, Mapping) and isinstance(before, MutableMapping):
        _merge(before, value, whole=True)
    elif isinstance(before, AoT) and _tables(value):
        for at, each in enumerate(value):
            if at < len(before):
                _merge(before[at], each, whole=True)
            else:
                new_one = _item(each)
                new_one.trivia.indent = "\n"
                before.append(new_one)
        while len(before) > len(value):
            del before[len(before) - 1]
    else:
        new = _item(value)
        if hasattr(before, "trivia") and hasattr(new, "trivia") and not _tables(value):
            new.trivia.comment_ws = before.trivia.comment_ws
            new.trivia.comment = before.trivia.comment
        table[key] = new


def _item(value: Any) -> Any:  # noqa: ANN401  (whatever TOML can hold)
    if isinstance(value, Mapping):
        table = tomlkit.table()
        for key, each in value.items():
            if each is not None:
                table[key] = _item(each)
        return table
    if _tables(value):
        among = tomlkit.aot()
        for each in value:
            among.append(_item(each))
        return among
    try:
        return tomlkit.item(list(value) if isinstance(value, tuple) else value)
    except (ValueError, TypeError) as error:  # null in a list
        raise RefusedError(Mistake(message=f"TOML has no such value: {error}")) from None


def _tables(value: object) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and bool(value)
        and all(isinstance(each, Mapping) for each in value)
    )
