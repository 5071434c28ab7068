# SPDX-License-Identifier: Apache-2.0
"""toa.ko, ours or another's: the receiver for kernels without the eBPF hooks."""

from cloud_toa.bpf import origin
from cloud_toa.bpf.attachment import Attachments
from cloud_toa.doctor import remedies
from cloud_toa.doctor.finding import Finding, Remedy, absent, advice, there
from cloud_toa.errors import ToaError


def toa(modules: str | None, newer: Remedy, *, receiver: bool, needed: bool) -> Finding:
    """Whether it is loaded.

    Args:
        modules: /proc/modules; None when the kernel takes no modules.
        newer: the commands that bring a kernel with the hooks, where no module can be loaded.
        receiver: whether the eBPF receiver is attached.
        needed: whether the kernel lacks the eBPF hooks.
    """
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
