# SPDX-License-Identifier: Apache-2.0
"""Settings that are right once they exist: their rules, each for itself. Pure.

Who makes such a value hears of the first mistake. Who wants to hear of all asks each rule, also
those of a value that could not be made, as long as it has what the rule looks at.
"""

from collections.abc import Callable, Iterator

from msgspec import Struct

from cloud_toa.balancer.allowed import SettingsError
from cloud_toa.errors import ToaError

Mistakes = Iterator[SettingsError]
Rule = Callable[[], Mistakes]


class Ruled(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of an edge's file.

    Raises:
        SettingsError: it can't be.
    """

    def rules(self) -> tuple[Rule, ...]:
        """What tells mistakes, in the order in which they are told."""
        return ()

    def __post_init__(self) -> None:
        for rule in self.rules():
            for mistake in rule():
                raise mistake


def refused(check: Callable[..., object], *given: object) -> Mistakes:
    """What a check of settings raises, which knows where."""
    try:
        check(*given)
    except SettingsError as mistake:
        yield mistake


def refused_at(
    place: tuple[str | int, ...], check: Callable[..., object], *given: object
) -> Mistakes:
    """What any check raises, as a mistake at this place."""
    try:
        check(*given)
    except ToaError as mistake:
        yield SettingsError(str(mistake), *place)
