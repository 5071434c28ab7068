# SPDX-License-Identifier: Apache-2.0
"""Certificates of one's own, made with the openssl command."""

import subprocess
from pathlib import Path


class Authority:
    """Signs certificates, whose files are in a folder with its own, ``NAME.pem``."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self.certificate = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        _openssl(
            *("req", "-x509", *_NEW_KEY, "-subj", f"/CN={name}", "-days", "30"),
            *("-keyout", self._key, "-out", self.certificate),
        )

    def issue(
        self, name: str, file: str | None = None, days: int = 90, subject: str | None = None
    ) -> tuple[Path, Path]:
        """A certificate for a host name, expired where ``days`` are negative; and its key."""
        base = file or name.replace("*", "any")
        certificate, key = (self._folder / f"{base}.{kind}" for kind in ("crt", "key"))
        asked = self._folder / f"{base}.csr"
        _openssl(
            *("req", *_NEW_KEY, "-subj", subject or f"/CN={name}"),
            *("-addext", f"subjectAltName=DNS:{name}"),
            *("-keyout", key, "-out", asked),
        )
        _openssl(
            *("x509", "-req", "-in", asked, "-CA", self.certificate, "-CAkey", self._key),
            *("-copy_extensions", "copy", "-days", days, "-out", certificate),
        )
        return certificate, key

    def pem(self, name: str, file: str | None = None, days: int = 90) -> Path:
        """As `issue`, both in one file."""
        certificate, key = self.issue(name, file, days)
        both = certificate.with_suffix(".pem")
        new = both.with_suffix(".new")
        new.write_text(certificate.read_text() + key.read_text())
        new.replace(both)
        return both


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def _openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
