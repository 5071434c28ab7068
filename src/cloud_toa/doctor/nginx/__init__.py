# SPDX-License-Identifier: Apache-2.0
"""Whether nginx, as it is configured, names the right clients, and may."""

import shutil
import subprocess
from collections.abc import Sequence

from cloud_toa.doctor import remedies
from cloud_toa.doctor.finding import Finding, State, absent, there
from cloud_toa.doctor.nginx import judgement
from cloud_toa.doctor.nginx.masters import Nginx, found

__all__ = ["findings", "found"]

CLIENTS = "nginx connection per client"
CAP_NET_RAW = "nginx CAP_NET_RAW"
_NET_RAW = 1 << 13  # linux/capability.h


def findings(all_of_them: Sequence[Nginx]) -> list[Finding]:
    """What there is to say of them; nothing where no source is transparent."""
    naming = [nginx for nginx in all_of_them if judgement.transparent(nginx.main)]
    return [*_clients(all_of_them, naming), *_capability(naming)]


def _clients(all_of_them: Sequence[Nginx], naming: Sequence[Nginx]) -> list[Finding]:
    wrong = [
        (nginx, each) for nginx in naming for each in judgement.shared(nginx.main, nginx.version)
    ]
    if wrong:
        says = [
            f"{each.where} names the wrong client: upstream {each.upstream} keeps connections, "
            "which then serve others' requests"
            for _, each in wrong
        ]
        remedy = remedies.kept(
            sorted({each.upstream for _, each in wrong}),
            by_default=all(nginx.version >= judgement.KEEPS_BY_DEFAULT for nginx, _ in wrong),
        )
        return [absent(CLIENTS, "; ".join(dict.fromkeys(says)), remedy)]
    if troubles := [nginx.trouble for nginx in all_of_them if nginx.trouble]:
        return [Finding(CLIENTS, State.NOT_NEEDED, f"not read: {'; '.join(troubles)}")]
    files = ", ".join(dict.fromkeys(nginx.file for nginx in naming))
    return [there(CLIENTS, f"as {files} says")] if naming else []


def _capability(naming: Sequence[Nginx]) -> list[Finding]:
    """Only a master that is root, with workers of another user, needs it."""
    concerned = [
        nginx for nginx in naming if nginx.process.uid == 0 and nginx.user not in {"root", "0"}
    ]
    for nginx in concerned:
        unit = nginx.process.unit
        if nginx.process.pid is None:
            who, lacks = f"{unit} starts nginx", unit is not None and _unit_lacks(unit)
        else:
            permitted = nginx.process.permitted or 0
            who, lacks = f"process {nginx.process.pid} is root", not permitted & _NET_RAW
        if lacks:
            detail = (
                f"{who} without CAP_NET_RAW, which its workers need to become {nginx.user}: "
                'they end with "capset() failed"'
            )
            return [absent(CAP_NET_RAW, detail, remedies.net_raw(unit, nginx.user))]
    return [there(CAP_NET_RAW, "the workers keep it")] if concerned else []


def _unit_lacks(unit: str) -> bool:
    """Whether systemd would start this unit as root without the capability."""
    if shutil.which("systemctl") is None:
        return False
    properties = "LoadState,User,CapabilityBoundingSet"
    said = subprocess.run(
        ["systemctl", "show", f"--property={properties}", unit],
        capture_output=True, text=True, timeout=10, check=False,
    ).stdout  # fmt: skip
    shown = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    return (
        shown.get("LoadState") == "loaded"
        and shown.get("User", "") in {"", "root", "0"}
        and "cap_net_raw" not in shown.get("CapabilityBoundingSet", "cap_net_raw").split()
    )
