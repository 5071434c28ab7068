# SPDX-License-Identifier: Apache-2.0
"""A socket whose lock the kernel holds: it is sending data that is not there yet.

Source: ioctl_userfaultfd(2).
"""

import ctypes
import fcntl
import mmap
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_USERFAULTFD = 323
"""The system call's number, x86-64."""
_UFFDIO_API = 0xC018AA3F
_UFFDIO_REGISTER = 0xC020AA00
_API = 0xAA
_MODE_MISSING = 1
_PAGE = mmap.PAGESIZE


@contextmanager
def locked(sock: socket.socket) -> Iterator[None]:
    """Hold its lock from the first touch of the data on; a page of zeros is sent at the end."""
    libc = ctypes.CDLL(None, use_errno=True)
    faults = libc.syscall(_USERFAULTFD, os.O_CLOEXEC)
    if faults < 0:
        raise OSError(ctypes.get_errno(), "userfaultfd")
    data = mmap.mmap(-1, _PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    place = ctypes.addressof(ctypes.c_char.from_buffer(data))
    fcntl.ioctl(faults, _UFFDIO_API, struct.pack("=QQQ", _API, 0, 0))
    fcntl.ioctl(faults, _UFFDIO_REGISTER, struct.pack("=QQQQ", place, _PAGE, _MODE_MISSING, 0))
    sender = threading.Thread(target=sock.sendall, args=(data,))
    sender.start()
    try:
        os.read(faults, 32)  # the kernel waits for the data, with the lock
        yield
    finally:
        os.close(faults)  # which wakes it up; the page is then an empty one
        sender.join()
