# SPDX-License-Identifier: Apache-2.0
"""Which settings the cluster wants of an edge, which it has, and which of both it is to read.

- What was in force last is on the disk, and is what a start begins with.
- Wanted settings are tried once. If they are refused, what was in force goes on and is what the
  edge reads again, say after a certificate was renewed. Wanted ones are tried again after a while,
  as a file or a free port may be all that is missing.
- What becomes of settings for which newer ones wait already is not told: those are tried at once.
- Where they can only be had by a new start of the edge, it ends and hands HAProxy over. If that
  start fails, the next one is by what was in force before, and nothing is tried again by itself.
- That nobody has saved any settings, revision 0, is no order to end what runs.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from cloud_toa.cluster.agent.kept import Kept
from cloud_toa.cluster.model.protocol import Applied, Settings
from cloud_toa.errors import ToaError
from cloud_toa.node import edge_file
from cloud_toa.node.edge_file import EdgeFile
from cloud_toa.node.edge_services import FixedError

_log = logging.getLogger(__name__)

_AGAIN = (10.0, 30.0, 60.0, 300.0)
"""Seconds until refused settings are tried again, by how often they were."""


class ClusterSource:
    """A `node.edge_source.Source`.

    Args:
        kept: what is on the disk.
        told: called whenever `result` has changed.
        start_anew: called where the edge is to end, and a new one to start.
    """

    command = "cloud-toa node"
    watched = False

    def __init__(
        self, kept: Kept, told: Callable[[], None], start_anew: Callable[[], None]
    ) -> None:
        self.path: Path | None = kept.file
        self.changed = asyncio.Event()
        self.result = Applied(revision=0, wanted=0)
        self._kept, self._told, self._start_anew = kept, told, start_anew
        self._good = kept.settings()
        """What was in force last."""
        self._wanted = self._trying = self._good
        self._given: Settings | None = None
        """What was read last."""
        self._in_force: Settings | None = None
        self._starts_anew = False
        self._refusals = 0
        self._retry: asyncio.TimerHandle | None = None
        self._unkept = ""
        self.drained = self._good is not None and self._good.drained
        if self._good is not None:
            self.result = Applied(revision=0, wanted=self._good.revision)

    @property
    def has_some(self) -> bool:
        """Whether there is anything to read."""
        return self._trying is not None or self._good is not None

    @property
    def newest(self) -> int:
        """The revision that was last in force."""
        return 0 if self._good is None else self._good.revision

    def want(self, settings: Settings) -> None:
        """The cluster wants these."""
        if settings.revision == 0:
            self._want_nothing(settings)
            return
        if self._trying is self._wanted and self._trying == settings:
            return  # say those of the disk, by which the edge is starting
        before, self._wanted = self._wanted, settings
        # While others are tried, what is in force is about to change.
        if self._trying is None and self._is_in_force(settings):
            self._in_force = self._good = settings
            self._stop_retry()
            self._keep()
            how = self.result.how if settings == before else "they are what was in force"
            self._tell(Applied(revision=settings.revision, wanted=settings.revision, how=how))
        elif settings != before or self._in_force is None:
            self._refusals = 0
            self._try(settings)

    def read(self) -> EdgeFile:
        """See `Source`."""
        self._given = self._trying or self._good
        assert self._given is not None
        return edge_file.parse(self._given.text, "settings")

    def applied(self, how: str) -> None:
        """See `Source`."""
        given = self._given
        assert given is not None
        if self._trying is given:
            self._trying = None
        self._in_force = self._good = given
        self._starts_anew = False
        self._keep()
        if given is self._wanted:
            self._stop_retry()
            self._refusals = 0
            self._tell(Applied(revision=given.revision, wanted=given.revision, how=how))
        else:  # and the error says why it is not what is wanted
            self._tell(replace(self.result, revision=given.revision, how=how))

    def refused(self, error: ToaError) -> None:
        """See `Source`."""
        if isinstance(error, FixedError) and self._given is self._trying:
            _log.info("the edge starts anew for that")
            self._starts_anew = True
            self._start_anew()
            return
        if self._newer_waits:
            self.changed.set()
            return
        by_itself = not self._starts_anew
        self._starts_anew = False
        self._trying = None
        self._fail(error)
        if by_itself:
            self._try_later()

    def failed(self, error: ToaError) -> bool:
        """The edge did not start by what it read; answer whether there is something else to try."""
        self._in_force = None
        if self._newer_waits:
            return True
        if self._given is not self._good and self._good is not None:
            self.refused(error)
            return True
        self._trying = None
        self._fail(error)
        self._tell(replace(self.result, revision=0))
        self._try_later()
        return False

    def try_again(self) -> None:
        """Read what is wanted once more."""
        self._stop_retry()
        if self._wanted is not None:
            self._try(self._wanted)

    @property
    def _newer_waits(self) -> bool:
        """Whether others came to be tried since it was read: what it was is of no interest now."""
        return self._trying is not None and self._trying is not self._given

    def _want_nothing(self, settings: Settings) -> None:
        if self.drained != settings.drained and self._good is not None:
            self._wanted = replace(self._good, drained=settings.drained)
            self._try(self._wanted)
        self._tell(replace(self.result, wanted=0, error=""))

    def _is_in_force(self, settings: Settings) -> bool:
        now = self._in_force
        return now is not None and (now.text, now.drained) == (settings.text, settings.drained)

    def _try(self, settings: Settings) -> None:
        self._stop_retry()
        self._trying = settings
        self.drained = settings.drained
        self._tell(replace(self.result, wanted=settings.revision, error=""))
        self.changed.set()

    def _try_later(self) -> None:
        self._stop_retry()
        seconds = _AGAIN[min(self._refusals, len(_AGAIN) - 1)]
        self._refusals += 1
        self._retry = asyncio.get_running_loop().call_later(seconds, self.try_again)

    def _stop_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _fail(self, error: ToaError) -> None:
        self._tell(replace(self.result, error=str(error)))

    def _keep(self) -> None:
        assert self._good is not None
        try:
            self._kept.keep_settings(self._good)
        except ToaError as error:
            if str(error) != self._unkept:
                _log.error("%s: after a start without a server, former settings hold", error)
            self._unkept = str(error)
        else:
            self._unkept = ""

    def _tell(self, result: Applied) -> None:
        if result != self.result:
            self.result = result
            self._told()
