# SPDX-License-Identifier: Apache-2.0
"""The one error type that a user meets: what was refused, and the remedy."""


class ToaError(Exception):
    """What was asked can't be done; nothing was changed.

    The message is one line for an operator's terminal: it names the value at
    fault and says what to do. The command line prints it and exits with 2.
    """
