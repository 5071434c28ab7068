# SPDX-License-Identifier: Apache-2.0
"""What a host is to be, and what that needs. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from cloud_toa.bpf import edge, origin
from cloud_toa.bpf.datapath import Datapath


@dataclass(frozen=True)
class Profile:
    """One use of a host.

    Attributes:
        words: what follows ``cloud-toa doctor``.
        ready: what a host is that lacks nothing.
        lacking: what a missing thing is missing for.
        datapaths: what is attached there.
        runs: whether a process of ours is the edge, which takes the queue where eBPF fails.
        haproxy: whether that process starts HAProxy; else any load balancer serves.
        cluster: whether it talks to a console.
    """

    words: str
    ready: str
    lacking: str
    datapaths: Sequence[Datapath]
    runs: bool = False
    haproxy: bool = False
    cluster: bool = False


def _command(words: str, *, haproxy: bool = False, cluster: bool = False) -> Profile:
    purpose = f"for `cloud-toa {words}`"
    return Profile(words, purpose, purpose, (edge.DATAPATH,), True, haproxy, cluster)


BOTH = Profile(
    "", "to be an edge and an origin", "for an edge and an origin", (edge.DATAPATH, origin.DATAPATH)
)
PROFILES = {
    profile.words: profile
    for profile in (
        BOTH,
        Profile("edge", "to be an edge", "for an edge", (edge.DATAPATH,)),
        Profile("origin", "to be an origin", "for an origin", (origin.DATAPATH,)),
        _command("run"),
        _command("edge run", haproxy=True),
        _command("node", haproxy=True, cluster=True),
    )
}
