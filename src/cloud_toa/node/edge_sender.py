# SPDX-License-Identifier: Apache-2.0
"""The sender beside our own HAProxy: which origins get the option, and how it is set up.

By eBPF, HAProxy connects to every origin from the client's address, and the sender's list
of destinations says who gets the option: so a setting of TOA changes that list alone. By
the queue, only those that get it are connected to so, as the list also says for whom
addresses are translated. With an access log as well: HAProxy's lines say whether there was
TOA, and connections that a setting came too late for are to keep what they began with.
"""

import os
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from pathlib import Path

from cloud_toa.balancer.families import Addresses, known
from cloud_toa.balancer.log_line import Toa
from cloud_toa.balancer.render import cross_family
from cloud_toa.balancer.settings import Origin, Service
from cloud_toa.config import NoPort, Where
from cloud_toa.nfqueue.rules import Queues
from cloud_toa.node.choice import Chosen
from cloud_toa.node.edge_file import EdgeFile
from cloud_toa.node.settings import RunSettings, usual_queues
from cloud_toa.origins import Destination, Origins

CAPABILITIES: Mapping[str, tuple[str, ...]] = {
    "bpf": ("net_bind_service",),
    # Its packets do leave from the clients' addresses.
    "queue": ("net_bind_service", "net_raw"),
}
"""What HAProxy may, by datapath."""


def destinations(file: EdgeFile, addresses: Addresses) -> Origins:
    """Whose connections get the option."""
    if not file.toa.enabled:
        return Origins()
    found = (
        Destination(ip_network(address), origin.port)
        for service in file.service
        for origin in service.origin
        if service.has_toa(origin)
        for address in known(origin, addresses)
    )
    return Origins(tuple(dict.fromkeys(found)))


def is_transparent(
    file: EdgeFile, datapath: str, service: Service, origin: Origin, *, sent: bool
) -> bool:
    """Whether HAProxy connects to this origin from the client's address.

    Args:
        file: the settings.
        datapath: by which there is TOA.
        service: whose origin it is.
        origin: what it is.
        sent: whether its address is among `destinations`: if not for its own sake, another's.
    """
    if origin.proxy is not None:
        return False
    if datapath == "queue" or file.access_log.is_on:
        return _why_not(file, datapath, service, origin) == "-"
    return service.has_toa(origin) or not sent


def toa(file: EdgeFile, datapath: str, service: Service, origin: Origin) -> Toa:
    """What the access log says of connections to this origin, as far as settings tell."""
    why_not = _why_not(file, datapath, service, origin)
    if why_not != "-":
        return Toa("-", why_not)
    if not file.toa.auto_setup:
        return Toa("unknown", "by_hand")
    # What becomes of a packet in a queue, nobody knows but who counts there.
    return Toa("queue" if datapath == "queue" else str(_where(file)))


def warnings(file: EdgeFile, datapath: str) -> Iterator[str]:
    """A line for each service that can't have TOA as it is."""
    for service in file.service if file.toa.enabled and datapath == "queue" else ():
        if service.toa and cross_family(service):
            yield (
                f"service {service.name} has no TOA: in queue mode, its listeners and origins must "
                "be of one IP version, and addresses"
            )


def _why_not(file: EdgeFile, datapath: str, service: Service, origin: Origin) -> str:
    """Why connections to this origin have no TOA; ``-`` where they have."""
    if origin.proxy is not None:
        return "proxy"
    if not file.toa.enabled:
        return "off"
    if not service.has_toa(origin):
        return "off_service" if origin.toa is None else "off_origin"
    if datapath == "queue" and cross_family(service):
        return "ip_versions"
    return "-"


def _where(file: EdgeFile) -> Where:
    return Where.parse(",".join(file.toa.where))


def settings(file: EdgeFile, chosen: Chosen, cgroup: Path, addresses: Addresses) -> RunSettings:
    """The sender's."""
    asked = file.toa
    if asked.max_queue_id is None:
        queues = usual_queues(asked.min_queue_id, os.cpu_count() or 1)
    else:
        queues = Queues(asked.min_queue_id, asked.max_queue_id)
    return RunSettings(
        destinations(file, addresses),
        queues,
        asked.option_type_v4,
        asked.option_type_v6,
        auto_setup=asked.auto_setup,
        datapath=chosen.datapath,
        cgroups=(str(cgroup),),
        where=_where(file),
        tell=file.access_log.file is not None and asked.auto_setup,
        no_port=NoPort.parse(asked.no_port),
    )
