# SPDX-License-Identifier: Apache-2.0
"""What all findings come to, in one line. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from cloud_toa.doctor.finding import Finding, State
from cloud_toa.doctor.hooks import PREFIX
from cloud_toa.doctor.profile import Profile


@dataclass(frozen=True)
class Verdict:
    """Whether nothing is missing, and the line that says so or names what is."""

    ready: bool
    text: str


def verdict(
    profile: Profile, findings: Sequence[Finding], ebpf_lacks: Sequence[Finding] = ()
) -> Verdict:
    """Sum up what was found for this profile.

    Args:
        profile: what the host is to be.
        findings: all of them.
        ebpf_lacks: those for which the queue datapath takes eBPF's place.
    """
    things = _things([found for found in findings if found.state is State.MISSING])
    mode = " in queue mode" if ebpf_lacks else ""
    if things:
        count = "1 thing is" if len(things) == 1 else f"{len(things)} things are"
        return Verdict(False, f"{count} missing {profile.lacking}{mode}: {', '.join(things)}.")
    why = f", as eBPF lacks {', '.join(_things(ebpf_lacks))}" if ebpf_lacks else ""
    return Verdict(True, f"This host is ready {profile.ready}{mode}{why}.")


def _things(lacks: Sequence[Finding]) -> list[str]:
    """Their names. What one command mends is one thing, where hooks are concerned.

    Hooks that could not be tried, or that a newer kernel has, share the remedy of what is named.
    """
    named = [found for found in lacks if not found.name.startswith(PREFIX)]
    mended = {found.remedy_debian for found in named}
    hooks: dict[str | None, list[str]] = {}
    for found in lacks:
        if found.name.startswith(PREFIX) and found.remedy_debian not in mended:
            hooks.setdefault(found.remedy_debian, []).append(found.name.removeprefix(PREFIX))
    return [found.name for found in named] + [
        f"the kernel's {'hook' if len(names) == 1 else 'hooks'} {' '.join(names)}"
        for names in hooks.values()
    ]
