# SPDX-License-Identifier: Apache-2.0
"""A server whose socket systemd opens: serves some connections, says who each was."""

import logging
import socket
import sys

from cloud_toa.origin import saved_syn

logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stdout)
with socket.socket(fileno=3) as listener:  # sd_listen_fds(3): the first one
    saved_syn.prepare(listener, trust=["127.0.0.1", "::1"])
    for _ in range(int(sys.argv[1])):
        conn, _ = listener.accept()
        with conn:
            print(saved_syn.client_of(conn), flush=True)
