# SPDX-License-Identifier: Apache-2.0
"""nginx on this host: the masters that run, else the one that is installed, with what they read.

``nginx -T`` is run with the binary and options of the running master, and as its user: loading
a configuration may load modules, which would run as root what another user chose. A master
whose binary is not among our files, as in a container, is left alone for the same reason.

Source: nginx(8); proc_pid_status(5); the master's title is set by ngx_process_cycle.c.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from cloud_toa.doctor.nginx.judgement import user, version
from cloud_toa.doctor.nginx.text import Blocks, directives, parse

_TITLE = re.compile(r"nginx: master process (.*)", re.DOTALL)
# The title has no quotes: a value ends where the next option begins.
_OPTION = re.compile(r"(?<= )(-[cepg]) ?(.+?)(?= -[cepg]|$)", re.DOTALL)
_BUILT = re.compile(r"--(user|pid-path)=(\S+)")
_TIMEOUT = 10.0


@dataclass(frozen=True)
class Process:
    """A master, or whoever would start one."""

    pid: int | None
    uid: int
    gid: int
    groups: tuple[int, ...]
    permitted: int | None
    """Its capabilities; None where it does not run yet."""
    unit: str | None


@dataclass(frozen=True)
class Nginx:
    """One nginx, and what it reads."""

    process: Process
    main: Blocks
    file: str
    version: tuple[int, ...]
    user: str
    """Whom the workers are run as by a master that is root."""
    trouble: str = ""
    """Why nothing is known of what it reads; empty where it is."""


def found() -> list[Nginx]:
    """Each master, or what is installed where none runs."""
    running = [_running(*each) for each in _masters()]
    program = shutil.which("nginx")
    if running or program is None:
        return running
    own = Process(None, os.geteuid(), os.getegid(), tuple(os.getgroups()), None, "nginx.service")
    return [_read(own, program, {})]


def _masters() -> Iterator[tuple[int, str]]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes().split(b"\0", 1)[0].decode(errors="replace")
        except OSError:  # it has ended
            continue
        if said := _TITLE.match(title):
            yield int(folder.name), said[1]


def _running(pid: int, title: str) -> Nginx:
    try:
        process = _process(pid)
        binary = Path(f"/proc/{pid}/exe")
        ours = binary.readlink()
        same = os.path.samestat(binary.stat(), ours.stat())
    except OSError as error:
        unknown = Process(pid, -1, -1, (), None, None)
        return _unread(unknown, f"process {pid} can't be looked at: {error.strerror}")
    if not same:
        return _unread(process, f"process {pid} has files of its own, as in a container")
    if os.geteuid() not in (0, process.uid):
        return _unread(process, f"process {pid} is another user's: run with sudo")
    return _read(process, str(ours), dict(_OPTION.findall(title)))


def _process(pid: int) -> Process:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    said: Mapping[str, list[str]] = {
        name: value.split() for name, _, value in (line.partition(":") for line in lines)
    }
    groups = tuple(map(int, said["Groups"]))
    uid, gid, permitted = int(said["Uid"][1]), int(said["Gid"][1]), int(said["CapPrm"][0], 16)
    return Process(pid, uid, gid, groups, permitted, _unit(pid))


def _unit(pid: int) -> str | None:
    """The service of systemd that a process belongs to."""
    units = re.findall(r"/([^/\n]+\.service)$", Path(f"/proc/{pid}/cgroup").read_text(), re.M)
    return units[0] if units else None


def _read(process: Process, program: str, options: Mapping[str, str]) -> Nginx:
    start = time.time()
    try:
        built = _run(process, program, "-V").stderr
        done = _run(process, program, *chain.from_iterable(options.items()), "-T")
    except (OSError, subprocess.TimeoutExpired) as error:
        return _unread(process, f"{program} -T: {error}")
    try:
        main = parse(done.stdout) + directives(options.get("-g", ""))
    except RecursionError:
        return _unread(process, f"{program} -T: blocks in blocks, hundreds deep")
    defaults = dict(_BUILT.findall(built))
    pid_file = next((each.words[1] for each in main if each.name == "pid"), None)
    _forget(Path(pid_file or defaults.get("pid-path", "/nonexistent")), start)
    if done.returncode != 0:
        last = [line for line in done.stderr.splitlines() if "[emerg]" in line] or ["it failed"]
        return _unread(process, f"{program} -T: {last[0].split('[emerg]')[-1].strip()}")
    file = done.stdout.split(":", 1)[0].removeprefix("# configuration file ")
    workers = user(main) or defaults.get("user", "nobody")
    return Nginx(process, main, file, version(built), workers)


def _run(process: Process, *command: str) -> "subprocess.CompletedProcess[str]":
    other = process.uid != os.geteuid()
    # The binary may be another user's: it gets neither our environment nor our terminal.
    return subprocess.run(
        command,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        timeout=_TIMEOUT,
        check=False,
        cwd="/",
        env={},
        start_new_session=True,
        user=process.uid if other else None,
        group=process.gid if other else None,
        extra_groups=process.groups if other else None,
    )


def _forget(pid_file: Path, start: float) -> None:
    """Remove the empty file that ``nginx -T`` leaves where nginx does not run."""
    try:
        about = pid_file.stat()
        if about.st_size == 0 and about.st_ctime > start - 1:  # the kernel's clock is coarse
            pid_file.unlink()
    except OSError:
        pass


def _unread(process: Process, trouble: str) -> Nginx:
    return Nginx(process, (), "", (), "", trouble)
