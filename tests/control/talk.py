# SPDX-License-Identifier: Apache-2.0
"""A session without a socket, and what it logged."""

from cloud_toa.control import Session
from cloud_toa.ports import SIZE, PortTable

NOW = 5 * 10**18
NOBODY = 65534
WRITE = "write add:PORT:CLIENT, del:PORT or quit:0"


class Talk(Session):
    """A session of its own table, and what it logged."""

    def __init__(self, uid: int = NOBODY, kinds: tuple[int, int] = (254, 254)) -> None:
        self.memory = bytearray(SIZE)
        self.table = PortTable(self.memory)
        self.log: list[str] = []
        self.counters = {"added": 0, "removed": 0, "refused": 0}
        super().__init__(
            self.table,
            kinds,
            uid,
            log=self.log.append,
            counters=self.counters,
            now=lambda: NOW,
        )

    def take(self, port: int, isn: int | None = 1) -> bytes:
        return self.table.take(port, 0, isn, NOW)
