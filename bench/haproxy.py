# SPDX-License-Identifier: Apache-2.0
"""HAProxy by hand, for clients and origins of both families, as an operator would write it."""

from collections.abc import Mapping, Sequence

from cloud_toa.demo.lab import ORIGIN

_TEXT = """
global
  maxconn 8000
  {more}
defaults
  mode tcp
  timeout connect 30s
  timeout client 120s
  timeout server 120s
"""
_SOURCES = {4: "0.0.0.0", 6: ":::0"}


def configuration(
    listen: Mapping[int, Sequence[str]],
    port: int,
    to: int,
    *,
    transparent: bool = True,
    more: str = "",
) -> str:
    """A configuration.

    Args:
        listen: HAProxy's own addresses, by IP version.
        port: its port at all of them.
        to: the origin's port.
        transparent: whether it connects from the client's address, or from its own.
        more: a line more of its global part.
    """
    lines = [_TEXT.format(more=more)]
    for version, addresses in listen.items():
        lines.append(f"listen v{version}")
        lines += [f"  bind {address}:{port}" for address in addresses]
        if transparent:
            lines.append(f"  source {_SOURCES[version]} usesrc client")
        lines.append(f"  server origin {ORIGIN[version]}:{to}")
    return "\n".join(lines) + "\n"
