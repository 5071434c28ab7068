# SPDX-License-Identifier: Apache-2.0
"""Which option kinds look like a TOA, counted while packets pass.

What ``--find-kinds --json`` prints is stable: one object a line for each kind and layout,
the most frequent first::

    {"kind": 200, "layout": "v4", "packets": 34, "client": "203.0.113.222:37709", "read": false}

``read`` says whether the kinds that were asked for have it read; ``client`` is the first seen.
"""

import json
import sys
from collections import Counter

from cloud_toa.likely import Layout, Likely, known, likely, of_layout
from cloud_toa.option import Client, Kinds


class KindsSeen:
    """A count of packets for each kind and layout.

    Args:
        kinds: those that are read.
        everything: count these as well.
        announce: say of one when it is first seen; on standard error.
    """

    def __init__(self, kinds: Kinds, *, everything: bool, announce: bool) -> None:
        self._kinds, self._announce = kinds, announce
        self._but = None if everything else kinds
        self._packets: Counter[tuple[int, Layout]] = Counter()
        self._first: dict[tuple[int, Layout], Client] = {}

    def add(self, options: bytes, *, loopback: bool) -> bool:
        """Count a packet by its TCP header's options; answer whether one looks like a TOA."""
        seen = {
            (found.kind, found.layout): found
            for found in reversed([*likely(options, loopback=loopback, but=self._but)])
        }
        for key, found in seen.items():
            self._packets[key] += 1
            if key not in self._first:
                self._first[key] = found.client
                if self._announce:
                    _say(f"{self._about(found)}, such as {found.client}; {self._remedy(found)}")
        return bool(seen)

    def hint(self) -> None:
        """Say, on standard error, which kinds look like a TOA and are not read."""
        for found, packets in self._all():
            times = "1 packet" if packets == 1 else f"{packets} packets"
            _say(f"{self._about(found)} in {times}, such as {found.client}; {self._remedy(found)}")

    def show(self, *, as_json: bool) -> None:
        """Print all of them."""
        rows = self._all()
        if as_json:
            for found, packets in rows:
                read = known(found, self._kinds)
                shown = {"kind": found.kind, "layout": found.layout, "packets": packets}
                print(json.dumps({**shown, "client": str(found.client), "read": read}))
            return
        if not rows:
            _say("no option of any kind looks like a TOA")
            return
        print(f"{'kind':<6}{'layout':<11}{'packets':>9}  {'such as':<47}  read it with")
        for found, packets in rows:
            print(
                f"{found.kind:<6}{found.layout:<11}{packets:>9}  {found.client!s:<47}  "
                f"--kinds-{found.layout} {found.kind}"
            )

    def _all(self) -> list[tuple[Likely, int]]:
        return [
            (Likely(*key, self._first[key]), packets)
            for key, packets in self._packets.most_common()
        ]

    def _about(self, found: Likely) -> str:
        return f"kind {found.kind} looks like a TOA of layout {found.layout}"

    def _remedy(self, found: Likely) -> str:
        kinds = (*of_layout(self._kinds, found.layout), found.kind)
        return f"to read it: --kinds-{found.layout} {','.join(map(str, kinds))}"


def _say(words: str) -> None:
    print(f"cloud-toa: {words}", file=sys.stderr, flush=True)
