# SPDX-License-Identifier: Apache-2.0
"""libnetfilter_queue.so.1 by ctypes: no more of it than configures a queue.

Source: libnetfilter_queue 1.0 (``libnetfilter_queue.h``).
"""

from ctypes import c_char_p, c_int, c_uint8, c_uint16, c_uint32, c_void_p
from functools import cache
from typing import Any

from cloud_toa import packages, shared_library
from cloud_toa.shared_library import Signature

NAME = "libnetfilter_queue.so.1"


@cache
def library() -> Any:
    """libnetfilter_queue.so.1.

    Raises:
        ToaError: it is not installed.
    """
    return shared_library.load(NAME, packages.LIBNETFILTER_QUEUE, _FUNCTIONS)


_FUNCTIONS: tuple[Signature, ...] = (
    ("nfq_nlmsg_put", c_void_p, [c_char_p, c_int, c_uint32]),
    ("nfq_nlmsg_cfg_put_cmd", None, [c_void_p, c_uint16, c_uint8]),
    ("nfq_nlmsg_cfg_put_params", None, [c_void_p, c_uint8, c_int]),
    ("nfq_nlmsg_cfg_put_qmaxlen", None, [c_void_p, c_uint32]),
    ("mnl_attr_put_u32", None, [c_void_p, c_uint16, c_uint32]),  # of libmnl, which it needs
)
