# SPDX-License-Identifier: Apache-2.0
"""The control socket: a load balancer names the client of a connection it will make.

`session` is the protocol without sockets, `server` the peers, `file` the socket's place.
"""

from cloud_toa.control.server import ControlServer
from cloud_toa.control.session import Session

__all__ = ["ControlServer", "Session"]
