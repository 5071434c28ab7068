# SPDX-License-Identifier: Apache-2.0
"""What does it cost to kill, upgrade, detach and attach, under load?

Each fault is done several times while visitors come all the time (fault_load.py). Counted are
connections that failed, whose server saw a wrong address, and seconds in which connections
stayed without TOA. For the eBPF datapath all three are to be none, which the exit code says.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import another_version
import figures
import paths
import report
import told_server
from experiment import Experiment, exit_with, from_command_line, some_of
from fault_cluster import Cluster
from fault_edges import (
    SERVER_PORT,
    ByEdgeRun,
    ByHand,
    ByQueueEdgeRun,
    ByQueueRun,
    ByRun,
    Stage,
)
from fault_load import Load, Span, Toll
from fault_receivers import ByBpf, ByModule
from matplotlib.axes import Axes
from testbed import require

from cloud_toa.demo.lab import Lab
from cloud_toa.isolation import PRIVATE


@dataclass(frozen=True)
class Fault:
    """What is done to which part of an edge or origin.

    ``sender`` and ``receiver`` are those it is about; without a receiver, any is beside it.
    ``spared``: no connection is to have a disadvantage. ``silent``: some connections are
    there from before until after it.
    """

    title: str
    edge: Callable[[Stage], Any]
    strike: Callable[[Any], Span | None]
    sender: str = "bpf"
    receiver: str = ""
    spared: bool = True
    silent: bool = True


FAULTS = {
    "edge-killed": Fault("edge run: killed, started", ByEdgeRun, ByEdgeRun.killed),
    "edge-restarted": Fault("edge run: restarted", ByEdgeRun, ByEdgeRun.restarted),
    "edge-upgraded": Fault("edge run: upgraded", ByEdgeRun, ByEdgeRun.upgraded),
    "edge-stopped": Fault("edge run: stopped, started", ByEdgeRun, ByEdgeRun.stopped, silent=False),
    "run-killed": Fault("run: killed, started", ByRun, ByRun.killed),
    "run-stopped": Fault("run: stopped, started", ByRun, ByRun.stopped),
    "console-killed": Fault("console: killed, started", Cluster, Cluster.console_killed),
    "node-killed": Fault("node: killed, started", Cluster, Cluster.node_killed),
    "node-restarted": Fault("node: restarted", Cluster, Cluster.node_restarted),
    "node-upgraded": Fault("node: upgraded", Cluster, Cluster.node_upgraded),
    "console-upgraded": Fault("console: upgraded", Cluster, Cluster.console_upgraded),
    "both-killed": Fault("console and node: killed, started", Cluster, Cluster.both_killed),
    "sender-again": Fault("sender: attached again", ByHand, ByHand.attached_again),
    "sender-otherwise": Fault("sender: other settings", ByHand, ByHand.attached_otherwise),
    "sender-upgraded": Fault("sender: upgraded", ByHand, ByHand.upgraded),
    "sender-interrupted": Fault("sender: attach killed, again", ByHand, ByHand.attaching_killed),
    "sender-detached": Fault("sender: detached, attached", ByHand, ByHand.detached),
    "sender-too-early": Fault("sender: detached too early", ByHand, ByHand.detached_too_early),
    "receiver-again": Fault("attached again", ByBpf, ByBpf.attached_again, receiver="bpf"),
    "receiver-otherwise": Fault("other settings", ByBpf, ByBpf.attached_otherwise, receiver="bpf"),
    "receiver-upgraded": Fault("upgraded", ByBpf, ByBpf.upgraded, receiver="bpf"),
    "receiver-interrupted": Fault(
        "attach killed, again", ByBpf, ByBpf.attaching_killed, receiver="bpf"
    ),
    "receiver-detached": Fault("detached, attached", ByBpf, ByBpf.detached, receiver="bpf"),
    "module-again": Fault("set again", ByModule, ByModule.attached_again, receiver="kmod"),
    "module-otherwise": Fault(
        "other settings", ByModule, ByModule.attached_otherwise, receiver="kmod"
    ),
    "module-unloaded": Fault("unloaded, loaded", ByModule, ByModule.detached, receiver="kmod"),
    "haproxy-worker": Fault(
        "HAProxy's worker: killed", ByEdgeRun, ByEdgeRun.worker_killed, spared=False
    ),
    "haproxy-master": Fault(
        "HAProxy's master: killed", ByEdgeRun, ByEdgeRun.master_killed, spared=False
    ),
    "queue-worker": Fault(
        "run: each worker killed", ByQueueRun, ByQueueRun.worker_killed, "queue", spared=False
    ),
    "queue-run-killed": Fault(
        "run: killed, started", ByQueueRun, ByQueueRun.killed, "queue", spared=False
    ),
    "queue-edge-killed": Fault(
        "edge run: killed, started", ByQueueEdgeRun, ByQueueEdgeRun.killed, "queue", spared=False
    ),
}
_RECEIVERS = ("bpf", "kmod")


_WORDS = """
Visitors come all the time, sixteen at once; others are there before each fault and say something
behind it. *Failed*, *wrong* (the server saw neither its client nor the edge) and *seconds without
TOA* (in which a connection was under way that stayed without) are to be none by eBPF.

*Meanwhile* is the time that a fault takes in which connections can't be served as usual: between
detach and attach, while nothing serves. What became of those under way then is counted there alone;
of visitors that are refused, each begins no other for 20 ms.
*Detached* is as the README has it, where HAProxy stops using clients' addresses first;
*too early* is without that. HAProxy ends its connections when it is killed, and is started again at
once; when it ends again soon after that, after a pause that grows, as here.
Killed is SIGKILL; restarted is what `systemctl restart` does, upgraded the same with a next version
whose programs differ. *Slowest* is the longest that a visitor waited for an answer.
"""


def _meanwhile(row: figures.Row) -> str:
    if not row["meanwhile_seconds"]:
        return "–"
    return (
        f"{row['meanwhile_seconds'] / row['times']:.1f} s each: {row['meanwhile_failed']:,} failed,"
        f" {row['meanwhile_without']:,} without TOA"
    )


COLUMNS: dict[str, Callable[[figures.Row], str]] = {
    "times": lambda row: str(row["times"]),
    "connections": lambda row: f"{row['connections']:,}",
    "failed": lambda row: f"{row['failed']:,}",
    "wrong": lambda row: f"{row['wrong']:,}",
    "seconds without TOA": lambda row: f"{row['seconds_without']:.2f}" if row["without"] else "0",
    "meanwhile": _meanwhile,
    "slowest, s": lambda row: f"{row['slowest']:.2f}",
}


def _counted(row: figures.Row) -> str:
    said = f"{row['failed']:,} failed, {row['without']:,} without TOA"
    if row["meanwhile_seconds"]:
        said += f" (meanwhile {row['meanwhile_failed']:,}, {row['meanwhile_without']:,})"
    return said


def draw(axes: Axes, titles: Sequence[str], rows: Sequence[figures.Row]) -> None:
    """Seconds of each time: in which some had no TOA, and before these a fault's own."""
    own = [row["meanwhile_seconds"] / row["times"] for row in rows]
    without = [row["seconds_without"] / row["times"] for row in rows]
    axes.barh(titles, own, color="#c9d3da", height=0.7, label="a fault's own time")
    drawn = axes.barh(
        titles, without, left=own, color="#2f6f9f", height=0.7, label="without TOA beside it"
    )
    axes.bar_label(drawn, list(map(_counted, rows)), padding=3, fontsize="small")
    axes.invert_yaxis()
    axes.set_xlabel("seconds, each time")
    axes.figure.legend(loc="outside lower right", ncols=2, frameon=False, fontsize="small")
    axes.set_xlim(0, 2 * max(map(sum, zip(own, without, strict=True))) or 1)


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--times", type=int, default=10, help="each fault (10)")
    parser.add_argument("--faults", type=some_of(FAULTS), default=list(FAULTS), metavar="NAME,NAME",
                        help=f"of {', '.join(FAULTS)} (default all)")  # fmt: skip
    parser.add_argument("--senders", type=some_of(paths.SENDERS), default="bpf",
                        metavar="NAME,NAME", help="of bpf (default), queue")  # fmt: skip
    parser.add_argument("--receivers", type=some_of(_RECEIVERS), default="bpf",
                        metavar="NAME,NAME", help="of bpf (default), kmod; the first is beside "
                        "senders")  # fmt: skip
    parser.add_argument("--at-once", type=int, default=16, help="connections at a time (16)")
    parser.add_argument("--calm", type=float, default=1.0, help="seconds around a fault (1)")


def measure(asked: argparse.Namespace) -> Iterator[figures.Row]:
    """Every fault by every sender and receiver that it is about."""
    require({"haproxy": "haproxy", "clang": "clang"})
    with TemporaryDirectory(dir=PRIVATE) as folder:
        another = another_version.copy(Path(folder))
        for name in asked.faults:
            fault = FAULTS[name]
            receiver = fault.receiver or asked.receivers[0]
            if fault.sender not in asked.senders or receiver not in asked.receivers:
                continue
            toll = of_fault(fault, receiver, asked, another)
            yield _row(fault, receiver, asked.times, toll)


def _row(fault: Fault, receiver: str, times: int, toll: Toll) -> figures.Row:
    names = {"bpf": "eBPF", "kmod": "toa.ko", "queue": "queue"}
    of = f"{names[fault.receiver]} receiver:" if fault.receiver else names[fault.sender]
    return {
        "what": f"{of} {fault.title}, Linux {report.kernel()}",
        "sender": fault.sender,
        "receiver": receiver,
        "times": times,
        "spared": fault.spared,
        "nothing": toll.is_nothing,
        **asdict(toll),
    }


def of_fault(fault: Fault, receiver: str, asked: argparse.Namespace, another: Path) -> Toll:
    """Do this so many times; what it cost."""
    with Lab() as lab, ExitStack() as undo:
        for host in (lab.client, lab.edge, lab.origin):
            host.sysctl("net.ipv4.ip_local_port_range", "1024 65535")
        at_edge, at_origin = lab.cgroup("edge"), lab.cgroup("origin")
        paths.receive(receiver, at_origin, undo)
        told_server.serve(lab, told_server.Serve([SERVER_PORT]), at_origin)
        edge = fault.edge(Stage(lab, undo, at_edge, at_origin, another))
        load = Load(lab, asked.at_once, seed=list(FAULTS.values()).index(fault))
        spans = []
        for _ in range(asked.times):
            if fault.silent:
                load.hold()
            time.sleep(asked.calm)  # so that load is there before it,
            if span := fault.strike(edge):
                spans.append(span)
            time.sleep(asked.calm)  # and what it has done shows
            load.release()
        return load.end(spans)


def faults(rows: Sequence[figures.Row]) -> list[str]:
    """Wrong addresses, and connections with a disadvantage that is to be none."""
    return [
        f"{row['what']}: {row['failed']} failed, {row['wrong']} wrong {row['wrong_ones'][:3]}, "
        f"{row['without']} without TOA"
        for row in rows
        if row["wrong"] or (row["spared"] and not row["nothing"])
    ]


EXPERIMENT = Experiment(
    command="bench/faults",
    name="faults",
    title="What does it cost to kill, upgrade, detach and attach?",
    words=_WORDS,
    measure=measure,
    columns=COLUMNS,
    draw=draw,
    faults=faults,
    arguments=arguments,
)


def main() -> int:
    """Be the command."""
    return from_command_line(EXPERIMENT, __doc__)


if __name__ == "__main__":
    exit_with("bench/faults", main)
