# SPDX-License-Identifier: Apache-2.0
"""An ordinary Python web server that writes its peers to a log. It knows nothing of TOA."""

import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_LOG = Path(sys.argv[1]).open("a", buffering=1)  # noqa: SIM115  (as long as the process)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer nothing but that it was heard."""
        self.send_response(204)
        self.end_headers()

    def log_request(self, code: object = "-", size: object = "-") -> None:  # noqa: ARG002
        """Write the peer that accept() gave, and what it asked for."""
        host, port = self.client_address[:2]
        _LOG.write(f"{host} {port} {self.path}\n")


class _Server(ThreadingHTTPServer):
    dual_stack = False

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not self.dual_stack)
        super().server_bind()


class _Server6(_Server):
    address_family = socket.AF_INET6


class _ServerDual(_Server6):
    dual_stack = True


if __name__ == "__main__":
    servers = [
        _Server(("0.0.0.0", 9000), _Handler),  # noqa: S104
        _Server6(("::", 9000), _Handler),
        _ServerDual(("::", 9001), _Handler),
    ]
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    servers[0].serve_forever()
