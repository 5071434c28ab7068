# SPDX-License-Identifier: Apache-2.0
"""A distribution's shared library by ctypes: opened, with the functions that are called of it."""

import ctypes
from collections.abc import Iterable
from typing import Any

from cloud_toa.errors import ToaError

Signature = tuple[str, Any, list[Any]]
"""A function's name, its result's type and its arguments'."""


def load(name: str, install: object, functions: Iterable[Signature]) -> Any:
    """Open it.

    Raises:
        ToaError: it is not installed; ``install`` says how to.
    """
    try:
        lib = ctypes.CDLL(name, use_errno=True)
    except OSError:
        raise ToaError(f"{name} is missing: {install}") from None
    for function_name, result, arguments in functions:
        function = getattr(lib, function_name)
        function.restype, function.argtypes = result, arguments
    return lib
