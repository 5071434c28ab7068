# SPDX-License-Identifier: Apache-2.0
"""A network namespace that ends with the question that is asked in it.

Source: unshare(2): a namespace belongs to the thread that asked for it, and to the
processes that this thread starts.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from cloud_toa import libc

T = TypeVar("T")


def in_empty_network(question: Callable[[], T]) -> T:
    """Ask where no device but a loopback is, which is down, and no rule.

    Raises:
        OSError: no privilege.
    """

    def ask() -> T:
        libc.call("unshare", libc.CLONE_NEWNET)
        return question()

    # A thread of its own, as a thread that has left its namespace must not be used again.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(ask).result()
