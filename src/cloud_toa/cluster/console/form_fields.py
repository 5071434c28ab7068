# SPDX-License-Identifier: Apache-2.0
"""Forms for what a file can say, made from the structs that read the file. Pure.

So a key that a struct gets is in the form by itself; only its texts are to be written, and a test
sees that they are.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import msgspec
from msgspec import NODEFAULT, Struct, inspect

Widget = Literal["text", "number", "switch", "choice", "several", "lines", "group", "rows"]


@dataclass(frozen=True)
class Field:
    """A key of a file, and how it is asked for.

    - choice: one of ``options``, the empty one where the key may be left out.
    - several: any of ``options``. lines: a list of texts, each on a line of its own.
    - group: a table with ``fields``; rows: an array of them.
    """

    name: str
    path: str
    """From the file's top, such as ``service.origin.weight``; texts are named by it."""
    widget: Widget
    default: Any = None
    required: bool = False
    least: int | None = None
    most: int | None = None
    options: tuple[str, ...] = ()
    fields: "tuple[Field, ...]" = ()
    may_be_left_out: bool = False
    """It has no default value, but a meaning where it is not there."""
    switchable: bool = False
    """A group that may be ``true`` or ``false`` as well."""
    listable: bool = False
    """A text that may be several, with commas between."""

    @property
    def shown_default(self) -> str:
        """The default as a form has it; empty where there is none to show."""
        match self.default:
            case str() | int() if not isinstance(self.default, bool):
                return str(self.default)
        return ""


@cache
def of(kind: type[Struct], path: str) -> tuple[Field, ...]:
    """The fields of a table that ``kind`` reads."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return tuple(_field(each, f"{path}.{each.name}" if path else each.name) for each in info.fields)


def every(fields: tuple[Field, ...]) -> list[Field]:
    """These, and all within them."""
    return [each for field in fields for each in (field, *every(field.fields))]


def _field(each: inspect.Field, path: str) -> Field:
    default = None if each.default is NODEFAULT else each.default
    if each.default_factory is not NODEFAULT:
        default = each.default_factory()
    if isinstance(default, Struct):
        default = msgspec.to_builtins(default)
    kinds = [_plain(kind) for kind in _alternatives(each.type)]
    optional = any(isinstance(kind, inspect.NoneType) for kind in kinds)
    kinds = [kind for kind in kinds if not isinstance(kind, inspect.NoneType)]
    struct = next((kind for kind in kinds if isinstance(kind, inspect.StructType)), None)
    common: dict[str, Any] = {
        "name": each.name,
        "path": path,
        "default": default,
        "required": each.required,
        "may_be_left_out": optional,
    }
    if struct is not None:
        return Field(
            widget="group", fields=of(struct.cls, path), switchable=len(kinds) > 1, **common
        )
    match kinds[0]:
        case inspect.BoolType() if optional:
            return Field(widget="choice", options=("", "true", "false"), **common)
        case inspect.BoolType():
            return Field(widget="switch", **common)
        case inspect.IntType(ge=least, le=most):
            return Field(widget="number", least=least, most=most, **common)
        case inspect.LiteralType(values=values):
            options = _ordered(values, default)
            return Field(widget="choice", options=("", *options) if optional else options, **common)
        case inspect.VarTupleType(item_type=item):
            return _list(_plain(item), common)
    listable = any(isinstance(kind, inspect.VarTupleType) for kind in kinds)
    return Field(widget="text", listable=listable, **common)


def _list(item: inspect.Type, common: dict[str, Any]) -> Field:
    if isinstance(item, inspect.StructType):
        return Field(widget="rows", fields=of(item.cls, common["path"]), **common)
    if isinstance(item, inspect.LiteralType):
        return Field(widget="several", options=_ordered(item.values, common["default"]), **common)
    return Field(widget="lines", **common)


def _ordered(options: tuple[Any, ...], default: Any) -> tuple[str, ...]:  # noqa: ANN401
    """Options with the usual ones in front; msgspec has them by the alphabet."""
    usual = [default] if isinstance(default, str) else list(default or ())
    return (*usual, *(str(option) for option in options if option not in usual))


def _alternatives(kind: inspect.Type) -> tuple[inspect.Type, ...]:
    kind = _plain(kind)
    return kind.types if isinstance(kind, inspect.UnionType) else (kind,)


def _plain(kind: inspect.Type) -> inspect.Type:
    """Without what says more of a type than what it is."""
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    return kind
