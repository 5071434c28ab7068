# SPDX-License-Identifier: Apache-2.0
"""When certificates end, and what is to be said of it."""

from datetime import datetime, timedelta
from pathlib import Path

from cloud_toa.balancer.certificates import pairs
from cloud_toa.balancer.settings import Service

SOON = timedelta(days=14)
"""Before its end, a certificate should have been renewed."""


def warnings(services: tuple[Service, ...], now: datetime) -> list[str]:
    """A line for each certificate of theirs that has ended, or ends soon."""
    ends = {path: not_after(path) for path, _ in pairs(services)}
    return [
        f"certificate {path} "
        + ("has expired" if end < now else "expires")
        + f" on {end:%Y-%m-%d %H:%M} UTC: renew it"
        for path, end in ends.items()
        if end is not None and end - now < SOON
    ]


def not_after(path: str) -> datetime | None:
    """The last moment of the first certificate in a PEM file, which is shown to others.

    None where there is no certificate: that is refused elsewhere.
    """
    # Here, as an edge without TLS shall not wait for it.
    from cryptography import x509  # noqa: PLC0415

    try:
        return x509.load_pem_x509_certificates(Path(path).read_bytes())[0].not_valid_after_utc
    except (OSError, ValueError):
        return None
