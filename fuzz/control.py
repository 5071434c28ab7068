# SPDX-License-Identifier: Apache-2.0
"""The control socket: whatever a peer writes, and however it is cut, comes to the same."""

from cloud_toa.control import Session
from cloud_toa.ports import SIZE, PortTable

_NOBODY = 65534


def one(data: bytes) -> None:
    """Never raises; answers a line with a line; and only root ends the process."""
    if not data:
        return
    cut, said = data[0], data[1:]
    whole, pieces = _talk([said]), _talk([said[:cut], said[cut:]])
    assert whole == pieces, (whole, pieces)
    replies, log, counters, quits = whole
    assert not quits
    assert len(log) == counters["refused"]
    assert all(text.isprintable() for text in (*replies, *log))


def _talk(pieces: list[bytes]) -> tuple[list[str], list[str], dict[str, int], bool]:
    log: list[str] = []
    counters = {"added": 0, "removed": 0, "refused": 0}
    session = Session(
        PortTable(bytearray(SIZE)),
        (254, 254),
        _NOBODY,
        log=log.append,
        counters=counters,
        now=lambda: 10**12,
    )
    replies = [reply for piece in pieces for reply in session.receive(piece)]
    session.end()
    return replies, log, counters, session.quit
