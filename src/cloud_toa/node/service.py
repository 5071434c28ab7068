# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa run``: one edge, from its start to its end.

Whatever a killed predecessor left is replaced or removed first; whatever was set up is
taken away at the end, in an order in which no packet waits for somebody who is gone.
"""

import asyncio
import logging
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from cloud_toa import sd_notify
from cloud_toa.bpf import cgroup, edge
from cloud_toa.control import ControlServer
from cloud_toa.errors import ToaError
from cloud_toa.nfqueue import setup
from cloud_toa.node import gone, status
from cloud_toa.node.choice import choose
from cloud_toa.node.senders import BpfSender, QueueSender, Sender
from cloud_toa.node.settings import RunSettings
from cloud_toa.node.state import AtWorkError, State

_log = logging.getLogger(__name__)


async def run(settings: RunSettings) -> None:
    """Be an edge until a signal or the control socket ends it.

    Raises:
        ToaError: it can't start; nothing is left of the attempt.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, _asked, stop, signal.Signals(number).name)
    chosen = choose(settings.datapath)
    if chosen.datapath == "queue":
        setup.require(settings.auto_setup)
    _log.info("datapath: %s, as %s", chosen.datapath, chosen.why)
    async with AsyncExitStack() as undo:
        state = await _claimed(settings.patience, stop)
        if state is None:
            return
        left = state.left_over()
        undo.callback(state.close, left)
        if settings.auto_setup:
            gone.clean()
        make = QueueSender if chosen.datapath == "queue" else BpfSender
        sender: Sender = make(settings, state)
        if settings.auto_setup:
            end_balancer(left, state)
            remove_left_over(left, keep=sender)
        elif left.get("auto_setup"):
            raise ToaError(
                "a killed run has left here what it had set up: "
                "cloud-toa run -cleanup removes it, -auto-setup replaces it"
            )
        control: ControlServer | None = None

        def shown() -> dict[str, Any]:
            return {
                "datapath": chosen.datapath,
                "why": chosen.why,
                "pid": os.getpid(),
                "auto_setup": settings.auto_setup,
                "settings": shown_settings(settings),
                **sender.shown(),
            }

        def write() -> None:
            state.write(shown())

        # Before anything is set up, so that what a kill leaves is known to the next start.
        write()
        await sender.start(write)
        undo.push_async_callback(sender.stop)
        left.clear()
        write()
        if settings.sock is not None and sender.table is not None:
            kinds = (settings.option_type_v4, settings.option_type_v6)
            control = ControlServer(
                settings.sock, sender.table, kinds, settings.sock_group,
                lambda: _asked(stop, "quit:0"), lines=sender.lines,
            )  # fmt: skip
            await control.start()
            undo.push_async_callback(control.close)
            _log.info("control socket: %s", settings.sock)
        if settings.metrics is not None:
            serve_metrics(settings.metrics, shown, control, undo)
        _log.info("ready")
        sd_notify.ready()
        await stop.wait()
        _log.info("stopping ...")
    _log.info("stopped")


async def _claimed(patience: float, stop: asyncio.Event) -> State | None:
    """The claim to be the edge here, after that of a run which is about to end.

    None where this one is to end as well.

    Raises:
        ToaError: the other goes on for longer than these seconds.
    """
    deadline = asyncio.get_running_loop().time() + patience
    while not stop.is_set():
        try:
            return State()
        except AtWorkError as error:
            if asyncio.get_running_loop().time() >= deadline:
                raise
            _log.debug("%s: waiting for its end", error)
        # Who lets go of a lock tells nobody but threads that sleep for it, which can't be woken.
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 0.1)
    return None


def clean_up() -> bool:
    """Remove what a killed edge left in this network namespace, or in one that is gone.

    Answers whether there was any.

    Raises:
        ToaError: an edge is at work here.
    """
    state = State("cloud-toa run -cleanup")
    left = state.left_over()
    try:
        balancer = end_balancer(left, state)
        found = gone.clean() or balancer
        found = remove_left_over(left) or found
        left = {}
    finally:
        state.close(left)
    return found


def end_balancer(left: dict[str, Any], state: State) -> bool:
    """End the HAProxy of a killed `edge run`, which reaches no origin without its sender.

    Answers whether there was one, or its files.

    Raises:
        ToaError: it can't be ended.
    """
    if "edge" not in left and not state.haproxy.exists():
        return False
    home = None
    if "edge" in left:
        home = Path(left["edge"]["cgroup"])
    else:  # killed before it could say so
        with suppress(ToaError):  # without cgroup2, it can't have begun
            home = cgroup.root() / state.cgroup_name
    if home is not None:
        cgroup.end(home)
    shutil.rmtree(state.haproxy, ignore_errors=True)
    _log.info("ended the HAProxy that a former run had left")
    return True


def remove_left_over(left: dict[str, Any], keep: Sender | None = None) -> bool:
    """Remove what a killed edge has set up; answer whether there was any.

    What will be put in place again is kept: connections under way depend on it.
    """
    found = False
    if left.get("datapath") == "bpf" and left.get("auto_setup"):
        kept = keep.cgroups if isinstance(keep, BpfSender) else []
        gone = [path for path in map(Path, left.get("cgroups", [])) if path not in kept]
        with suppress(ToaError):  # without bpffs, none of ours can be there
            found = bool(gone and edge.detach(gone))
    if not isinstance(keep, QueueSender) and setup.can_be_there():
        found = setup.remove() or found
    if found:
        _log.info("removed what a former run had left")
    return found


def serve_metrics(
    address: tuple[str, int],
    shown: Callable[[], dict[str, Any] | None],
    control: ControlServer | None,
    undo: AsyncExitStack,
    haproxy: Path | None = None,
    *,
    setting: str = "-metrics",
) -> None:
    """Serve metrics until ``undo``; see `metrics.serve`."""
    # Imported only when asked for, as it takes as long as all the rest.
    from cloud_toa.node import metrics  # noqa: PLC0415

    def read() -> dict[str, Any] | None:
        now = shown()
        if now is None:
            return None
        if now["datapath"] == "queue":
            now = status.queue() or now
        now.setdefault("counters", status.bpf_counters() or {})
        return now | ({"control": control.counted()} if control else {})

    undo.callback(metrics.serve(address, read, haproxy, setting))
    _log.info("metrics: http://%s:%d/metrics", *address)


def shown_settings(settings: RunSettings) -> dict[str, Any]:
    """As `edge status` shows them."""
    return {
        "option_type_v4": settings.option_type_v4,
        "option_type_v6": settings.option_type_v6,
        "origins": str(settings.origins).split(),
        "no_port": settings.no_port.value,
        "min_queue_id": settings.queues.first,
        "max_queue_id": settings.queues.last,
        "sock": str(settings.sock) if settings.sock else None,
    }


def _asked(stop: asyncio.Event, by: str) -> None:
    if not stop.is_set():
        _log.info("%s", by)
        stop.set()
