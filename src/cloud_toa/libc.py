# SPDX-License-Identifier: Apache-2.0
"""Calls of the C library that Python has no function for.

Source: the manual page of each call, section 2.
"""

import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> int:
    """Call a function that answers -1, and errno, where it fails.

    Raises:
        OSError: it failed.
    """
    result: int = getattr(_libc, name)(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
