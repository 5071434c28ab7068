# SPDX-License-Identifier: Apache-2.0
"""What an edge serves, as it is in force: HAProxy and the sender by the same settings.

Settings are applied whole or not at all: they are checked, by HAProxy too, and only then
does anything change. What can be changed in the running HAProxy is; else it is reloaded,
with connections going on. The sender knows new origins before HAProxy does, and forgets
former ones after it.
"""

import logging
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path

from cloud_toa.balancer import certificates, changes, expiry, open_files, ports, render
from cloud_toa.balancer.addresses import Listen
from cloud_toa.balancer.families import Addresses, without_places
from cloud_toa.balancer.pipes import check_access_log
from cloud_toa.balancer.process import Balancer, Places
from cloud_toa.balancer.settings import Service
from cloud_toa.bpf import cgroup
from cloud_toa.errors import ToaError
from cloud_toa.node import edge_configuration, edge_sender
from cloud_toa.node.choice import Chosen
from cloud_toa.node.edge_file import EdgeFile
from cloud_toa.node.names import Names, names
from cloud_toa.node.senders import BpfSender, QueueSender, Sender
from cloud_toa.node.settings import RunSettings
from cloud_toa.node.state import State
from cloud_toa.origins import Origins

_log = logging.getLogger(__name__)

_FIXED = (
    *("toa.datapath", "toa.auto_setup", "toa.min_queue_id", "toa.max_queue_id"),
    *("haproxy.program", "metrics"),
)
"""Keys whose values hold from start to end."""


class FixedError(ToaError):
    """All is as it should be, but for a value that holds from start to end."""


class Services:
    """Services that are served; not before `start`.

    Args:
        file: the settings to begin with.
        chosen: the datapath.
        state: where files are kept.
    """

    def __init__(self, file: EdgeFile, chosen: Chosen, state: State) -> None:
        self.file = file
        self.drained = False
        """Whether new connections are refused; those that are there go on."""
        self._chosen = chosen
        self._ipv6 = edge_configuration.has_ipv6()
        self._open_files = open_files.most()
        self._names = Names()
        self._files: certificates.Files = {}
        self._warned: tuple[str, ...] = ()
        folder = state.haproxy
        folder.mkdir(mode=0o700, exist_ok=True)
        self.cgroup = _home(state)
        self.cgroup.mkdir(exist_ok=True)
        self.balancer = Balancer(
            file.haproxy.program,
            Places(folder),
            self.cgroup,
            edge_sender.CAPABILITIES[chosen.datapath],
        )
        make = QueueSender if chosen.datapath == "queue" else BpfSender
        self._sent = self.sender_settings(file)
        self.sender: Sender = make(self._sent, state)

    async def prepare(self) -> bool:
        """See that these settings can be in force; answer whether HAProxy runs already.

        Raises:
            ToaError: they can't; nothing was changed.
        """
        check_access_log(self.file.access_log.file)
        await self._names.look_up(names(self.file.service))
        self._files = self._put_files(self.file)
        await self.balancer.check(self.configuration())
        if await self.balancer.adopt():
            assert self.balancer.master is not None
            # It may have been started with another limit, which it keeps.
            self._open_files = min(self._open_files, open_files.of(self.balancer.master))
            self._check_ports(self.file, ports.of(self.balancer.places.configuration.read_text()))
            return True
        ports.check(listen for service in self.file.service for listen in service.addresses)
        return False

    async def start(self, *, adopted: bool) -> None:
        """Serve, once the sender is at work.

        Raises:
            ToaError: see `Balancer.start` and `Sender.change`.
        """
        self._send(self.sender_settings(self.file))
        if adopted:
            await self.reload()
            _log.info("took over HAProxy, process %s", self.balancer.master)
        else:
            await self.balancer.start(self.configuration())
            _log.info("HAProxy is process %s", self.balancer.master)
        self._keep_files()

    def leave(self) -> None:
        """Remove HAProxy's cgroup and files, unless it is there; after the sender's end."""
        self.balancer.forget()
        with suppress(OSError):  # a cgroup with somebody in it can't be removed
            self.cgroup.rmdir()
            shutil.rmtree(self.balancer.places.folder, ignore_errors=True)

    async def start_again(self) -> None:
        """After HAProxy has ended by itself.

        Raises:
            ToaError: see `Balancer.start`.
        """
        await self.balancer.start(self.configuration())

    async def reload(self) -> None:
        """Have a new worker of HAProxy serve the same; connections go on in the old one.

        Raises:
            ToaError: see `Balancer.reload`.
        """
        await self.balancer.reload(self.configuration())

    async def apply(self, new: EdgeFile) -> str:
        """Have these settings instead; answer how HAProxy was brought there.

        Raises:
            ToaError: they can't be; nothing was changed.
            FixedError: they can only be by a new start.
        """
        old, before = self.file, self._names.addresses
        check_access_log(new.access_log.file)
        await self._names.look_up(names(new.service))
        try:
            files = self._put_files(new)
            await self.balancer.check(self.configuration(new))
            self._check_ports(new, ports.of(self.configuration()))
            both = self.sender_settings(new, edge_sender.destinations(old, before))
            for key in _FIXED:
                if attrgetter(key)(new) != attrgetter(key)(old):
                    raise FixedError(f"{key} can't change while the edge runs: start it anew")
            self._send(both)
            done = await self._change_balancer(new, before, files)
        except ToaError:
            self._names.addresses = before
            self._send(self.sender_settings(old))
            raise
        self._send(self.sender_settings(new))
        self.file = new
        self._keep_files()
        self.warn()
        return done

    async def drain(self, drained: bool) -> None:
        """Refuse new connections, or take them again; those that are there go on.

        A disabled frontend of HAProxy lets go of its ports, so that clients are refused at once
        and what is in front of this host tries another one. It stays so in the configuration:
        a worker that began without a frontend can't have it, and is reloaded.

        Raises:
            ToaError: HAProxy can't have its ports back; nothing was changed.
        """
        if drained == self.drained:
            return
        names = map(render.frontend_name, render.frontends(self.file.service))
        verb = "disable" if drained else "enable"
        configuration = self.configuration(drained=drained)
        try:
            await self.balancer.tell([f"{verb} frontend {name}" for name in names])
            self.balancer.keep(configuration)
        except ToaError:
            await self.balancer.reload(configuration)
        # Not before: others ask meanwhile, and believe it.
        self.drained = drained
        _log.info("new connections are %s", "refused: drained" if drained else "taken again")

    async def look_up_names(self) -> bool:
        """Follow origins whose names lead elsewhere now; answer whether some do.

        Raises:
            ToaError: HAProxy or the sender can't be told; nothing was changed.
        """
        before = self._names.addresses
        await self._names.look_up(names(self.file.service))
        if self._names.addresses == before:
            return False
        former = edge_sender.destinations(self.file, before)
        try:
            self._send(self.sender_settings(self.file, former))
            await self._change_balancer(self.file, before, self._files)
        except ToaError:
            self._names.addresses = before
            raise
        finally:
            self._send(self.sender_settings(self.file))
        return True

    @property
    def balancer_processes(self) -> list[int]:
        """Of HAProxy, all that there are."""
        return list(map(int, (self.cgroup / "cgroup.procs").read_text().split()))

    def sender_settings(self, file: EdgeFile, beside: Origins | None = None) -> RunSettings:
        """The sender's; with the destinations ``beside`` as well."""
        settings = edge_sender.settings(file, self._chosen, self.cgroup, self._names.addresses)
        if beside is None:
            return settings
        both = settings.origins.destinations + beside.destinations
        return replace(settings, origins=Origins(tuple(dict.fromkeys(both))))

    def configuration(self, file: EdgeFile | None = None, *, drained: bool | None = None) -> str:
        """HAProxy's; of the settings in force, or of others."""
        file = file or self.file
        return self._render(file, file.service, self._names.addresses, drained)

    def _render(
        self,
        file: EdgeFile,
        services: tuple[Service, ...],
        addresses: Addresses,
        drained: bool | None = None,
    ) -> str:
        places = self.balancer.places
        host = edge_configuration.Host(
            self._chosen.datapath, places, places.certificates, self._open_files, self._ipv6
        )
        drained = self.drained if drained is None else drained
        return edge_configuration.text(file, services, addresses, host, drained=drained)

    async def _change_balancer(
        self, new: EdgeFile, before: Addresses, files: certificates.Files
    ) -> str:
        """Bring HAProxy there; answer how."""
        old, text = self.file, self.configuration(new)
        fixed = [
            self._render(file, changes.without(file.service), without_places(addresses))
            for file, addresses in ((old, before), (new, self._names.addresses))
        ]
        if fixed[0] == fixed[1] and files == self._files:
            commands = changes.commands(
                new.service, old.service, self._names.addresses, before, ipv6=self._ipv6
            )  # fmt: skip
            try:
                await self.balancer.tell(commands)
            except ToaError as error:
                _log.warning("%s: it is reloaded instead", error)
            else:
                self.balancer.keep(text)
                return f"without a reload: {'; '.join(commands) or 'nothing for HAProxy'}"
        await self.balancer.reload(text)
        self._files = files
        return "by a reload of HAProxy, connections go on"

    def _put_files(self, file: EdgeFile) -> certificates.Files:
        folder = self.balancer.places.certificates
        return edge_configuration.put_files(file, self._chosen.datapath, folder)

    def _keep_files(self) -> None:
        """Nobody else's: they are in force by now."""
        try:
            certificates.keep(self._files, self.file.service, self.balancer.places.certificates)
        except ToaError as error:
            _log.warning("copies of former certificates and keys stay: %s", error)

    def warn(self, *, again: bool = False) -> None:
        """Of what an operator should know and is no mistake; what was said, only to say it again.

        Certificates that have expired, or will soon; too few connections; services without TOA.
        """
        asked, services = self.file.haproxy.max_connections, self.file.service
        lines = (
            *expiry.warnings(services, datetime.now(UTC)),
            *open_files.warnings(asked, self._open_files, services),
            *edge_sender.warnings(self.file, self._chosen.datapath),
        )
        for line in lines:
            if again or line not in self._warned:
                _log.warning("%s", line)
        self._warned = lines

    def _check_ports(self, new: EdgeFile, ours: Iterable[Listen]) -> None:
        """See that those are to be had which HAProxy does not listen on already."""
        ours = list(ours)
        ports.check(
            listen
            for service in new.service
            for listen in service.addresses
            if not any(listen.overlaps(other) for other in ours)
        )

    def _send(self, settings: RunSettings) -> None:
        """Have the sender write by these, unless it does."""
        if settings != self._sent:
            self.sender.change(settings)
            self._sent = settings


def _home(state: State) -> Path:
    """HAProxy's cgroup: the one that a killed node has left, else a new one.

    Where a unit has ``Delegate=``, it is below the unit's, whose limits hold for it.
    """
    former = state.left_over().get("edge", {}).get("cgroup")
    if former is not None and Path(former).is_dir():
        return Path(former)
    above = cgroup.delegated() or cgroup.root()
    return above / state.cgroup_name
