# SPDX-License-Identifier: Apache-2.0
"""An origin with sshd, a log and fail2ban as Debian installs them, in directories of their own.

Each process sees copies in place of the machine's /etc, /run and the like, which are
neither read again nor written. Mounts end with the last process that has them.
"""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cloud_toa.demo.lab import Lab
from cloud_toa.isolation import Namespace
from tests.netns.traffic import wait_until

# What to put where; /run last, as it has the files of the lab.
_IN_PLACE = """
for place in dev etc var/log var/lib/fail2ban run; do
    mount --bind "$0/$place" "/$place" || exit
done
exec "$@"
"""
USER = "visitor"


@dataclass(frozen=True)
class SshOrigin:
    lab: Lab
    root: Path
    key: Path
    """Opens the door to USER."""

    def read(self, path: str) -> str:
        return (self.root / path).read_text()

    def command(self, *command: str) -> list[str]:
        return ["unshare", "--mount", "sh", "-c", _IN_PLACE, str(self.root), *command]

    def run(self, *command: str) -> str:
        """Run a command as on the origin; answer what it printed."""
        return self.lab.origin.run(*self.command(*command))


def start_origin(lab: Lab, place: Path, files: Mapping[str, str]) -> SshOrigin:
    """Start syslogd, sshd and fail2ban, with these files in /etc; returns when all three work."""
    root, key = lab.files / "root", lab.files / "key"
    for directory in ("dev", "run/sshd", "run/fail2ban", "var/log", "var/lib/fail2ban"):
        (root / directory).mkdir(parents=True)
    for name, minor in (("null", 3), ("urandom", 9)):
        os.mknod(root / "dev" / name, 0o020666, os.makedev(1, minor))
        (root / "dev" / name).chmod(0o666)
    subprocess.run(["cp", "-a", "/etc", str(root)], check=True)
    for made in (key, root / "etc/ssh/ssh_host_lab_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(made)], check=True)
    (root / "etc/ssh/authorized_keys").write_text(Path(f"{key}.pub").read_text())
    with (root / "etc/passwd").open("a") as users:
        users.write(f"{USER}:*:65534:65534::/:/bin/sh\n")
    # What is about the machine, such as its PAM, is not the recipe's.
    (root / "etc/ssh/sshd_config.d/lab.conf").write_text(
        "UsePAM no\n"
        "HostKey /etc/ssh/ssh_host_lab_key\n"
        "AuthorizedKeysFile /etc/ssh/authorized_keys\n"
    )
    (root / "etc/hosts.deny").write_text("")
    for name, text in files.items():
        (root / "etc" / name).write_text(text)
    (root / "var/log/auth.log").touch()
    origin = SshOrigin(lab, root, key)
    syslogd = ["busybox", "syslogd", "-n", "-S", "-O", "/var/log/auth.log"]
    lab.start(lab.origin, origin.command(*syslogd), [], place=place)
    wait_until((root / "dev/log").exists)
    lab.start(lab.origin, origin.command("/usr/sbin/sshd", "-D"), [("", 22)], place=place)
    lab.start(lab.origin, origin.command("fail2ban-server", "-xf", "start"), [], place=place)
    log = root / "var/log/fail2ban.log"
    wait_until(lambda: log.exists() and "Jail 'sshd' started" in log.read_text(), patience=60)
    return origin


@dataclass(frozen=True)
class Login:
    """How an ssh client fared."""

    code: int
    out: str
    err: str


def login(
    host: Namespace, source: str, server: tuple[str, int], user: str, key: Path, command: str = ""
) -> Login:
    """Log in from an address of this host with a real ssh, and run a command."""
    options = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"]
    done = subprocess.run(
        [
            *("nsenter", f"--net={host.path}", "ssh", "-F", "none", "-i", str(key), "-b", source),
            *(word for option in options for word in ("-o", option)),
            *("-p", str(server[1]), f"{user}@{server[0]}", command or "true"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Login(done.returncode, done.stdout, done.stderr)
