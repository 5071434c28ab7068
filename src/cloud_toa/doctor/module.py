# SPDX-License-Identifier: Apache-2.0
"""toa.ko, ours or another's: the receiver for kernels without the eBPF hooks."""

from collections.abc import Sequence

from cloud_toa.bpf import origin
from cloud_toa.bpf.attachment import Attachments
from cloud_toa.doctor import remedies
from cloud_toa.doctor.finding import Finding, Remedy, absent, advice, there
from cloud_toa.errors import ToaError
from cloud_toa.foreign_modules import ForeignModule


def toa(
    modules: str | None,
    others: Sequence[ForeignModule],
    newer: Remedy,
    *,
    receiver: bool,
    needed: bool,
) -> Finding:
    """Whether ours is loaded, and no other.

    Args:
        modules: /proc/modules; None when the kernel takes no modules.
        others: TOA modules of others that are loaded.
        newer: the commands that bring a kernel with the hooks, where no module can be loaded.
        receiver: whether the eBPF receiver is attached.
        needed: whether the kernel lacks the eBPF hooks.
    """
    if others:
        detail = (
            f"another TOA receiver is in the kernel: {'; '.join(map(str, others))}; it may believe "
            "everyone (docs/migration.md)"
        )
        remedy = remedies.both(" && ".join(other.command for other in others))
        return absent("toa.ko", detail, remedy) if needed else advice("toa.ko", detail, remedy)
    if modules is None:
        return absent("toa.ko", "not loaded: this kernel takes no modules", newer, needed=needed)
    if not any(line.split(" ", 1)[0] == "toa" for line in modules.splitlines()):
        return absent("toa.ko", "not loaded", remedies.BUILD_MODULE, needed=needed)
    if receiver:
        return advice(
            "toa.ko",
            "loaded beside the eBPF receiver: two answer for each connection, each with its own "
            "kinds and trust",
            remedies.UNLOAD_MODULE,
        )
    return there("toa.ko", "loaded")


def receiver_attached() -> bool:
    """Whether the eBPF receiver is; False too when we may not look."""
    try:
        return bool(Attachments(origin.DATAPATH).running())
    except (ToaError, OSError):
        return False
