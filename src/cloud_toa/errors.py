# SPDX-License-Identifier: Apache-2.0
"""The one error type that a user meets: what was refused, and the remedy."""

from collections.abc import Iterable, Sequence

_SHOWN = 10


class ToaError(Exception):
    """What was asked can't be done; nothing was changed.

    The message is one line for an operator's terminal: it names the value at
    fault and says what to do. The command line prints it and exits with 2.
    """

    @property
    def lines(self) -> Sequence[str]:
        """The same, with a line for each thing that is wrong."""
        return (str(self),)


class SeveralError(ToaError):
    """Several things are wrong; where there is room for but one line, it has the first of them."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = tuple(lines)
        more = len(self._lines) - _SHOWN
        shown = "; ".join(self._lines[:_SHOWN])
        super().__init__(f"{shown}; and {more} more" if more > 0 else shown)

    @property
    def lines(self) -> Sequence[str]:
        """See `ToaError`."""
        return self._lines
