# SPDX-License-Identifier: Apache-2.0
"""eBPF programs of others at the hooks that ours use, anywhere on this host.

They may do as they like there, and each is named: what it is cannot be told from outside.
Another vendor's receiver is one at getpeername; who takes callback flags, one at sockops.
"""

from collections.abc import Sequence

from cloud_toa.bpf import others
from cloud_toa.bpf.datapath import Datapath
from cloud_toa.bpf.others import Other
from cloud_toa.bpf.pinned import Pinned
from cloud_toa.doctor import remedies
from cloud_toa.doctor.finding import Finding, absent, there
from cloud_toa.errors import ToaError

_NAME = "other programs"


def programs(datapaths: Sequence[Datapath], ours: Sequence[Datapath]) -> Finding:
    """Those that could meet a datapath's sockets."""
    try:
        known = [info.id for datapath in ours for info in Pinned(datapath).programs()]
        found = others.anywhere(datapaths, known)
    except (ToaError, OSError) as error:
        # What is missing for it has a line of its own.
        return absent(_NAME, f"not looked for: {error}", remedies.SUDO, needed=False)
    return there(_NAME, "; ".join(map(_said, found)) or "none at these hooks")


def _said(other: Other) -> str:
    receiver = other.hook.startswith("cgroup/getpeername")
    return f"{other}{', perhaps another receiver' if receiver else ''}"
