# SPDX-License-Identifier: Apache-2.0
"""What a service manager is told: sd_notify(3)."""

import os
import socket
from contextlib import suppress


def ready() -> None:
    """The service is up; told to nobody where nobody has asked for it."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect("\0" + path[1:] if path.startswith("@") else path)
            sock.send(b"READY=1")
