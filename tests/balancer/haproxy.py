# SPDX-License-Identifier: Apache-2.0
"""The real HAProxy, asked what it thinks of a configuration."""

import subprocess
from pathlib import Path


def make_certificate(path: Path) -> None:
    """A certificate and its key in one file."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-subj", f"/CN={path.stem}.example", "-days", "2"),
            *("-keyout", f"{path}.key", "-out", str(path)),
        ],
        check=True,
        capture_output=True,
    )
    path.write_text(path.read_text() + Path(f"{path}.key").read_text())


def refusal(text: str, folder: Path) -> str:
    """What HAProxy has against it; empty where it takes it, without so much as a warning."""
    file = folder / "haproxy.cfg"
    file.write_text(text)
    said = subprocess.run(
        ["haproxy", "-c", "-q", "-f", str(file)], capture_output=True, text=True, check=False
    )
    return said.stderr + said.stdout or ("" if said.returncode == 0 else f"{said.returncode}")
