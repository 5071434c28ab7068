# SPDX-License-Identifier: Apache-2.0
"""Load balancers that can connect from the client's address. Any one serves."""

import re
import shutil
import subprocess

from cloud_toa.doctor.finding import Finding, State, there

_ANY = "any load balancer with a transparent source serves"


def haproxy() -> Finding:
    """HAProxy and its version."""
    if (said := _output("haproxy", "-v")) is None:
        return Finding("haproxy", State.NOT_NEEDED, f"not in PATH; {_ANY}")
    return there("haproxy", haproxy_version(said))


def nginx() -> Finding:
    """Nginx, its version, and whether it balances TCP."""
    if (said := _output("nginx", "-V")) is None:
        return Finding("nginx", State.NOT_NEEDED, f"not in PATH; {_ANY}")
    version, stream = nginx_build(said)
    if stream is None:
        return Finding("nginx", State.NOT_NEEDED, f"{version} without stream; {_ANY}")
    return there("nginx", f"{version} with {stream}")


def haproxy_version(said: str) -> str:
    """The version in what ``haproxy -v`` said."""
    found = re.search(r"version (\S+)", said)
    return found[1] if found else "of unknown version"


def nginx_build(said: str) -> tuple[str, str | None]:
    """Version and kind of stream module (None: none) in what ``nginx -V`` said."""
    found = re.search(r"nginx/(\S+)", said)
    options = said.split()
    stream = None
    if "--with-stream" in options:
        stream = "stream"
    elif "--with-stream=dynamic" in options:
        stream = "stream as a module (load_module)"
    return found[1] if found else "of unknown version", stream


def _output(program: str, option: str) -> str | None:
    if shutil.which(program) is None:
        return None
    done = subprocess.run(
        [program, option], capture_output=True, text=True, timeout=10, check=False
    )
    # nginx speaks on standard error.
    return done.stdout + done.stderr
