# SPDX-License-Identifier: Apache-2.0
"""What operators write: an edge's file, and what a form changes in it; lists of addresses."""

import tomllib
from contextlib import suppress

from cloud_toa.balancer.addresses import AddressError, Listen
from cloud_toa.cluster.api import forwarded
from cloud_toa.cluster.model import settings_text
from cloud_toa.cluster.model.values import RefusedError
from cloud_toa.node import edge_file
from cloud_toa.node.edge_file import FileError
from cloud_toa.origins import Origins, OriginsError
from cloud_toa.trust import Trust, TrustError

_PROXIES = forwarded.proxies(["192.0.2.0/24", "2001:db8::/32"])


def one(data: bytes) -> None:
    """It can be had, or one kind of error says why not."""
    text = data.decode(errors="replace")
    with suppress(TrustError):
        trust = Trust.parse([text])
        assert Trust.parse([str(trust)]) == trust
    with suppress(OriginsError):
        origins = Origins.parse([text])
        assert Origins.parse(map(str, origins.destinations or ["any"])) == origins
    with suppress(AddressError):
        listen = Listen.parse(text)
        assert Listen.parse(str(listen)) == listen
    forwarded.client("192.0.2.1", [data], _PROXIES)
    with suppress(FileError):
        edge_file.parse(text, "edge.toml")
    try:
        changed = settings_text.with_toa(text, {"enabled": False})
    except RefusedError:
        return
    assert tomllib.loads(changed)["toa"]["enabled"] is False
