# SPDX-License-Identifier: Apache-2.0
"""What is counted, and what becomes of it by the second."""

import asyncio
import logging
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cloud_toa.balancer import runtime
from cloud_toa.balancer.runtime import Processes
from cloud_toa.balancer.traffic import Origin, Service, by_service
from cloud_toa.cluster.agent import usage as usage_module
from cloud_toa.cluster.agent.backoff import Backoff
from cloud_toa.cluster.agent.edge import with_toa
from cloud_toa.cluster.agent.lines import Lines
from cloud_toa.cluster.agent.rates import Reading, Samples, between
from cloud_toa.cluster.agent.traffic import Passed, Traffic, plus
from cloud_toa.cluster.agent.usage import Usage
from cloud_toa.cluster.model.protocol import Counts, Sample

ORIGIN = Origin("192.0.2.7:80", "UP", 1, 2, 9, 0, 100, 1000)
WEB = Service("web", 2, 10, 1, 3, 100, 1000, [ORIGIN])


def test_workers_together() -> None:
    """Connections of now are those of workers that are alive."""
    ended = plus(Passed(), [WEB], alive=False)
    both = plus(ended, [WEB, replace(WEB, name="game", origins=[])], alive=True)
    assert both.services["web"] == Counts(
        connections=20, current=2, bytes_from_clients=200, bytes_to_clients=2000, refused=6
    )
    assert both.services["game"].connections == 10
    assert both.to_origins == 18


def test_services_that_share_their_ports() -> None:
    head = "# pxname,svname,scur,stot,rate,bin,bout,dreq,dcon,dses,status,weight,econ\n"
    rows = (
        "a:b,FRONTEND,3,30,1,9,9,1,1,1,OPEN,,\n"
        "a,o,1,10,0,5,6,,,,UP,1,0\n"
        "a,BACKEND,1,10,1,5,6,0,,,UP,1,0\n"
        "b,o,2,20,0,7,8,,,,DOWN,1,0\n"
        "b,BACKEND,2,20,1,7,8,0,,,UP,1,0\n"
        "cloud-toa.metrics,FRONTEND,1,1,1,1,1,0,0,0,OPEN,,\n"
        "<HTTPCLIENT>,BACKEND,0,0,0,0,0,0,,,UP,0,0\n"
    )
    one, other = by_service(head + rows)
    assert (one.name, one.total, one.refused, one.origins[0].state) == ("a", 10, 3, "UP")
    assert (other.name, other.total, other.refused, other.origins[0].state) == ("b", 20, 0, "DOWN")


def test_rates() -> None:
    """By the second; counts that began anew count from zero; a service that is new as well."""
    before = Reading(1000.0, 50.0, {"web": Counts(connections=100, bytes_to_clients=500)}, 100, 90)
    services = {
        "web": Counts(connections=120, bytes_to_clients=300, bytes_from_clients=100),
        "game": Counts(connections=10),
    }
    sample = between(before, Reading(1010.0, 60.0, services, 130, 110))
    assert sample.time == 1010.0
    assert sample.connections == {"web": 2.0, "game": 1.0, "": 3.0}
    assert sample.bytes == {"web": 40.0, "game": 0.0, "": 40.0}
    assert (sample.with_toa, sample.without_toa) == (2.0, 1.0)
    # A clock that was set meanwhile changes no rate.
    again = between(before, Reading(-9e6, 60.0, services, 130, 140))
    assert again.connections == sample.connections
    assert again.without_toa == 0.0


def test_who_carried_the_option() -> None:
    assert with_toa("bpf", {"connections": 10, "no_room": 2, "syn": 8}) == 8
    assert with_toa("queue", {"written": 31}) == 11
    assert with_toa("bpf", {}) == with_toa("queue", {}) == 0


def test_samples_wait_for_hours_and_the_oldest_go_first() -> None:
    samples = Samples()
    each = [
        Sample(time=float(at), connections={}, bytes={}, with_toa=0, without_toa=0)
        for at in range(2000)
    ]
    for sample in each:
        samples.add(sample)
    assert len(samples.waiting) == 1440
    part = samples.take()
    assert [sample.time for sample in part] == [float(at) for at in range(560, 590)]
    samples.add(each[0])
    samples.give_back(part)
    assert len(samples.waiting) == 1440
    assert samples.waiting[0].time == 561.0


def test_lines_that_wait_are_bounded_and_the_lost_are_counted() -> None:
    async def run() -> None:
        lines = Lines()
        log = logging.Logger("cloud_toa.node.test")
        log.addHandler(lines)
        for number in range(6000):
            log.info("line %d", number)
        assert lines.some.is_set()
        part = lines.take()
        assert len(part) == 500
        assert part[0].text.startswith("1000 lines of this log are not here")
        assert (part[0].level, part[1].text) == ("warning", "line 1000")
        lines.give_back(part)
        assert lines.take() == part
        lines.give_back(part)
        log.info("one more")
        part = lines.take()
        assert part[0].text.startswith("1001 lines of this log are not here")
        while lines.some.is_set():
            last = lines.take()
        assert last[-1].text == "one more"
        lines.drop(last)
        log.error("a\nb %s", "c" * 5000)
        first, line = lines.take()
        assert first.text.startswith(f"{len(last)} lines")
        assert line.text.startswith("a | b ccc")
        assert (len(line.text), line.level, line.tag) == (2000, "error", "TOA")
        # From a thread: later, in the loop.
        await asyncio.to_thread(log.warning, "from a thread")
        await asyncio.wait_for(lines.some.wait(), 10)
        assert [line.text for line in lines.take()] == ["from a thread"]

    asyncio.run(run())


def test_waits_grow_and_are_no_one_elses() -> None:
    backoff = Backoff(2.0, 30.0)
    waits = [backoff.next() for _ in range(50)]
    assert all(0.1 <= wait <= 30.0 for wait in waits)
    assert waits[0] <= 2.0
    assert len(set(waits)) == 50
    backoff.reset()
    assert backoff.next() <= 2.0


def test_what_processes_take() -> None:
    usage = Usage()
    usage._at -= 2.0
    assert usage.read([os.getpid(), 1 << 30])[0] == 0.0  # what it took before is not of now
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    usage._at -= 1.0
    percent, memory = usage.read([os.getpid(), 1 << 30])
    assert percent > 0.0
    assert memory > 1 << 20
    # Asked again at once, what was found before is answered.
    assert usage.read([os.getpid()])[0] == percent


def test_looks_at_the_same_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that began while the other look was under way has not ended."""
    head = "# pxname,svname,scur,stot,bin,bout,status\n"
    processes = [Processes(1, 0, 0, 10, ()), Processes(1, 1, 0, 11, (10,))]
    slow = asyncio.Event()

    async def seen(_: Path) -> Processes:
        return processes[0] if len(processes) == 1 else processes.pop(0)

    async def ask(_: Path, command: str) -> str:
        if not processes[1:] and not slow.is_set():
            slow.set()
            await asyncio.sleep(0.05)
        return f"{head}web,BACKEND,1,{100 if '11' in command else 7},0,0,UP\n"

    async def run() -> None:
        monkeypatch.setattr(runtime, "processes", seen)
        monkeypatch.setattr(runtime, "ask", ask)
        traffic = Traffic()
        first = asyncio.create_task(traffic.read(tmp_path))
        await slow.wait()
        await asyncio.gather(first, traffic.read(tmp_path))
        passed = await traffic.read(tmp_path)
        assert passed.services["web"] == Counts(connections=107, current=2)

    asyncio.run(run())


def test_rates_of_more_services_than_a_server_takes() -> None:
    """Then the node as a whole is told."""
    few, many = (
        {f"s{number}": Counts(connections=10) for number in range(count)} for count in (1000, 1001)
    )
    nothing = Reading(1000.0, 50.0, {}, 0, 0)
    sample = between(nothing, Reading(1010.0, 60.0, few, 0, 0))
    assert len(sample.connections) == len(sample.bytes) == 1001
    sample = between(nothing, Reading(1010.0, 60.0, many, 0, 0))
    assert (sample.connections, sample.bytes) == ({"": 1001.0}, {"": 0.0})


def test_another_process_by_the_same_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has taken less than the one before it: that is no time given back."""
    used = [5000, 10]
    monkeypatch.setattr(usage_module, "_used", lambda _: used.pop(0))
    usage = Usage()
    for _ in range(2):
        usage._at -= 2.0
        assert usage.read([1])[0] == 0.0
