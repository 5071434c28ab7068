# SPDX-License-Identifier: Apache-2.0
"""HAProxy as processes: a master and its worker, started, reloaded, adopted and ended.

They belong to nobody: when the edge that started them is killed, they go on, and the next
one takes them over. HAProxy 2.6 wants user id 0 for a transparent source, but with the sender
no privilege is needed for it; so it has none but to listen on ports below 1,024.

What they say goes to two named pipes that both sides hold open, so that it is neither an
error for them when nobody reads, nor lost when somebody does so later.

Source: HAProxy 2.6, management guide, sections 3 and 4; capabilities(7).
"""

import asyncio
import os
import re
import select
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cloud_toa import packages
from cloud_toa.balancer import runtime
from cloud_toa.errors import ToaError

_PATIENCE = 60.0
"""Seconds for HAProxy to serve: it may have thousands of certificates, or a slow machine."""
_POLL = 0.02
_ALERT = re.compile(r"(?m)^\[ALERT]\s*(?:\(\d+\))?\s*:\s*(?:config : )?(?P<what>.*)$")
_DONE = re.compile(r"IP changed from|no need to change")
"""What it says to commands that it has followed; nothing to most."""
_NOISE = re.compile(r"^(parsing|Error\(s\) found|Fatal errors found)")
# In the cgroup from the first instruction on: the sender is for sockets that are made there.
_ENTER = 'echo 0 >"$1/cgroup.procs" && shift && exec "$@"'


@dataclass(frozen=True)
class Places:
    """Where HAProxy's files are: in ``folder``, which is root's alone."""

    folder: Path

    @property
    def configuration(self) -> Path:
        """Its configuration."""
        return self.folder / "haproxy.cfg"

    @property
    def master(self) -> Path:
        """Socket of its master."""
        return self.folder / "master.sock"

    @property
    def runtime(self) -> Path:
        """Socket of the runtime API."""
        return self.folder / "runtime.sock"

    @property
    def metrics(self) -> Path:
        """Socket of its metrics."""
        return self.folder / "metrics.sock"

    @property
    def connections(self) -> Path:
        """Pipe with a line for each connection that has ended."""
        return self.folder / "connections"

    @property
    def messages(self) -> Path:
        """Pipe with what it says otherwise."""
        return self.folder / "messages"

    @property
    def certificates(self) -> Path:
        """Folder of certificates with their keys."""
        return self.folder / "certificates"


class Balancer:
    """HAProxy, one of it.

    Args:
        program: its name or path.
        places: its files.
        cgroup: where it runs.
        capabilities: what it may, as setpriv(1) writes them.
    """

    def __init__(
        self, program: str, places: Places, cgroup: Path, capabilities: tuple[str, ...]
    ) -> None:
        self._program = program
        self.places = places
        self._cgroup = cgroup
        self._capabilities = capabilities
        self._child: subprocess.Popen[bytes] | None = None
        self.master: int | None = None
        """Its master's process id; None before there is one, and after its end."""
        self.end: int | None = None
        """File descriptor that becomes readable when its master ends, pidfd_open(2)."""

    async def check(self, configuration: str) -> None:
        """Have HAProxy read a configuration, and change nothing.

        Raises:
            ToaError: it refuses; in its own words.
        """
        tried = self.places.folder / "haproxy.cfg.tried"
        _write(tried, configuration)
        try:
            done = await asyncio.create_subprocess_exec(
                self._program, "-c", "-f", str(tried),
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
        except FileNotFoundError:
            raise ToaError(f"{self._program} is missing: {packages.HAPROXY}") from None
        except OSError as error:
            raise ToaError(f"{self._program} can't be run: {error.strerror}") from None
        said = (await done.communicate())[0].decode(errors="replace")
        if done.returncode:
            raise ToaError(f"HAProxy refuses the configuration: {alert(said, tried)}")

    async def adopt(self) -> bool:
        """Take over one that runs; answer whether there is one."""
        with suppress(ToaError, ProcessLookupError):
            self._hold((await runtime.processes(self.places.master)).master)
            return True
        return False

    async def start(self, configuration: str) -> None:
        """Start it, until it serves.

        Raises:
            ToaError: it ended instead.
        """
        _write(self.places.configuration, configuration)
        connections, messages = (pipe(at) for at in (self.places.connections, self.places.messages))
        limits = ["setpriv", "--inh-caps", "-all", "--no-new-privs", "--bounding-set"]
        allowed = ",".join(["-all", *(f"+{name}" for name in self._capabilities)])
        haproxy = [self._program, "-W", "-S", f"{self.places.master},mode,600"]
        enter = ["sh", "-c", _ENTER, "sh", str(self._cgroup)]
        try:
            self._child = subprocess.Popen(
                [*enter, *limits, allowed, *haproxy, "-f", str(self.places.configuration)],
                stdin=subprocess.DEVNULL,
                stdout=connections,
                stderr=messages,
                start_new_session=True,
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath)},
            )
        finally:
            os.close(connections)
            os.close(messages)
        self._hold(self._child.pid)
        await self._until_served(reloads=0, failed=0)

    async def reload(self, configuration: str) -> None:
        """Have a new worker serve by another configuration; connections go on in the old one.

        Raises:
            ToaError: the new one did not start; the old one goes on.
        """
        before = await runtime.processes(self.places.master)
        former = self.places.configuration.read_text()
        _write(self.places.configuration, configuration)
        assert self.end is not None
        signal.pidfd_send_signal(self.end, signal.SIGUSR2)
        try:
            await self._until_served(before.reloads + 1, before.failed)
        except ToaError:
            _write(self.places.configuration, former)
            raise

    def keep(self, configuration: str) -> None:
        """Leave a configuration for the next start, without a reload."""
        _write(self.places.configuration, configuration)

    def gone(self) -> bool:
        """Whether its master has ended."""
        if self._child is not None and self._child.poll() is not None:
            self._child = None
        return self.end is None or bool(select.select([self.end], [], [], 0)[0])

    async def ended(self) -> None:
        """Wait until its master has."""
        loop = asyncio.get_running_loop()
        over = asyncio.Event()
        while not self.gone():
            assert self.end is not None
            loop.add_reader(self.end, over.set)
            try:
                await over.wait()
            finally:
                loop.remove_reader(self.end)

    async def tell(self, commands: list[str]) -> None:
        """Give commands of the runtime API.

        Raises:
            ToaError: it does not answer, or refuses one; those before it were done.
        """
        for command in commands:
            said = (await runtime.ask(self.places.runtime, command)).strip()
            if said and not _DONE.match(said):
                raise ToaError(f"HAProxy refuses {command!r}: {said}")

    async def stop(self, patience: float) -> None:
        """End it: no new connections, and after ``patience`` seconds, none at all."""
        for number, seconds in (
            (signal.SIGUSR1, patience),
            (signal.SIGTERM, 5),
            (signal.SIGKILL, 5),
        ):
            if self.end is None or self.gone():
                break
            signal.pidfd_send_signal(self.end, number)
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while not self.gone():
                        await asyncio.sleep(_POLL)
        self.forget()

    def forget(self) -> None:
        """It has ended."""
        if self.end is not None:
            os.close(self.end)
        self.end = self.master = None

    def _hold(self, master: int) -> None:
        self.forget()
        self.end, self.master = os.pidfd_open(master), master

    async def _until_served(self, reloads: int, failed: int) -> None:
        """Until the master's worker is one that was made by this many reloads.

        While it loads a configuration, the master answers nobody.
        """
        try:
            async with asyncio.timeout(_PATIENCE):
                while True:
                    if self.gone():
                        raise ToaError("HAProxy ended at its start: its messages say why")
                    with suppress(ToaError):
                        now = await runtime.processes(self.places.master)
                        if now.failed > failed:
                            raise _LoadError
                        if now.reloads >= reloads and now.worker is not None:
                            return
                    await asyncio.sleep(_POLL)
        except _LoadError:
            raise ToaError(
                "HAProxy could not load the configuration: its messages say why"
            ) from None
        except TimeoutError:
            raise ToaError(f"HAProxy did not serve within {_PATIENCE:.0f} s") from None


class _LoadError(Exception):
    pass


def alert(said: str, file: Path) -> str:
    """The first thing that HAProxy complains of, without what surrounds it."""
    found = [what["what"] for what in _ALERT.finditer(said)]
    first = next((what for what in found if not _NOISE.match(what)), None) or next(iter(found), "")
    shown = re.sub(rf"^(parsing )?\[{re.escape(str(file))}:\d+] : ", "", first)
    return shown.strip() or said.strip()[:300]


def pipe(path: Path) -> int:
    """A named pipe, made where it is missing, open for both ends and without waiting."""
    with suppress(FileExistsError):
        os.mkfifo(path, 0o600)
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def _write(path: Path, text: str) -> None:
    new = path.with_name(f"{path.name}.new")
    new.touch(mode=0o600)
    new.write_text(text)
    new.replace(path)
