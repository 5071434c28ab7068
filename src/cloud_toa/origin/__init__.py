# SPDX-License-Identifier: Apache-2.0
"""For servers: who the client of a connection is, from whichever source knows it.

`saved_syn` needs no privilege and no eBPF; `asgi` and `wsgi` are middlewares.
"""

from cloud_toa.origin.client import client_of

__all__ = ["client_of"]
