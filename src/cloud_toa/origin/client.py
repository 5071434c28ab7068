# SPDX-License-Identifier: Apache-2.0
"""The client of a connection from either source: the eBPF receiver, or the saved SYN.

The receiver comes first: it also reads the packets behind the SYN, where some
senders write the option alone. Each source trusts its own list of edges.
"""

import errno

from cloud_toa import api
from cloud_toa.option import Client
from cloud_toa.origin import saved_syn

_NO_RECEIVER = {errno.ENOPROTOOPT, errno.EOPNOTSUPP}


def client_of(conn: saved_syn.Connection, owner: object | None = None) -> Client | None:
    """The client that a trusted edge named for this accepted connection.

    Args:
        conn: the connection, as `saved_syn.client_of` takes it.
        owner: what lives as long as the connection; see `saved_syn.client_of`.

    Returns:
        The client, its port in the host's byte order, or None in it where the
        option's layout has none; None where neither source knows one, and for
        sockets that are not TCP.

    Raises:
        OSError: the socket is closed (EBADF).
        TypeError: see `saved_syn.client_of`.

    Source: `cloud_toa.client_of`, then `saved_syn.client_of`.
    """
    try:
        client = api.client_of(conn)
    except OSError as error:
        if error.errno not in _NO_RECEIVER:
            raise
        client = None
    if client is not None:
        return client
    try:
        return saved_syn.client_of(conn, owner)
    except saved_syn.NotPreparedError:
        return None
