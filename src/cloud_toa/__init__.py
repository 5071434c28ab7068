# SPDX-License-Identifier: Apache-2.0
"""A server behind a TCP/TLS load balancer sees the real client's address.

For programs: `set_client` on a load balancer's socket, `client_of` on a server's.
Servers without any privilege: `cloud_toa.origin.saved_syn`.
"""

from cloud_toa.api import TOA_CLIENT, client_of, set_client
from cloud_toa.option import Client

__all__ = ["TOA_CLIENT", "Client", "client_of", "set_client"]
