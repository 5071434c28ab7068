# SPDX-License-Identifier: Apache-2.0
"""libnetfilter_queue.so.1 by ctypes: no more of it than configures a queue.

Source: libnetfilter_queue 1.0 (``libnetfilter_queue.h``).
"""

import ctypes
from ctypes import c_char_p, c_int, c_uint8, c_uint16, c_uint32, c_void_p
from functools import cache
from typing import Any

from cloud_toa.errors import ToaError
from cloud_toa.nfqueue.packages import LIBNETFILTER_QUEUE

NAME = "libnetfilter_queue.so.1"


@cache
def library() -> Any:
    """libnetfilter_queue.so.1.

    Raises:
        ToaError: it is not installed.
    """
    try:
        lib = ctypes.CDLL(NAME, use_errno=True)
    except OSError:
        raise ToaError(f"{NAME} is missing: {LIBNETFILTER_QUEUE}") from None
    for name, result, arguments in (
        ("nfq_nlmsg_put", c_void_p, [c_char_p, c_int, c_uint32]),
        ("nfq_nlmsg_cfg_put_cmd", None, [c_void_p, c_uint16, c_uint8]),
        ("nfq_nlmsg_cfg_put_params", None, [c_void_p, c_uint8, c_int]),
        ("nfq_nlmsg_cfg_put_qmaxlen", None, [c_void_p, c_uint32]),
        ("mnl_attr_put_u32", None, [c_void_p, c_uint16, c_uint32]),  # of libmnl, which it needs
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib
