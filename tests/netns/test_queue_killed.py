# SPDX-License-Identifier: Apache-2.0
"""The queue datapath is killed under load: no connection fails, none is given a wrong client."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloud_toa.demo.lab import EDGE, EDGE_TO_ORIGIN, Lab
from tests.netns import queue_load
from tests.netns.queue_edge import QueueEdge, running
from tests.netns.queue_haproxy import CLIENTS, PORT, client_of, connect, start_haproxy
from tests.netns.queue_load import Outcome, ask
from tests.netns.traffic import SERVER, wait_until

pytestmark = pytest.mark.only_on(kernel="6.12")

STALL = 3.0
"""Seconds that no connection may take."""

MACHINE = Path("/run/vm/settings")
EMULATED = MACHINE.exists() and "emulated=yes" in MACHINE.read_text()
"""There, seconds say nothing: visitors' own patience is all that they have."""

WAYS = pytest.mark.parametrize(
    "version", [4, pytest.param(6, marks=pytest.mark.one_kernel)], ids=["v4", "v6"]
)


class Load:
    """Visitors through HAProxy, and one connection that was there before all of it."""

    def __init__(self, lab: Lab, version: int) -> None:
        self._lab, self._version = lab, version
        self._own = EDGE_TO_ORIGIN[version]
        script = [sys.executable, queue_load.__file__]
        self._visitors = lab.client.popen(
            [*script, "visit", CLIENTS[version], EDGE[version], str(PORT)], stdout=subprocess.PIPE
        )
        self.kept = self.connect()

    def connect(self) -> socket.socket:
        return connect(self._lab, self._version)

    def sees_the_client(self, sock: socket.socket | None = None) -> bool:
        """Whom the server takes a connection for: the client, or else this edge."""
        if sock is None:
            with self.connect() as new:
                return self.sees_the_client(new)
        seen, client = ask(sock), client_of(sock)
        if seen == f"{client.ip} {client.port}":
            return True
        assert seen.split()[0] == self._own, seen
        return False

    def end(self) -> Outcome:
        """Stop; no connection may have failed, waited for long or had another's client."""
        self._visitors.terminate()
        said, _ = self._visitors.communicate(timeout=120)
        outcome = Outcome(**json.loads(said))
        print(outcome)
        assert not outcome.failed
        assert set(outcome.as_other) <= {self._own}
        assert outcome.as_client > 0
        if not EMULATED:
            assert outcome.longest < STALL
        self.kept.close()
        return outcome

    def close(self) -> None:
        self._visitors.kill()
        self._visitors.communicate()
        self.kept.close()


@contextmanager
def load(lab: Lab, version: int) -> Iterator[Load]:
    """Begins with a connection that the server takes for the client's."""
    found = Load(lab, version)
    try:
        assert found.sees_the_client(found.kept)
        yield found
    finally:
        found.close()


@pytest.fixture
def services(lab: Lab, receiver: Path) -> None:
    script = [sys.executable, queue_load.__file__]
    listens = ("::", SERVER[1])
    lab.start(lab.origin, [*script, "serve", str(SERVER[1])], [listens], place=receiver)
    start_haproxy(lab)


def work_goes_on(edge: QueueEdge) -> None:
    """Wait until workers have written some more."""
    before = edge.now()["counters"]["written"]
    wait_until(lambda: edge.now()["counters"]["written"] > before + 20, reason=edge.now)


@WAYS
def test_a_worker(lab: Lab, services: None, version: int) -> None:
    with running(lab, "-max-queue-id=2") as edge, load(lab, version) as at:
        work_goes_on(edge)
        for _ in range(2):
            for row in (0, 1):
                os.kill(edge.workers()[row]["pid"], signal.SIGKILL)
                assert "ended by signal 9" in edge.until("error: worker")
                edge.until("is back")
                work_goes_on(edge)
        assert at.sees_the_client(at.kept)
        at.end()
        assert [worker["restarts"] for worker in edge.workers()] == [2, 2], edge.log
        assert edge.now()["counters"]["errors"] == 0


def test_a_worker_that_is_stopped(lab: Lab, services: None) -> None:
    """Nobody hears of its end: what counts is that packets wait and none is answered."""
    with running(lab, "-max-queue-id=1") as edge, load(lab, 4) as at:
        work_goes_on(edge)
        os.kill(edge.workers()[0]["pid"], signal.SIGSTOP)
        edge.until("answers nothing while")
        edge.until("is back")
        work_goes_on(edge)
        assert at.sees_the_client(at.kept)
        at.end()
        assert edge.workers()[0]["restarts"] == 1


@WAYS
@pytest.mark.parametrize("with_a_worker", [False, True], ids=["parent", "parent and worker"])
def test_the_parent(lab: Lab, services: None, version: int, with_a_worker: bool) -> None:
    """Its workers end with it, and connections go on without the option until the next start."""
    with running(lab, "-max-queue-id=2") as first, load(lab, version) as at:
        work_goes_on(first)
        if with_a_worker:
            os.kill(first.workers()[0]["pid"], signal.SIGKILL)
        first.stop(by=signal.SIGKILL)
        assert not at.sees_the_client()
        assert at.sees_the_client(at.kept)
        with at.connect() as meanwhile:
            assert not at.sees_the_client(meanwhile)
            with running(lab, "-max-queue-id=2") as second:
                work_goes_on(second)
                assert at.sees_the_client()
                assert at.sees_the_client(at.kept)
                assert not at.sees_the_client(meanwhile)
                at.end()
