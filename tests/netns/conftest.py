# SPDX-License-Identifier: Apache-2.0
"""A lab of three hosts, and the datapaths attached for one test."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_toa import kmod
from cloud_toa.bpf import edge, origin
from cloud_toa.config import EdgeSettings
from cloud_toa.demo.lab import Lab
from cloud_toa.isolation import run
from cloud_toa.option import Kinds
from tests.netns.module_kernel import TROUBLE, KernelLog
from tests.netns.raw_tcp import Wire
from tests.netns.receiver import OTHER, OTHER6, TRUSTED, TRUSTED6
from tests.netns.receivers import RECEIVERS, Bpf, Module, Receiver
from tests.netns.traffic import SERVER, listen
from tests.netns.tun_client import SOURCE, Clients


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab
        edge.detach()
        origin.detach()


@pytest.fixture
def balancers(lab: Lab) -> Path:
    """The cgroup of the edge's load balancers; nothing is attached to it yet."""
    return lab.cgroup("edge")


@pytest.fixture
def servers(lab: Lab) -> Path:
    """The cgroup of the origin's servers; nothing is attached to it yet."""
    return lab.cgroup("origin")


@pytest.fixture
def sender(balancers: Path) -> Path:
    """The cgroup of the edge's load balancers, with the sender attached."""
    edge.attach([balancers], EdgeSettings())
    return balancers


@pytest.fixture
def receiving(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Receiver]:
    """A receiver, not attached yet: eBPF where a test is not marked `by_both`."""
    receiver = RECEIVERS[getattr(request, "param", "bpf")]()
    yield receiver
    receiver.detach()


@pytest.fixture
def receiver(receiving: Receiver, servers: Path) -> Path:
    """The cgroup of the origin's servers, with a receiver that trusts the edge."""
    receiving.receive(servers)
    return servers


@pytest.fixture
def wire(lab: Lab) -> Iterator[Wire]:
    wire = Wire(lab)
    wire.hosts(TRUSTED, OTHER, TRUSTED6, OTHER6)
    yield wire
    wire.close()


@pytest.fixture
def listener(lab: Lab, receiving: Receiver, servers: Path) -> Iterator[socket.socket]:
    """Dual-stack; trusts TRUSTED and TRUSTED6."""
    receiving.receive(servers, trust=f"{TRUSTED} {TRUSTED6}")
    with listen(lab, servers, ("::", SERVER[1])) as listener:
        yield listener


@pytest.fixture
def hosts(lab: Lab) -> Iterator[Path]:
    """What stands for /etc/hosts, in the mounts of the tests alone."""
    file = lab.files / "hosts"
    file.write_text("127.0.0.1 localhost\n")
    file.chmod(0o644)
    run("mount", "--bind", str(file), "/etc/hosts")
    yield file
    run("umount", "/etc/hosts")


@pytest.fixture
def module() -> Iterator[Module]:
    """Ready to be loaded; the kernel has nothing to complain of in the end."""
    log = KernelLog()
    yield Module()
    kmod.detach()
    assert not TROUBLE.search(str(log)), log


@pytest.fixture
def clients(lab: Lab, module: Module) -> Iterator[Clients]:
    """Of whom the module believes what they say."""
    module.receive(Path(), Kinds((254, 200), (254, 253), (28,)), trust=SOURCE)
    clients = Clients(lab)
    yield clients
    clients.close()


@pytest.fixture
def server(lab: Lab, receiver: Path) -> Iterator[socket.socket]:
    """An origin's listener, for IPv4 and IPv6."""
    with listen(lab, receiver, ("::", SERVER[1])) as listener:
        yield listener


receive = Bpf().receive
"""For tests of other things than the receiver."""

# What is tested of the module alone needs one that this kernel takes: in virtual machines.
collect_ignore_glob = [] if "kmod" in RECEIVERS else ["test_module_*.py"]
