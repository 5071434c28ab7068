# SPDX-License-Identifier: Apache-2.0
"""What edges have left whose network namespace is gone: nobody else can come for it.

Their rules and routes went with the namespace, and no process can be in it. There may be eBPF
programs at a cgroup, HAProxy's empty cgroup, and files, copies of private keys among them.
"""

import fcntl
import logging
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cloud_toa import namespaces
from cloud_toa.bpf import edge
from cloud_toa.errors import ToaError
from cloud_toa.node import state

_log = logging.getLogger(__name__)


def clean() -> bool:
    """Remove what belongs to no namespace that is left; answer whether there was any.

    What can't be seen to belong to none is left alone (`namespaces.living`).
    """
    found = _set_aside()
    if not found:
        return False
    used = set(_cgroups(map(state.read, _folders(r"\d+"))))
    left = [state.read(folder) for folder in found]
    theirs = set(_cgroups(left)) - used
    attached = set(_cgroups(shown for shown in left if shown.get("auto_setup"))) - used
    with suppress(ToaError):  # without bpffs, none of ours can be there
        if attached:
            edge.detach([Path(path) for path in attached])
    for path in theirs:
        if Path(path).name.startswith("cloud-toa-haproxy-"):
            with suppress(OSError):  # it is gone, or somebody is in it
                Path(path).rmdir()
    for folder in found:
        shutil.rmtree(folder, ignore_errors=True)
    _log.info("removed what edges had left in network namespaces that are gone: %d", len(found))
    return True


def _set_aside() -> list[Path]:
    """The folders of namespaces that are gone, none of them under a name that one could have."""
    others = [folder for folder in _folders(r"\d+") if folder != state.directory()]
    living = namespaces.living() if others else None
    for folder in others:
        if living is not None and int(folder.name) not in living:
            with suppress(OSError):  # a namespace with this number has just begun
                _unless_held(folder)
    return _folders(r"\d+\..*")


def _unless_held(folder: Path) -> None:
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), (folder / "lock").stat()):
            state.set_aside(folder)
    finally:
        os.close(lock)


def _folders(name: str) -> list[Path]:
    with suppress(FileNotFoundError):  # no edge ever ran
        return [path for path in state.RUN.iterdir() if re.fullmatch(name, path.name)]
    return []


def _cgroups(left: Iterable[dict[str, Any]]) -> Iterable[str]:
    for shown in left:
        yield from shown.get("cgroups", [])
        if "edge" in shown:
            yield shown["edge"]["cgroup"]
