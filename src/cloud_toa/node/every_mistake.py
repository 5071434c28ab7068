# SPDX-License-Identifier: Apache-2.0
"""All that is wrong in what is to be an edge's settings, and not its first mistake. Pure.

msgspec stops at the first. So where it refuses, every value is asked for itself, and every rule
of every table, also of those that can't be made: a rule that looks at what is wrong already says
nothing, and nobody is told of what follows from another mistake.
"""

import inspect
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from types import FunctionType, MethodType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
from msgspec import NODEFAULT, Struct

from cloud_toa.balancer.rules import Rule
from cloud_toa.errors import ToaError
from cloud_toa.node import file_mistakes
from cloud_toa.node.file_mistakes import Path

Found = list[tuple[str, Path]]
"""What is wrong, in words, and where."""


def find(data: Mapping[str, Any], kind: type[Struct]) -> Found:
    """What is wrong in ``data``, which ``kind`` is to be made of; empty where it can be."""
    search = _Search(dict(data), kind)
    search.table(search.data, kind, ())
    return search.found


_WRONG = (AttributeError, ToaError)
"""What it raises to look at what is wrong: it is not there, or can't be read."""


class _Partial:
    """A table as far as it is known: with its kind's methods, and without what is wrong."""

    def __init__(self, kind: type[Struct], values: Mapping[str, Any]) -> None:
        self.__dict__.update(values)
        self._kind = kind

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  (whatever the kind has)
        found = inspect.getattr_static(self._kind, name, None)
        if isinstance(found, property) and found.fget is not None:
            return found.fget(self)
        if isinstance(found, FunctionType):
            return MethodType(found, self)
        raise AttributeError(name)

    def but(self, values: Mapping[str, Any]) -> "_Partial":
        """The same with other values."""
        return _Partial(self._kind, {**vars(self), **values})


class _Search:
    """One look through everything."""

    def __init__(self, data: dict[str, Any], kind: type[Struct]) -> None:
        self.data, self._kind = data, kind
        self.found: Found = []
        self._rules_told: set[tuple[str, Path]] = set()

    def table(self, value: Mapping[str, Any], kind: type[Struct], at: Path) -> _Partial:
        """Look through a table; answer what can be known of it."""
        fields = {field.name: field for field in msgspec.structs.fields(kind)}
        meant = set()
        for key in value:
            if key not in fields:
                what, near = file_mistakes.unknown(key, at, self._kind)
                self.found.append((what, (*at, key)))
                meant.add(near)
        known: dict[str, Any] = {}
        for name, field in fields.items():
            if name in value:
                known.update(self._value(name, value[name], _hints(kind)[name], at))
            elif field.required:
                if name not in meant:
                    self.found.append((file_mistakes.missing(name, at, self._kind), at))
            elif field.default_factory is not NODEFAULT:
                known[name] = field.default_factory()
            else:
                known[name] = field.default
        partial = _Partial(kind, known)
        for number, rule in enumerate(_rules(partial)):
            self._ask(partial, number, rule, at)
        return partial

    def _value(self, name: str, value: object, hint: object, at: Path) -> dict[str, Any]:
        """Look through the value of a key; answer it by its name, or nothing."""
        before, here = len(self.found), (*at, name)
        kinds = list(_alternatives(hint))
        item = next((get_args(each)[0] for each in kinds if get_origin(each) is tuple), None)
        if isinstance(value, dict) and (struct := _struct(kinds)):
            self.table(value, struct, here)
            return {name: msgspec.convert(value, struct)} if len(self.found) == before else {}
        if isinstance(value, list) and item is not None:
            struct = _struct(_alternatives(item))
            if struct and value and all(isinstance(each, dict) for each in value):
                return {name: tuple(self._items(value, struct, here))}
            for number, each in enumerate(value):
                if struct and isinstance(each, dict):
                    self.table(each, struct, (*here, number))
                else:
                    self._convert(each, item, (*here, number))
        if len(self.found) > before:
            return {}
        made = self._convert(value, hint, here)
        return {name: made} if len(self.found) == before else {}

    def _items(self, value: list[Any], struct: type[Struct], at: Path) -> Iterator[_Partial]:
        for number, each in enumerate(value):
            yield self.table(each, struct, (*at, number))

    def _convert(self, value: object, hint: Any, at: Path) -> Any:  # noqa: ANN401  (a type)
        try:
            return msgspec.convert(value, hint)
        except msgspec.ValidationError as error:
            self.found.append(file_mistakes.what_of(error, self.data, self._kind, at))

    def _ask(self, partial: _Partial, number: int, rule: Rule, at: Path) -> None:
        """Ask a rule; where it looks at what is wrong, ask it of the rows that it can look at."""
        if self._told(rule, at):
            return

        def can_look(row: dict[str, Any]) -> bool:
            try:
                deque(_rules(partial.but(row))[number](), 0)
            except _WRONG:
                return False
            return True

        rows = {
            name: {place: each for place, each in enumerate(value) if can_look({name: (each,)})}
            for name, value in vars(partial).items()
            if isinstance(value, tuple) and value and isinstance(value[0], _Partial)
        }
        rest = partial.but({name: tuple(each.values()) for name, each in rows.items()})
        self._told(_rules(rest)[number], at, {name: list(each) for name, each in rows.items()})

    def _told(
        self, rule: Rule, at: Path, places: Mapping[str, Sequence[int]] | None = None
    ) -> bool:
        """Add what a rule tells; answer whether it came to its end."""
        try:
            for mistake in rule():
                path = list(mistake.at)
                if places and len(path) > 1 and path[0] in places:
                    path[1] = places[str(path[0])][int(path[1])]
                told = str(mistake), (*at, *path)
                if told not in self._rules_told:
                    self._rules_told.add(told)
                    self.found.append(told)
        except _WRONG:
            if not self.found:
                raise  # nothing was wrong that it could have looked at
            return False
        return True


def _rules(partial: _Partial) -> Sequence[Rule]:
    rules: Sequence[Rule] = partial.rules()
    return rules


@cache
def _hints(kind: type[Struct]) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _alternatives(hint: Any) -> Iterator[Any]:  # noqa: ANN401  (a type)
    """What a value may be, of ``A | B``, less what says more of it."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    inside = get_args(hint) if get_origin(hint) is not tuple else ()
    if not inside or all(
        not isinstance(each, type) and get_origin(each) is None for each in inside
    ):
        yield hint  # also words out of a few
        return
    for each in inside:
        yield from _alternatives(each)


def _struct(kinds: Iterable[Any]) -> type[Struct] | None:
    return next(
        (each for each in kinds if isinstance(each, type) and issubclass(each, Struct)), None
    )
