# SPDX-License-Identifier: Apache-2.0
"""Give up every privilege but the one that a queue needs.

Source: capabilities(7), prctl(2), capset(2).
"""

import ctypes
import os
import signal
from contextlib import suppress
from pathlib import Path

from cloud_toa import libc

_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_CAP_NET_ADMIN = 12
_NOBODY = 65534
_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def keep_net_admin() -> None:
    """Become nobody, who may configure the network and nothing else, nor become anyone again.

    Raises:
        OSError: the kernel refused.
    """
    if os.geteuid() == 0:
        last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
        for capability in range(last + 1):
            if capability != _CAP_NET_ADMIN:
                # Not without CAP_SETPCAP, as in some containers; what follows suffices.
                with suppress(PermissionError):
                    libc.call("prctl", _PR_CAPBSET_DROP, capability, 0, 0, 0)
        libc.call("prctl", _PR_SET_KEEPCAPS, 1, 0, 0, 0)
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    only = 1 << _CAP_NET_ADMIN
    # Version 3 has 64 bits, in two halves.
    data = (_Data * 2)(_Data(only, only, 0), _Data(0, 0, 0))
    libc.call("capset", ctypes.byref(_Header(_VERSION_3, 0)), data)
    libc.call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def end_with(parent: int) -> None:
    """Be ended when the parent ends, even if it is killed. Comes last: a new user unsets it."""
    libc.call("prctl", libc.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
