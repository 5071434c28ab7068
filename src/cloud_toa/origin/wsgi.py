# SPDX-License-Identifier: Apache-2.0
"""WSGI: the connection's client in ``REMOTE_ADDR`` and ``REMOTE_PORT``.

WSGI does not name the socket; gunicorn does, as ``environ["gunicorn.socket"]``, in
its sync and threaded workers alike. With other servers the environment stays as it
is: attach the eBPF receiver, and any server knows the client by itself, except an
IPv6 client of an IPv4 listener.

Without eBPF, prepare gunicorn's listeners in its configuration file. That runs
before the workers are forked, which so know whom to trust::

    def when_ready(server):
        for listener in server.LISTENERS:
            saved_syn.prepare(listener, trust=["192.0.2.0/24"])

Source: PEP 3333; RFC 3875, section 4.1.8 for ``REMOTE_ADDR``.
"""

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from cloud_toa.origin.client import client_of

PEER = "cloud_toa.peer"
"""The key for ``(REMOTE_ADDR, REMOTE_PORT)`` as they were, two strings or None; absent
where nothing was changed."""


class ToaMiddleware:
    """Sets ``REMOTE_ADDR`` and ``REMOTE_PORT`` to the client's where an edge named it.

    ``REMOTE_PORT`` stays as it is where the option's layout has no port.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self.app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        conn = environ.get("gunicorn.socket")
        client = None if conn is None else client_of(conn)
        if client is not None:
            environ[PEER] = (environ.get("REMOTE_ADDR"), environ.get("REMOTE_PORT"))
            environ["REMOTE_ADDR"] = str(client.ip)
            if client.port is not None:
                environ["REMOTE_PORT"] = str(client.port)
        return self.app(environ, start_response)
