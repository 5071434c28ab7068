# SPDX-License-Identifier: Apache-2.0
"""gunicorn's configuration: prepares its listeners, as wsgi.py's docstring shows."""

import os
from typing import Any

from cloud_toa.origin import saved_syn

accesslog = "-"
control_socket_disable = True


def when_ready(server: Any) -> None:
    if trust := os.environ["TRUST"]:
        for listener in server.LISTENERS:
            saved_syn.prepare(listener, trust=trust.split())
    print("ready", flush=True)
