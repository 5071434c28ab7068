# SPDX-License-Identifier: Apache-2.0
"""A real Docker on the lab's origin: its own files, and its containers in a cgroup of the lab."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cloud_toa.demo.lab import Lab
from cloud_toa.isolation import run
from tests.netns.traffic import wait_until

# In processes and mounts of its own: what it starts ends with it, and it finds cgroup2 alone.
_APART = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"]
_IN_PLACE = """
mount -t tmpfs none /var/lib && mount -t cgroup2 none /sys/fs/cgroup && mount --bind "$0" /run &&
exec dockerd --config-file /run/daemon.json --exec-opt native.cgroupdriver=cgroupfs "$@"
"""
# Debian's, whatever else is in PATH.
_DOCKER = "/usr/bin/docker"
_IMAGE = "busybox"
BRIDGE = "172.30.0.1"


@dataclass(frozen=True)
class Docker:
    host: str

    def __call__(self, *arguments: str) -> str:
        return run(_DOCKER, "-H", self.host, *arguments)

    def serve(self, command: str, port: int) -> str:
        """Run one of the page's commands with a web server as IMAGE; answer the container."""
        words = command.replace("IMAGE", f"{_IMAGE} busybox httpd -f -vv -p {port}").split()
        container = self(*words[1:]).strip()
        wait_until(lambda: f":{port} " in self("exec", container, "busybox", "netstat", "-ltn"))
        return container

    def address(self, container: str) -> str:
        return self("inspect", "-f", "{{.NetworkSettings.IPAddress}}", container).strip()

    def peer(self, container: str, page: str) -> str:
        """Whom the server has logged for a page: an address and a port."""

        def logged() -> list[str]:
            done = subprocess.run(
                [_DOCKER, "-H", self.host, "logs", container],
                capture_output=True,
                text=True,
                check=True,
            )
            return [line for line in done.stderr.splitlines() if line.endswith(f"url:{page}")]

        wait_until(lambda: bool(logged()))
        (line,) = logged()
        return line.removesuffix(f": url:{page}").replace("::ffff:", "")


@contextmanager
def running(lab: Lab, configuration: str) -> Iterator[Docker]:
    """Start dockerd with a daemon.json, and one image, of busybox alone."""
    files = lab.files / "docker"
    files.mkdir()
    (files / "daemon.json").write_text(configuration)
    place = lab.cgroup("docker")
    ours = ["--cgroup-parent", f"/{place.name}", "--bip", f"{BRIDGE}/24"]
    process = lab.start(lab.origin, [*_APART, _IN_PLACE, str(files), *ours], [])
    docker = Docker(f"unix://{files}/docker.sock")
    try:
        answered = (files / "docker.sock").exists
        wait_until(lambda: process.poll() is not None or answered(), patience=120)
        assert process.poll() is None, [log.read_text() for log in lab.files.glob("unshare*.err")]
        docker("version")
        image = files / "image/bin"
        image.mkdir(parents=True)
        (image / "busybox").write_bytes(Path("/bin/busybox").read_bytes())
        (image / "busybox").chmod(0o755)
        tar = files / "image.tar"
        run("tar", "-C", str(image.parent), "-cf", str(tar), ".")
        docker("import", str(tar), _IMAGE)
        yield docker
    finally:
        # A container is stopped by the end of its processes; asking it to would take 10 s.
        process.kill()
        process.wait()
