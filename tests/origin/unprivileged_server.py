# SPDX-License-Identifier: Apache-2.0
"""A server that has no privilege at all: says its port, serves one connection, says who it was."""

import os
import socket
import sys

from cloud_toa.origin import saved_syn

host, trust = sys.argv[1:]
with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
    listener.bind((host, 0))
    saved_syn.prepare(listener, trust=[trust])
    listener.listen()
    print(listener.getsockname()[1], flush=True)
    conn, _ = listener.accept()
    with conn:
        print(os.geteuid(), saved_syn.client_of(conn), flush=True)
