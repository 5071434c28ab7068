# SPDX-License-Identifier: Apache-2.0
"""Servers as Debian ships them, and their own clients: whom does each of them name?

A server says it in its log, some also when they are asked. What is set here is what any of
them needs to be reached from other hosts; nothing is about addresses of clients.
"""

import http.client
import os
import pwd
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import virtual_machine

from cloud_toa.demo.lab import Lab
from cloud_toa.errors import ToaError
from cloud_toa.isolation import PRIVATE, Namespace, run

_PYTHON = "/usr/bin/python3"
"""The distribution's, whatever else is found first."""

PROGRAMS = {
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "psql": "postgresql",
    "redis-server": "redis-server",
    "nginx": "nginx-light",
}
"""What must be installed, and the Debian packages that have it."""

VERSIONS = {
    **{
        package: ("dpkg-query", "-W", "-f", "${Version}", package)
        for package in ("openssh-server", "redis-server", "nginx", "haproxy", "go-mmproxy")
    },
    "PostgreSQL": ("psql", "--version"),
    "Python": (_PYTHON, "--version"),
}
"""What says the versions of servers, and of what is before them."""

_USER = "visitor"
_PATIENCE = 60 if virtual_machine.is_inside() else 5
"""Seconds for a client, more in an emulated machine."""

_NGINX = """
daemon off; master_process off; error_log stderr; pid {folder}/pid;
events {{ }}
http {{
  access_log {folder}/log;
  server {{ {listen} root /usr/share/nginx/html; }}
}}
"""


@dataclass(frozen=True)
class Server:
    """A server with its client.

    ``prepare`` makes its files in a folder and answers its command; ``ask`` has the client at
    work, and answers whom the server names when it is asked, or nobody where that can't be;
    ``logged`` finds it in the log; ``ready`` is what the log says once it answers.
    """

    title: str
    port: int
    prepare: Callable[[Path, int], list[str]]
    ask: Callable[[Namespace, str, int, Path], str]
    logged: str
    ready: str = ""


@dataclass(frozen=True)
class Answer:
    """Whom the server named: when asked, and in its log; or why the client did not get through."""

    said: str = ""
    logged: str = ""
    error: str = ""


def own_run() -> None:
    """Have a /run of this process's own, and a user to log in as; after `isolation.isolate`."""
    run("mount", "-t", "tmpfs", "-o", "mode=755", "cloud-toa", "/run")
    PRIVATE.mkdir()
    Path("/run/sshd").mkdir(mode=0o755)
    users = Path("/run/passwd")
    users.write_text(Path("/etc/passwd").read_text() + f"{_USER}:*:65534:65534::/:/bin/sh\n")
    users.chmod(0o644)
    run("mount", "--bind", str(users), "/etc/passwd")


class Running:
    """Servers at the lab's origin."""

    def __init__(self, lab: Lab, servers: list[Server], place: Path) -> None:
        self._lab = lab
        for server in servers:
            folder = self._folder(server)
            folder.mkdir()
            folder.chmod(0o755)
            command = server.prepare(folder, server.port)
            to_log = ["sh", "-c", 'exec "$@" >>"$0" 2>&1', str(folder / "log"), *command]
            lab.start(lab.origin, to_log, [("", server.port)], place=place)
            self._log(server, 0, server.ready)

    def ask(self, server: Server, address: str, port: int) -> Answer:
        """Have the server's client connect to an address; whom does the server see?"""
        before = len(self._text(server))
        try:
            said = server.ask(self._lab.client, address, port, self._folder(server))
        except (ToaError, OSError, http.client.HTTPException) as error:
            why = str(error).rpartition(" failed: ")[2].strip() or "closed"
            return Answer(error=why.splitlines()[0])
        return Answer(said, self._log(server, before, server.logged))

    def _folder(self, server: Server) -> Path:
        return self._lab.files / server.title.split()[0]

    def _text(self, server: Server) -> str:
        log = self._folder(server) / "log"
        return log.read_text(errors="replace") if log.exists() else ""

    def _log(self, server: Server, before: int, pattern: str) -> str:
        """Wait until the log has it behind that place; answer its group, or all of it."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            if found := re.search(pattern, self._text(server)[before:], re.MULTILINE):
                return found[found.lastindex or 0]
            time.sleep(0.02)  # nothing tells that a server has written
        raise ToaError(f"{server.title}'s log has nothing like {pattern}")


def _client(host: Namespace, *command: str) -> str:
    return host.run("timeout", "--verbose", str(_PATIENCE), *command)


def openssh(folder: Path, port: int, *listen: str) -> list[str]:
    """Where no ``ListenAddress`` is given, it listens by both IP versions."""
    host_key, key = folder / "host_key", folder / "key"
    for made in (host_key, key):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(made))
    # PAM is the machine's, and so are its users' keys.
    options = (f"AuthorizedKeysFile={key}.pub", "StrictModes=no", "UsePAM=no", "PidFile=none",
               *(f"ListenAddress={each}" for each in listen))  # fmt: skip
    more = (word for option in options for word in ("-o", option))
    return ["/usr/sbin/sshd", "-D", "-e", "-h", str(host_key), "-p", str(port), *more]


def _ssh(host: Namespace, address: str, port: int, folder: Path) -> str:
    options = ("BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null",
               "LogLevel=ERROR")  # fmt: skip
    more = (word for option in options for word in ("-o", option))
    where = (*more, "-i", str(folder / "key"), "-p", str(port), f"{_USER}@{address}")
    return _client(host, "ssh", "-F", "none", *where, "echo $SSH_CONNECTION").split()[0]


def postgresql(
    folder: Path, port: int, listen: str = "*", clients: Sequence[str] = ("all",)
) -> list[str]:
    """With a line of pg_hba.conf for each of these ``clients``."""
    data = folder / "data"
    data.mkdir()
    user = pwd.getpwnam("postgres")
    os.chown(data, user.pw_uid, user.pw_gid)
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    run(*as_user, f"{programs}/initdb", "-D", str(data), "-A", "trust", "--no-sync",
        "--locale=C")  # fmt: skip
    with (data / "pg_hba.conf").open("a") as hosts:
        hosts.writelines(f"host all all {each} trust\n" for each in clients)
    options = (
        f"listen_addresses={listen}",
        "log_connections=on",
        "unix_socket_directories=",
        "fsync=off",
    )
    more = (word for option in options for word in ("-c", option))
    return [*as_user, f"{programs}/postgres", "-D", str(data), "-p", str(port), *more]


def _psql(host: Namespace, address: str, port: int, _: Path) -> str:
    query = "select host(inet_client_addr())"
    where = f"host={address} port={port} user=postgres dbname=postgres"
    return _client(host, "psql", "-Atc", query, where).strip()


def redis(folder: Path, port: int, *bind: str) -> list[str]:
    """With ``bind`` as it is without a configuration, unless others are given."""
    options = (
        "--bind",
        *(bind or ("*", "-::*")),
        "--protected-mode",
        "no",
        "--loglevel",
        "verbose",
    )
    return ["redis-server", "--port", str(port), "--dir", str(folder), "--save", "", *options]


def _redis_cli(host: Namespace, address: str, port: int, _: Path) -> str:
    said = _client(host, "redis-cli", "-h", address, "-p", str(port), "CLIENT", "LIST")
    found = re.search(r" addr=\[?([\da-f.:]+?)\]?:\d+ .* cmd=client", said)
    if found is None:
        raise ToaError(f"redis-cli: {said.strip() or 'no answer'}")
    return found[1]


def nginx(folder: Path, port: int, *listen: str) -> list[str]:
    """With a ``listen`` for each of these, in which ``PORT`` is the port; by default both."""
    file = folder / "conf"
    lines = " ".join(f"listen {each};" for each in listen or ("PORT", "[::]:PORT"))
    file.write_text(_NGINX.format(folder=folder, listen=lines.replace("PORT", str(port))))
    return ["nginx", "-c", str(file)]


def _python(folder: Path, port: int) -> list[str]:
    (folder / "www").mkdir()
    where = ("--bind", "::", "--directory", str(folder / "www"))
    return [_PYTHON, "-m", "http.server", *where, str(port)]


def mariadb(folder: Path, port: int, bind: str) -> list[str]:
    """With this ``bind-address``."""
    data = folder / "data"
    as_root = ("--no-defaults", "--user=root", f"--datadir={data}")
    run(
        "mariadb-install-db", *as_root, "--skip-test-db", "--auth-root-authentication-method=normal"
    )
    options = ("--skip-grant-tables", "--skip-name-resolve", "--general-log",
               f"--general-log-file={folder}/log", f"--socket={folder}/socket",
               f"--bind-address={bind}", f"--port={port}")  # fmt: skip
    return ["mariadbd", *as_root, *options]


def _mariadb(host: Namespace, address: str, port: int, _: Path) -> str:
    where = ("-h", address, "-P", str(port), "-u", "root")
    said = _client(host, "mariadb", "--no-defaults", "-N", *where, "-e", "select user()")
    return said.strip().rpartition("@")[2]


def _get(host: Namespace, address: str, port: int, _: Path) -> str:
    connection = http.client.HTTPConnection(address, port, timeout=_PATIENCE)
    with host.entered():
        connection.connect()
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
    finally:
        connection.close()
    if answer.status != http.HTTPStatus.OK:
        raise ToaError(f"HTTP {answer.status} {answer.reason}")
    return ""


SERVERS = {
    server.title.split()[0]: server
    for server in (
        Server("openssh", 7022, openssh, _ssh, r"^Accepted publickey for \w+ from (\S+) port"),
        Server(
            "postgresql",
            7032,
            postgresql,
            _psql,
            r"connection received: host=(\S+) port",
            "ready to accept connections",
        ),
        Server("redis", 7079, redis, _redis_cli, r" Accepted (\S+):\d+$", "Ready to accept"),
        Server("nginx", 7080, nginx, _get, r"^(\S+) - - \["),
        Server("python http.server", 7090, _python, _get, r"^(\S+) - - \["),
    )
}

MARIADB = Server(
    "mariadb",
    7033,
    partial(mariadb, bind="*"),
    _mariadb,
    r"Connect\s+\w+@(\S+) on",
    "ready for connections",
)
