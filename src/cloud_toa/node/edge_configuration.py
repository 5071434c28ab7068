# SPDX-License-Identifier: Apache-2.0
"""An edge's file as HAProxy is given it on this host: its configuration, and files beside it."""

import asyncio
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from cloud_toa.balancer import certificates, open_files, render
from cloud_toa.balancer.families import Addresses
from cloud_toa.balancer.process import Balancer, Places
from cloud_toa.balancer.settings import Service
from cloud_toa.node import edge_sender, state
from cloud_toa.node.edge_file import EdgeFile


@dataclass(frozen=True)
class Host:
    """What HAProxy finds here."""

    datapath: str
    sockets: Places
    certificates: Path
    """The folder of what `put_files` has written."""
    open_files: int
    """That it may have."""
    ipv6: bool


def has_ipv6() -> bool:
    """Whether this host has."""
    return Path("/proc/net/if_inet6").exists()


def text(
    file: EdgeFile,
    services: tuple[Service, ...],
    addresses: Addresses,
    host: Host,
    *,
    drained: bool,
) -> str:
    """HAProxy's configuration by this file, with these services.

    Raises:
        ToaError: it may not have as many connections.
    """
    datapath = host.datapath
    sent = edge_sender.destinations(file, addresses)
    settings = render.Global(
        open_files.connections(file.haproxy.max_connections, host.open_files, file.service),
        file.haproxy.threads,
        file.haproxy.old_connections,
        host.sockets.runtime,
        host.sockets.metrics,
        host.certificates,
        file.access_log.file is not None,
        file.access_log.syslog,
    )
    return render.configuration(
        services, settings, addresses,
        lambda service, origin, address: edge_sender.is_transparent(
            file, datapath, service, origin,
            sent=address is not None and (address, origin.port or 0) in sent,
        ),
        partial(edge_sender.toa, file, datapath),
        ipv6=host.ipv6, drained=drained,
    )  # fmt: skip


def put_files(file: EdgeFile, datapath: str, folder: Path) -> certificates.Files:
    """Write all to ``folder`` that the configuration names; answer it.

    Raises:
        ToaError: it can't be read or written, or is not what it is named as; then nothing was.
    """
    files = certificates.read(file.service)
    if file.access_log.is_on:
        files |= render.log_maps(file.service, partial(edge_sender.toa, file, datapath))
    certificates.put(files, file.service, folder)
    return files


def check(file: EdgeFile) -> bool:
    """Have HAProxy read what it would be given, beside any that runs; answer whether it is here.

    As nobody knows yet, host names lead nowhere, and the limit of open files is the kernel's.

    Raises:
        ToaError: it refuses, or certificates can't be had.
    """
    if shutil.which(file.haproxy.program) is None:
        certificates.read(file.service)
        return False
    datapath = "bpf" if file.toa.datapath == "auto" else file.toa.datapath
    # There are copies of private keys in it.
    with TemporaryDirectory(prefix="cloud-toa-") as folder:
        places = Places(Path(folder))
        put_files(file, datapath, places.certificates)
        # Sockets are not made, but a path of theirs that is too long is refused.
        sockets = Places(state.RUN)
        host = Host(datapath, sockets, places.certificates, open_files.allowed(), has_ipv6())
        tried = text(file, file.service, {}, host, drained=False)
        asyncio.run(Balancer(file.haproxy.program, places, Path(), ()).check(tried))
    return True
