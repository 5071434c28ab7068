# SPDX-License-Identifier: Apache-2.0
import pytest

from cloud_toa.bpf import edge, origin
from cloud_toa.bpf.attachment import Hook
from cloud_toa.cli.doctor import text
from cloud_toa.doctor import ebpf, hooks, lacks_ebpf, module, remedies
from cloud_toa.doctor.finding import Finding, Remedy, State, absent, advice, there
from cloud_toa.doctor.hooks import Trial, Verdict
from cloud_toa.foreign_modules import ForeignModule

NEWER, LIBBPF = Remedy("debian's kernel", "rhel's kernel"), Remedy("libbpf1", "libbpf")
SOCKOPS, BIND4 = edge.DATAPATH.hooks[:2]
ROOT = ebpf.Privileges(0, 0x1FFFFFFFFFF, first_namespace=True)

VERIFIER_LOG = """\
libbpf: prog 'edge_sockops': BPF program load failed: Invalid argument
libbpf: prog 'edge_sockops': -- BEGIN PROG LOAD LOG --
0: R1=ctx() R10=fp0
154: (85) call unknown#144
invalid func unknown#144
processed 62 insns (limit 1000000) max_states_per_insn 0 total_states 5 peak_states 5 mark_read 0
-- END PROG LOAD LOG --
libbpf: prog 'edge_sockops': failed to load: -22
libbpf: failed to load object 'edge.bpf.o'
"""
HOOK_LOG = """\
libbpf: prog 'origin_peer4': BPF program load failed: Invalid argument
libbpf: prog 'origin_peer4': failed to load: -22
"""


def loaded(hook: Hook) -> Trial:
    return Trial(hook, Verdict.LOADED)


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (VERIFIER_LOG, "invalid func unknown#144"),
        (HOOK_LOG, "Invalid argument"),
        ("libbpf: Error in bpf_create_map_xattr(senders):Invalid argument(-22)\n", ""),
        ("", ""),
    ],
)
def test_the_reason_for_a_refusal_is_the_line_that_tells_it(log: str, expected: str) -> None:
    assert hooks.reason(log) == expected


def test_a_hook_is_there_when_every_program_of_it_loads() -> None:
    shared = [loaded(SOCKOPS), loaded(origin.DATAPATH.hooks[0])]
    assert hooks.findings(shared, NEWER, LIBBPF) == [
        Finding("hook sockops", State.OK, "the kernel takes edge_sockops, origin_sockops")
    ]


def test_a_hook_is_missing_when_one_program_of_it_is_refused() -> None:
    shared = [loaded(SOCKOPS), Trial(origin.DATAPATH.hooks[0], Verdict.REFUSED, "why")]
    (found,) = hooks.findings(shared, NEWER, LIBBPF)
    assert (found.state, found.remedy_debian, found.remedy_rhel) == (
        State.MISSING,
        "debian's kernel",
        "rhel's kernel",
    )
    assert "origin_sockops (why): Linux 5.10 or later" in found.detail


def test_a_hook_that_was_not_tried_is_missing_and_says_how_to_try_it() -> None:
    trials = [Trial(SOCKOPS, Verdict.NOT_ALLOWED), Trial(BIND4, Verdict.NO_LIBBPF)]
    not_allowed, no_library = hooks.findings(trials, NEWER, LIBBPF)
    assert not_allowed.state is no_library.state is State.MISSING
    assert not_allowed.detail == "not tried: run with sudo to try"
    assert no_library.remedy_debian == "libbpf1"


@pytest.mark.parametrize(
    ("trials", "release", "expected"),
    [
        ([loaded(SOCKOPS), loaded(BIND4)], "6.1.0-13-amd64", False),
        ([loaded(SOCKOPS), Trial(BIND4, Verdict.REFUSED)], "6.1.0-13-amd64", True),
        # Backports count: what was seen to work works.
        ([loaded(SOCKOPS), loaded(BIND4)], "4.18.0-553.el8_10.x86_64", False),
        # What could not be tried is judged by the version.
        ([Trial(SOCKOPS, Verdict.NOT_ALLOWED)], "5.10.0-28-amd64", False),
        ([Trial(SOCKOPS, Verdict.NO_LIBBPF)], "5.9.16", True),
    ],
)
def test_only_a_kernel_that_cannot_do_it_calls_for_the_ways_around(
    trials: list[Trial], release: str, expected: bool
) -> None:
    assert lacks_ebpf(trials, release) is expected


def test_kernel_versions_are_numbers() -> None:
    releases = "6.18.44-fc-v657", "5.10", "10.0-rc1", "mainline"
    assert [ebpf.version(release) for release in releases] == [(6, 18), (5, 10), (10, 0), (0, 0)]


@pytest.mark.parametrize(
    ("release", "has_hooks", "expected"),
    [
        ("5.10.0", False, State.OK),
        ("5.9.16", False, State.MISSING),
        ("4.18.0-553.el8_10.x86_64", True, State.OK),
    ],
)
def test_linux(release: str, has_hooks: bool, expected: State) -> None:
    found = ebpf.linux(release, NEWER, has_hooks=has_hooks)
    assert found.state is expected
    assert release in found.detail
    assert (found.remedy_debian == "debian's kernel") is (expected is State.MISSING)


@pytest.mark.parametrize(
    ("own", "expected", "words"),
    [
        (ROOT, State.OK, "CAP_SYS_ADMIN"),
        (ebpf.Privileges(0, 1 << 21, first_namespace=True), State.OK, "CAP_SYS_ADMIN"),
        # CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: enough to load, too little to attach.
        (
            ebpf.Privileges(0, 1 << 39 | 1 << 12 | 1 << 38, first_namespace=True),
            State.MISSING,
            "without CAP_SYS_ADMIN",
        ),
        (ebpf.Privileges(1000, 0, first_namespace=True), State.MISSING, "user 1000 is not root"),
        (ebpf.Privileges(0, ROOT.effective, first_namespace=False), State.MISSING, "namespace"),
    ],
)
def test_capabilities(own: ebpf.Privileges, expected: State, words: str) -> None:
    found = ebpf.capabilities(own)
    assert found.state is expected
    assert own.suffice is (expected is State.OK)
    assert words in found.detail


@pytest.mark.parametrize(
    ("setting", "state", "remedy"),
    [
        ("1", State.OK, None),
        ("0", State.NOT_NEEDED, "sysctl -w net.core.bpf_jit_enable=1"),
        (None, State.NOT_NEEDED, None),
    ],
)
def test_a_jit_that_is_off_costs_speed_and_fails_nothing(
    setting: str | None, state: State, remedy: str | None
) -> None:
    found = ebpf.jit(setting)
    assert (found.state, found.remedy_debian, found.remedy_rhel) == (state, remedy, remedy)


MODULES = """\
nf_conntrack 172032 1 nf_nat, Live 0xffffffffc0a00000
toa 16384 0 - Live 0xffffffffc09f0000 (OE)
"""


@pytest.mark.parametrize(
    ("modules", "receiver", "needed", "state", "remedy"),
    [
        (MODULES, False, False, State.OK, None),
        (MODULES, False, True, State.OK, None),
        (MODULES, True, False, State.NOT_NEEDED, "rmmod toa"),
        # A name that only begins or ends so is another module.
        ("toa_x 1 0 - Live 0\n", False, False, State.NOT_NEEDED, None),
        ("nf_conntrack 1 1 toa, Live 0\n", False, True, State.MISSING, "modprobe toa"),
        (None, False, False, State.NOT_NEEDED, None),
        (None, False, True, State.MISSING, "'s kernel"),
    ],
)
def test_toa_ko(
    modules: str | None, receiver: bool, needed: bool, state: State, remedy: str | None
) -> None:
    found = module.toa(modules, [], NEWER, receiver=receiver, needed=needed)
    assert found.state is state
    assert str(found.remedy_debian).endswith(str(remedy))
    assert str(found.remedy_rhel).endswith(str(remedy))


OTHERS = [ForeignModule("tcp_toa", ("version 2.0.0",), ("socket option 4096",))]


@pytest.mark.parametrize(
    ("needed", "others", "state", "remedy"),
    [
        (True, OTHERS, State.MISSING, "rmmod tcp_toa"),
        (False, OTHERS, State.NOT_NEEDED, "rmmod tcp_toa"),
        (False, [*OTHERS, ForeignModule("toa")], State.NOT_NEEDED, "rmmod tcp_toa && rmmod toa"),
        (False, [ForeignModule(None, (), ("/proc/net/toa_stats",))], State.NOT_NEEDED, "lsmod"),
    ],
)
def test_a_module_of_others(
    needed: bool, others: list[ForeignModule], state: State, remedy: str
) -> None:
    modules = MODULES if others[0].name else None
    found = module.toa(modules, others, NEWER, receiver=False, needed=needed)
    assert (found.state, found.remedy_debian, found.remedy_rhel) == (state, remedy, remedy)
    assert all(str(other) in found.detail for other in others)


@pytest.mark.parametrize(
    ("host", "debian", "rhel"),
    [
        ({}, "package", "package"),
        ({"ID": "debian", "VERSION_ID": "12"}, "package", "package"),
        ({"ID": "debian", "VERSION_ID": "11"}, "source", "package"),
        ({"ID": "debian"}, "package", "package"),  # testing has no number
        ({"ID": "ubuntu", "VERSION_ID": "24.04"}, "package", "package"),
        ({"ID": "ubuntu", "VERSION_ID": "22.04"}, "source", "package"),
        ({"ID": "rhel", "VERSION_ID": "9.4"}, "package", "package"),
        (
            {"ID": "rocky", "ID_LIKE": "rhel centos fedora", "VERSION_ID": "8.10"},
            "package",
            "source",
        ),
    ],
)
def test_libbpf_comes_from_its_source_where_no_package_has_it(
    host: dict[str, str], debian: str, rhel: str
) -> None:
    remedy = remedies.libbpf(host)
    assert ("source" if "make -C libbpf" in remedy.debian else "package") == debian
    assert ("source" if "make -C libbpf" in remedy.rhel else "package") == rhel


def test_ubuntu_has_newer_kernels_under_a_name_of_its_own() -> None:
    assert "linux-generic-hwe-20.04" in (
        remedies.kernel({"ID": "ubuntu", "VERSION_ID": "20.04"}).debian
    )
    assert "linux-image-" in remedies.kernel({"ID": "debian", "VERSION_ID": "11"}).debian


def test_text_has_columns_and_remedies_below() -> None:
    findings = [
        there("nft", "1.0.6"),
        absent("bpffs", "not mounted", Remedy("mount it", "mount it")),
        absent("libbpf.so.1", "not found", Remedy("apt", "dnf")),
        absent("NFQUEUE", "none", Remedy("apt", "dnf"), needed=False),
        advice("BPF JIT", "off", Remedy("sysctl", "sysctl")),
    ]
    assert text(findings) == (
        "ok          nft          1.0.6\n"
        "missing     bpffs        not mounted\n"
        "    everywhere: mount it\n"
        "missing     libbpf.so.1  not found\n"
        "    Debian, Ubuntu: apt\n"
        "    RHEL, Rocky: dnf\n"
        "not needed  NFQUEUE      none\n"
        "not needed  BPF JIT      off\n"
        "    everywhere: sysctl"
    )
