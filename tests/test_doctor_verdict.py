# SPDX-License-Identifier: Apache-2.0
import pytest

from cloud_toa.doctor.finding import Finding, Remedy, State, absent, advice, there
from cloud_toa.doctor.profile import PROFILES
from cloud_toa.doctor.remedies import both
from cloud_toa.doctor.verdict import Verdict, verdict

KERNEL, LIBBPF = Remedy("debian's kernel", "rhel's kernel"), both("libbpf")
BPFFS = absent("bpffs", "not mounted", both("mount"))
HAPROXY = absent("haproxy", "not in PATH", both("haproxy"))


def hook(name: str, remedy: Remedy) -> Finding:
    return absent(f"hook {name}", "", remedy)


@pytest.mark.parametrize(
    ("words", "findings", "expected"),
    [
        ("run", [there("a", "")], "This host is ready for `cloud-toa run`."),
        ("edge", [advice("BPF JIT", "", both("x"))], "This host is ready to be an edge."),
        ("edge run", [HAPROXY], "1 thing is missing for `cloud-toa edge run`: haproxy."),
        ("origin", [BPFFS, HAPROXY], "2 things are missing for an origin: bpffs, haproxy."),
        # One command mends them: one thing.
        (
            "node",
            [hook("a", LIBBPF), hook("b", LIBBPF), absent("libbpf.so.1", "", LIBBPF)],
            "1 thing is missing for `cloud-toa node`: libbpf.so.1.",
        ),
        (
            "origin",
            [hook("a", KERNEL), hook("b", KERNEL), BPFFS],
            "2 things are missing for an origin: bpffs, the kernel's hooks a b.",
        ),
        ("origin", [hook("a", KERNEL)], "1 thing is missing for an origin: the kernel's hook a."),
    ],
)
def test_what_is_missing_is_counted_by_what_mends_it(
    words: str, findings: list[Finding], expected: str
) -> None:
    ready = not any(found.state is State.MISSING for found in findings)
    assert verdict(PROFILES[words], findings) == Verdict(ready, expected)


def test_the_queue_in_ebpf_s_place() -> None:
    lacks = [hook("a", KERNEL), BPFFS]
    assert verdict(PROFILES["run"], [], lacks) == Verdict(
        True,
        "This host is ready for `cloud-toa run` in queue mode, as eBPF lacks bpffs, "
        "the kernel's hook a.",
    )
    small = absent("conntrack", "", both("sysctl"))
    assert verdict(PROFILES["run"], [small], lacks) == Verdict(
        False, "1 thing is missing for `cloud-toa run` in queue mode: conntrack."
    )
