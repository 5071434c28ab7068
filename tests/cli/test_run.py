# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa run`` with the queue: its start, what is seen of it, its end, and kills."""

import json
import os
import re
import select
import signal
import socket
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cloud_toa.node.state import directory
from tests.cli.command import Said, call, spawn
from tests.cli.running import PATIENCE, QUEUE, clean_up, running, status
from tests.netns.traffic import wait_until
from tests.nfqueue.conftest import network
from tests.nfqueue.kernel import kernel

__all__ = ["network"]

pytestmark = pytest.mark.usefixtures("network")

DOCUMENTED = (
    *("-option-type-v4=254", "-option-type-v6=254", "-min-queue-id=1", "-max-queue-id=12"),
    *("-auto-setup", "-origin=any", "-datapath=queue"),
)
TIME = r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d"
ONE = ("-auto-setup", "-max-queue-id=1", *QUEUE)
COUNTS = {"packets": 0, "written": 0, "no_room": 0, "passed": 0, "errors": 0, "local": 0}


def has_ended(*pids: int) -> bool:
    """Whether these processes end, be it in a while."""
    for pid in pids:
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([process], [], [], 10)[0]:
                return False
        finally:
            os.close(process)
    return True


def test_the_documented_command_line() -> None:
    before = kernel()
    with running(*DOCUMENTED) as edge:
        assert re.fullmatch(TIME + r" \[TOA\]starting \.\.\.", edge.log[0])
        args = re.escape(" ".join(("run", *DOCUMENTED)))
        assert re.fullmatch(rf"{TIME} \[TOA\]args: {args}", edge.log[1])
        assert edge.said("[TOA]datapath: queue, as asked for by -datapath queue")
        assert edge.said("[TOA]workers for queues 1 to 12: processes ")
        assert kernel() != before
        shown = status()
        assert shown["pid"] == edge.process.pid
        assert [worker["queue"] for worker in shown["workers"]] == list(range(1, 13))
        pids = [worker["pid"] for worker in shown["workers"]]
        assert len(set(pids)) == 12
        said = edge.end()
    assert (said.code, said.out) == (0, "")
    assert [line.partition("]")[2] for line in said.err.splitlines()] == [
        "SIGTERM",
        "stopping ...",
        "rules are removed",
        "stopped",
    ]
    assert has_ended(*pids)
    assert kernel() == before
    assert not directory().exists()


def test_two_dashes_and_spaces() -> None:
    words = [word for each in DOCUMENTED for word in f"-{each}".split("=")]
    with running(*words) as edge:
        assert edge.log[1].endswith("[TOA]args: run " + " ".join(words))
        assert len(status()["workers"]) == 12


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it(number: signal.Signals) -> None:
    before = kernel()
    with running(*ONE) as edge:
        said = edge.end(number)
    assert said.code == 0
    assert said.err.splitlines()[0].endswith(f"[TOA]{number.name}")
    assert "Traceback" not in said.err
    assert kernel() == before
    assert not directory().exists()


def test_ctrl_c_in_a_terminal_reaches_the_workers_too() -> None:
    with running(*ONE) as edge:
        (worker,) = status()["workers"]
        os.kill(worker["pid"], signal.SIGINT)
        said = edge.end(signal.SIGINT)
    assert said.code == 0
    assert "starting it again" not in said.err


def test_status() -> None:
    with running(*ONE[:-1], "-origin=192.0.2.0/24:443", "-option-type-v6=253") as edge:
        shown = status()
        (worker,) = shown["workers"]
        assert shown == {
            "attached": True,
            "datapath": "queue",
            "why": "asked for by -datapath queue",
            "pid": edge.process.pid,
            "auto_setup": True,
            "settings": {
                "option_type_v4": 254,
                "option_type_v6": 253,
                "origins": ["192.0.2.0/24:443"],
                "no_port": "connection",
                "min_queue_id": 1,
                "max_queue_id": 1,
                "sock": None,
            },
            "counters": {**COUNTS, "queued": 0, "syn_without": 0},
            "workers": [{"queue": 1, "pid": worker["pid"], "restarts": 0, "counters": COUNTS}],
        }
        said = call("edge", "status")
    lines = said.out.splitlines()
    assert (said.code, said.err) == (0, "")
    assert lines[0] == f"edge: queue datapath, process {edge.process.pid}"
    assert [line.split(maxsplit=1) for line in lines[1:9]] == [
        ["why", "asked for by -datapath queue"],
        ["option-type-v4", "254"],
        ["option-type-v6", "253"],
        ["origins", "192.0.2.0/24:443"],
        ["no-port", "connection"],
        ["min-queue-id", "1"],
        ["max-queue-id", "1"],
        ["sock", "none"],
    ]
    assert {line.split()[0] for line in lines[10:18]} == {*COUNTS, "queued", "syn_without"}
    assert lines[-1].split()[:6] == ["queue", "1", "process", str(worker["pid"]), "restarts", "0"]


def test_status_of_nothing() -> None:
    assert call("edge", "status") == Said(1, "edge: not attached\n", "")
    assert call("edge", "status", "--json") == Said(1, '{"attached": false}\n', "")
    assert not directory().exists()


def test_a_worker_that_is_killed_comes_back() -> None:
    with running(*ONE) as edge:
        (before,) = status()["workers"]
        os.kill(before["pid"], signal.SIGKILL)
        assert edge.process.stderr is not None
        lines = [edge.process.stderr.readline() for _ in range(2)]
        assert "worker for queue 1 ended by signal 9: starting it again" in lines[0]
        assert "worker for queue 1 is back, process " in lines[1]
        # The log is written before the state that `edge status` reads.
        wait_until(lambda: status()["workers"][0]["restarts"] == 1)
        (after,) = status()["workers"]
        assert after["pid"] != before["pid"]
        edge.end()
    assert has_ended(before["pid"], after["pid"])


def test_a_second_run_is_refused_and_the_first_goes_on() -> None:
    with running(*ONE) as edge:
        whole = kernel()
        for command in (("run", *ONE), ("run", "-cleanup")):
            said = spawn(*command)
            assert said.code == 2
            assert said.out == ""
            assert said.err.splitlines()[-1] == (
                f"cloud-toa: cloud-toa run (process {edge.process.pid}) is at work here already: "
                "stop that first"
            )
        assert kernel() == whole
        assert status()["pid"] == edge.process.pid


def test_what_a_killed_run_leaves_is_removed() -> None:
    before = kernel()
    with running(*ONE[:1], "-max-queue-id=3", *QUEUE) as edge:
        pids = [worker["pid"] for worker in status()["workers"]]
        edge.end(signal.SIGKILL)
    assert has_ended(*pids)
    assert kernel() != before
    assert status() == {"attached": False}
    assert clean_up() == "removed what a killed run had left\n"
    assert kernel() == before
    assert not directory().exists()
    assert clean_up() == "nothing was left\n"
    assert kernel() == before


def test_the_next_run_takes_a_killed_ones_place() -> None:
    before = kernel()
    with running(*ONE) as first:
        whole = kernel()
        first.end(signal.SIGKILL)
    with running(*ONE) as second:
        assert kernel() == whole
        assert second.end().code == 0
    assert kernel() == before


def test_another_network_namespaces_edge_is_another() -> None:
    with running(*ONE):
        inside = ("unshare", "--net")
        said = spawn("edge", "status", "--json", before=inside)
        assert (said.code, json.loads(said.out)) == (1, {"attached": False})
        assert spawn("run", "-cleanup", before=inside).out == "nothing was left\n"
        assert status()["attached"]


def test_options_from_a_file(tmp_path: Path) -> None:
    config = tmp_path / "toa.toml"
    config.write_text("origin = '192.0.2.7'\ndatapath = 'queue'\nmax_queue_id = 2\n")
    with running("-config", str(config), "-max-queue-id=1"):
        shown = status()
    assert shown["settings"]["origins"] == ["192.0.2.7"]
    assert len(shown["workers"]) == 1


def test_without_auto_setup_nothing_is_touched() -> None:
    before = kernel()
    with running("-max-queue-id=1", *QUEUE) as edge:
        assert kernel() == before
        assert edge.said("warning: nothing is queued: no rules are set up. Start with -auto-setup")
        assert edge.end().code == 0
    assert kernel() == before


def test_a_service_manager_is_told(tmp_path: Path) -> None:

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        with running(*ONE, before=("env", f"NOTIFY_SOCKET={tmp_path / 'notify'}")):
            assert manager.recv(100) == b"READY=1"


def test_the_control_socket_ends_it_too(tmp_path: Path) -> None:
    path = tmp_path / "toa.sock"
    with running(*ONE, f"-sock={path}") as edge:
        assert edge.said(f"[TOA]control socket: {path}")
        assert status()["settings"]["sock"] == str(path)
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(path))
            peer.send(b"quit:0\n")
            _, err = edge.process.communicate(timeout=PATIENCE)
    assert edge.process.returncode == 0
    assert "[TOA]quit:0\n" in err
    assert not path.exists()


def test_metrics(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    sock = f"-sock={tmp_path / 'toa.sock'}"
    with running(*QUEUE, "-auto-setup", "-max-queue-id=2", f"-metrics={address}", sock) as edge:
        assert edge.said(f"[TOA]metrics: http://{address}/metrics")
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        assert edge.end().code == 0
    shown = {family.name: [sample.labels for sample in family.samples] for family in families}
    assert shown["cloud_toa_datapath"] == [{"datapath": "queue"}]
    assert shown["cloud_toa_worker_restarts"] == [{"queue": "1"}, {"queue": "2"}]
    for name in COUNTS:
        assert shown[f"cloud_toa_worker_{name}"] == [{"queue": "1"}, {"queue": "2"}]
    assert {f"cloud_toa_edge_{name}" for name in ("queued", "syn_without", *COUNTS)} < set(shown)
    assert "cloud_toa_control_peers" in shown
