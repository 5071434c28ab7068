# SPDX-License-Identifier: Apache-2.0
"""How the files are called in which HAProxy finds certificates and authorities. Pure.

After the paths that an operator names, which may have characters that HAProxy does not take.
"""

from hashlib import sha256
from pathlib import Path

from cloud_toa.balancer.settings import Service


def certificate_name(certificate: str, key: str | None) -> str:
    """The file in which HAProxy finds both."""
    return f"{_digest(certificate, key or '')}.pem"


def authority_name(path: str) -> str:
    """The file in which HAProxy finds authorities."""
    return f"{_digest(path)}.authorities.pem"


def certificate_files(services: list[Service], folder: Path) -> list[str]:
    """Those of services that share their ports; the first is for who asks for no known name."""
    found = (
        str(folder / certificate_name(each.certificate, each.key))
        for service in services
        if service.tls is not None
        for each in service.tls.certificates
    )
    return list(dict.fromkeys(found))


def list_file(files: list[str], folder: Path) -> str:
    """The file with a line for each of these."""
    return f"{folder / _digest(*files)}.list"


def _digest(*texts: str) -> str:
    return sha256("\n".join(texts).encode()).hexdigest()[:32]
