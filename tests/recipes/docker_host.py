# SPDX-License-Identifier: Apache-2.0
"""A real Docker on one of the lab's hosts: its own files, its containers in a cgroup of the lab."""

import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cloud_toa.demo.lab import Lab
from cloud_toa.errors import ToaError
from cloud_toa.isolation import Namespace, run
from tests.netns.traffic import wait_until

# In processes and mounts of its own: what it starts ends with it, and it finds cgroup2 alone.
_APART = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"]
_IN_PLACE = """
mount -t tmpfs none /var/lib && mount -t cgroup2 none /sys/fs/cgroup && mount --bind "$0" /run &&
exec dockerd --config-file /run/daemon.json --exec-opt native.cgroupdriver=cgroupfs "$@"
"""
# Debian's, whatever else is in PATH.
_DOCKER = "/usr/bin/docker"
IMAGE = "busybox"
BRIDGE = "172.30.0.1"


@dataclass(frozen=True)
class Docker:
    host: str
    files: Path
    place: Path
    """The cgroup that its containers' cgroups are in, unless they are told otherwise."""

    def __call__(self, *arguments: str) -> str:
        return run(_DOCKER, "-H", self.host, *arguments)

    def make_image(self, name: str, programs: Iterable[str]) -> None:
        """One with this machine's programs and the libraries that they load."""
        image = self.files / name
        for program in map(Path, programs):
            loaded: list[str] = []
            with suppress(ToaError):  # a static one, which loads nothing
                loaded += [part for part in run("ldd", str(program)).split() if part[0] == "/"]
            for file in (program, *map(Path, loaded)):
                there = image / file.relative_to("/")
                there.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, there)
        tar = self.files / f"{name}.tar"
        run("tar", "-C", str(image), "-cf", str(tar), ".")
        self("import", str(tar), name)

    def serve(self, command: str, port: int) -> str:
        """Run one of the page's commands with a web server as IMAGE; answer the container."""
        words = command.replace("IMAGE", f"{IMAGE} busybox httpd -f -vv -p {port}").split()
        container = self(*words[1:]).strip()
        wait_until(lambda: f":{port} " in self("exec", container, "busybox", "netstat", "-ltn"))
        return container

    def address(self, container: str) -> str:
        return self("inspect", "-f", "{{.NetworkSettings.IPAddress}}", container).strip()

    def logs(self, container: str) -> str:
        """What its program said on standard error."""
        command = [_DOCKER, "-H", self.host, "logs", container]
        return subprocess.run(command, capture_output=True, text=True, check=True).stderr

    def peer(self, container: str, page: str) -> str:
        """Whom the server has logged for a page: an address and a port."""

        def logged() -> list[str]:
            return [
                line for line in self.logs(container).splitlines() if line.endswith(f"url:{page}")
            ]

        wait_until(lambda: bool(logged()))
        (line,) = logged()
        return line.removesuffix(f": url:{page}").replace("::ffff:", "")


@contextmanager
def running(lab: Lab, configuration: str, host: Namespace | None = None) -> Iterator[Docker]:
    """Start dockerd with a daemon.json, on the origin or another host; no image is there."""
    files = lab.files / "docker"
    files.mkdir()
    (files / "daemon.json").write_text(configuration)
    place = lab.cgroup("docker")
    ours = ["--cgroup-parent", f"/{place.name}", "--bip", f"{BRIDGE}/24"]
    process = lab.start(host or lab.origin, [*_APART, _IN_PLACE, str(files), *ours], [])
    docker = Docker(f"unix://{files}/docker.sock", files, place)
    try:
        answered = (files / "docker.sock").exists
        wait_until(lambda: process.poll() is not None or answered(), patience=120)
        assert process.poll() is None, [log.read_text() for log in lab.files.glob("unshare*.err")]
        docker("version")
        yield docker
    finally:
        # A container is stopped by the end of its processes; asking it to would take 10 s.
        process.kill()
        process.wait()
