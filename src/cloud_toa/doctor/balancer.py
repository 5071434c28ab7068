# SPDX-License-Identifier: Apache-2.0
"""Load balancers that can connect from the client's address. Any one serves."""

import re
import shutil
import subprocess
from pathlib import Path

from cloud_toa import packages
from cloud_toa.doctor import remedies
from cloud_toa.doctor.finding import Finding, State, absent, there

OLDEST_HAPROXY = (2, 6)
HAPROXY_CONFIG = Path("/etc/haproxy/haproxy.cfg")
_ANY = "any load balancer with a transparent source serves"
_SECTIONS = frozenset(
    ("global", "defaults", "listen", "frontend", "backend", "peers", "resolvers", "mailers",
     "userlist", "cache", "program", "ring", "http-errors", "fcgi-app", "log-forward")
)  # fmt: skip
_ROOT = (["root"], ["0"])


def haproxy(config: Path = HAPROXY_CONFIG) -> Finding:
    """HAProxy, its version, and whether it will start with the packaged configuration."""
    if (said := _output("haproxy", "-v")) is None:
        return Finding("haproxy", State.NOT_NEEDED, f"not in PATH; {_ANY}")
    version = haproxy_version(said)
    text = config.read_text(errors="replace") if config.is_file() else ""
    if refused := haproxy_refuses(text):
        detail = f"{version} will not start: {config} has usesrc, and `{refused}` in global"
        return absent("haproxy", detail, remedies.haproxy_line(config, refused))
    return there("haproxy", version)


def haproxy_inside() -> Finding:
    """HAProxy where our own process starts it, with a configuration of its own."""
    if (said := _output("haproxy", "-v")) is None:
        return absent("haproxy", "not in PATH", remedies.package(packages.HAPROXY))
    version = haproxy_version(said)
    number = re.match(r"(\d+)\.(\d+)", version)
    if number is None or tuple(map(int, number.groups())) < OLDEST_HAPROXY:
        wanted = ".".join(map(str, OLDEST_HAPROXY))
        detail = f"{version}: {wanted} or later is needed"
        return absent("haproxy", detail, remedies.package(packages.HAPROXY))
    return there("haproxy", version)


def haproxy_refuses(config: str) -> str | None:
    """The line of ``global`` that HAProxy refuses beside ``usesrc``; ``haproxy -c`` does not tell.

    Source: HAProxy 2.6; since 2.9 ``setcap cap_net_admin`` or ``cap_net_raw`` allows both.
    """
    lines = [line.split("#")[0].split() for line in config.splitlines()]
    section = ""
    found = None
    for words in filter(None, lines):
        if words[0] in _SECTIONS:
            section = words[0]
        elif section == "global" and words[0] == "setcap":
            return None
        elif section == "global" and words[0] in {"user", "uid"} and words[1:] not in _ROOT:
            found = " ".join(words)
    return found if any("usesrc" in words for words in lines) else None


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
