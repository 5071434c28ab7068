# SPDX-License-Identifier: Apache-2.0
"""How long to wait after a failure: longer each time, and never as long as others do. Pure."""

import random


class Backoff:
    """Waits by chance up to a limit that doubles, so that nodes do not come back together.

    Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/, full jitter.
    """

    def __init__(self, first: float = 2.0, most: float = 30.0) -> None:
        self._first, self._most = first, most
        self._failures = 0

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        limit = min(self._most, self._first * 2.0 ** min(self._failures, 16))
        self._failures += 1
        return random.uniform(0.05 * limit, limit)  # noqa: S311  (no secret)

    def reset(self) -> None:
        """It went well."""
        self._failures = 0
