# SPDX-License-Identifier: Apache-2.0
"""Machines begin with the run, beside the tests of this one, which wait half of the time.

Two at a time, as each keeps one processor busy under emulation; the other tests go first, by
their priority (`machine.run_in_vm`).
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

import pytest

from tests.vm.machine import KernelUnavailableError

Job = Callable[[], Any]
_AT_A_TIME = 2


class Machines:
    """Jobs that run machines, in the order in which they were added."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[tuple[Job, Future[Any]]] = SimpleQueue()
        self._futures: dict[str, Future[Any]] = {}

    def add(self, name: str, job: Job) -> None:
        """Have it run once the others have begun."""
        future: Future[Any] = Future()
        self._futures[name] = future
        self._waiting.put((job, future))

    def start(self) -> None:
        """Let them run."""
        for _ in range(_AT_A_TIME):
            # Daemons: who breaks the run off waits for none, and machines end with their threads.
            threading.Thread(target=self._work, daemon=True).start()

    def result(self, name: str) -> Any:
        """What that job has answered or raised, once it is done."""
        return self._futures[name].result()

    def _work(self) -> None:
        while True:
            job, future = self._waiting.get()
            try:
                future.set_result(job())
            except BaseException as error:
                future.set_exception(error)


MACHINES = Machines()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin with what was chosen."""
    if session.config.option.collectonly:
        return
    chosen = {item.nodeid: item.get_closest_marker("in_machine") for item in session.items}
    for name, marker in chosen.items():
        if marker is not None:
            MACHINES.add(name, marker.kwargs["run"])
    if any(chosen.values()):
        MACHINES.start()


@pytest.fixture
def answer(request: pytest.FixtureRequest) -> Any:
    """What the job of a test that is marked ``in_machine`` has answered."""
    try:
        return MACHINES.result(request.node.nodeid)
    except KernelUnavailableError as error:  # no fault of ours, and nothing to be installed
        pytest.skip(str(error))
