# SPDX-License-Identifier: Apache-2.0
"""Where a cluster's API servers are, and by what they are known to be it."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from cloud_toa.errors import ToaError


@dataclass(frozen=True)
class Servers:
    """URLs without a slash at the end, and whom TLS believes."""

    urls: tuple[str, ...]
    context: ssl.SSLContext


def parse(urls: Sequence[str], ca: Path | None = None, *, insecure: bool = False) -> Servers:
    """Servers as the command line names them.

    Args:
        urls: such as ``https://console.example:7788``.
        ca: a file of authorities, in the place of the host's own.
        insecure: whether http is allowed as well.

    Raises:
        ToaError: one is no such URL, or the file can't be used.
    """
    for text in urls:
        try:
            url = httpx.URL(text)
        except httpx.InvalidURL as error:
            raise ToaError(f"--server {text!r:.200}: {error}") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise ToaError(f"--server {text!r:.200}: write https://console.example:7788")
        if url.userinfo or url.query or url.fragment:
            raise ToaError(f"--server https://{url.host}: scheme, host, port and path alone")
        if url.scheme == "http" and not insecure:
            raise ToaError(
                f"--server {text}: without TLS, who is on the way reads the token and changes "
                "settings: write https://, or say --insecure"
            )
    return Servers(tuple(url.rstrip("/") for url in dict.fromkeys(urls)), _context(ca))


def _context(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:  # ssl.SSLError is one
        raise ToaError(f"--ca {ca} can't be used: {error.strerror or error}") from None
