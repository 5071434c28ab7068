# SPDX-License-Identifier: Apache-2.0
"""Every getsockopt() and setsockopt() but our own is answered as by the kernel alone.

`option_sweep.c` asks for all of them, without programs and with. As soon as there is any
program, the kernel refuses three kinds of calls before it runs it, also for options that do
not look at what is wrong: getsockopt() with a negative length (EINVAL); setsockopt() with a
null pointer and a length, and getsockopt() that succeeded with these (EFAULT). A program that
does nothing shows the same.
"""

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cloud_toa.bpf import edge, origin, others
from cloud_toa.config import EdgeSettings
from cloud_toa.demo.lab import Lab, inside
from cloud_toa.isolation import Namespace, run
from tests.netns.conftest import receive
from tests.netns.foreign import GETSOCKOPT, SETSOCKOPT, attached
from tests.netns.traffic import wait_until

FRESH = (
    *("tcp4", "tcp6", "mptcp4", "mptcp6", "udp4", "udp6", "raw4", "raw6"),
    *("unix", "unix-datagrams", "netlink", "packet"),
)
WITH_SOMETHING_TO_TELL = (
    *("tcp4-filter", "tcp4-connected", "tcp6-listening", "unix-connected", "netlink-member"),
)
MODULES = ("rds", "sctp", "dccp") if Path("/run/vm/settings").exists() else ()
"""Sockets that load a module: in virtual machines alone (`tests/vm/init`)."""

OURS = re.compile(r"m?p?tcp[46]\S* 0 (4096|4097)$")
TRANSPARENT = re.compile(r"tcp[46]\S* (0 19|41 75)$")
"""The sender has the kernel do something else; what is answered must be the same."""
BEFORE_PROGRAMS = {
    "get": re.compile(r" ((null)?-1|null[1-9]\d*)="),
    "set": re.compile(r" null-?[1-9]\d*,0="),
}

BOTH = (*edge.DATAPATH.hooks, *origin.DATAPATH.hooks)
Answers = dict[str, list[str]]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    program = tmp_path / "option_sweep"
    source = Path(__file__).with_name("option_sweep.c")
    subprocess.run(["clang", "-O2", "-o", str(program), str(source)], check=True)
    return program


@pytest.fixture
def network() -> Iterator[Namespace]:
    network = Namespace("options")
    network.ip("link set lo up")
    yield network
    network.remove()


def answers(sweep: Path, network: Namespace, place: Path, call: str) -> Answers:
    """By socket, level and name: what each length and pointer was answered."""
    sockets = [*FRESH, *MODULES, *(WITH_SOMETHING_TO_TELL if call == "get" else ())]
    # Another run of the tests on this host may have attached to all of it.
    wait_until(lambda: not above(place), reason=lambda: f"these answer too: {above(place)}")
    with inside(place), network.entered():
        said = run(str(sweep), call, *sockets)
    lines = (line.split(":", 1) for line in said.splitlines())
    return {option: re.findall(r" \S+", found) for option, found in lines}


def above(place: Path) -> list[others.Other]:
    """Programs that answer to the cgroup's sockets as well, being attached above it."""
    hooks = (hook for hook in BOTH if hook.name.endswith("sockopt"))
    return [other for hook in hooks for other in others.holding(place.parent, hook)]


def different(call: str, alone: Answers, beside: Answers, idle: Answers) -> list[str]:
    """What the kernel alone answers otherwise, unless it does with a program that does nothing."""
    found = []
    for option in sorted(alone | beside):
        if OURS.match(option):
            continue
        if option not in alone or option not in beside:
            found.append(f"{option} {'is there' if option in beside else 'is gone'}")
            continue
        for one, other, still in zip(alone[option], beside[option], idle[option], strict=True):
            if other == one or (call == "set" and TRANSPARENT.match(option) and same(one, other)):
                continue
            if not (BEFORE_PROGRAMS[call].match(one) and other == still):
                found.append(f"{option}:{one} is{other}")
    return found


def same(one: str, other: str) -> bool:
    """Whether two calls were answered alike, whatever has come of them."""
    return one.split("/", maxsplit=1)[0] == other.split("/", maxsplit=1)[0]


@pytest.mark.parametrize("call", ["get", "set"])
def test_other_options_are_answered_as_by_the_kernel_alone(
    lab: Lab, balancers: Path, servers: Path, sweep: Path, network: Namespace, call: str
) -> None:
    bare = lab.cgroup("bare")
    alone = answers(sweep, network, bare, call)
    assert len(alone) > 300
    assert different(call, alone, answers(sweep, network, bare, call), alone) == []
    with ExitStack() as programs:
        for hook in (GETSOCKOPT, SETSOCKOPT):
            programs.enter_context(attached(bare, hook))
        idle = answers(sweep, network, bare, call)
    edge.attach([balancers], EdgeSettings())
    receive(servers)
    for place in (balancers, servers):
        assert different(call, alone, answers(sweep, network, place, call), idle) == [], place


@pytest.mark.parametrize("order", ["before", "after"])
def test_another_program_still_has_the_answer(servers: Path, order: str) -> None:
    """To an option that the kernel does not know; it is shown the caller's length."""
    body = (
        "int *value = ctx->optval;\n"
        "if (ctx->level != 0 || ctx->optname != 4000 || !ctx->retval) return 1;\n"
        "if ((void *)(value + 1) > ctx->optval_end) return 0;\n"
        "*value = 40000 + ctx->optlen; ctx->retval = 0;"
    )
    with ExitStack() as programs:
        if order == "before":
            programs.enter_context(attached(servers, GETSOCKOPT, body))
        receive(servers)
        if order == "after":
            programs.enter_context(attached(servers, GETSOCKOPT, body))
        with inside(servers), socket.socket() as sock:
            assert sock.getsockopt(socket.IPPROTO_IP, 4000) == 40004
