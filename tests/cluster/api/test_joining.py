# SPDX-License-Identifier: Apache-2.0
"""Many nodes join together by one token: one after the other, and nobody in vain."""

import asyncio
from pathlib import Path

import httpx
import msgspec

from cloud_toa.cluster.api import server
from cloud_toa.cluster.api.cluster import Cluster, Options
from cloud_toa.cluster.model import nodes
from cloud_toa.cluster.model.protocol import Facts, Join
from cloud_toa.cluster.model.values import By
from cloud_toa.cluster.store import Change, ConflictError
from cloud_toa.cluster.store.mirror import Mirror
from cloud_toa.cluster.store.sqlite import SqliteStore

TOGETHER = 40
FACTS = Facts(version="0.1.0", kernel="6.1", architecture="x86_64", hostname="edge")


class Counting(Mirror):
    """A store that other callers have a turn at before each change, and its conflicts."""

    conflicts = 0

    async def change(self, *changes: Change) -> int:
        await asyncio.sleep(0.001)
        try:
            return await super().change(*changes)
        except ConflictError:
            self.conflicts += 1
            raise


def test_nodes_that_use_a_token_together(tmp_path: Path) -> None:
    async def main() -> None:
        store = Counting(await SqliteStore.open(tmp_path / "cluster.db"), ())
        cluster = Cluster(store, Options())
        await cluster.start()
        try:
            made = await nodes.join_token(cluster.store, By("ann", "192.0.2.1"), uses=TOGETHER)
            transport = httpx.ASGITransport(app=server.app(cluster, None))
            headers = {"Authorization": f"Bearer {made.token}", "Content-Type": "application/json"}
            async with httpx.AsyncClient(
                transport=transport, base_url="http://localhost", headers=headers
            ) as client:

                async def join(number: int) -> httpx.Response:
                    wish = Join(name=f"edge-{number}", facts=FACTS, secret=f"{number:043}")
                    return await client.post("/node/join", content=msgspec.json.encode(wish))

                answers = await asyncio.gather(*map(join, range(TOGETHER)))
                assert [answer.status_code for answer in answers] == [201] * TOGETHER
                assert len({answer.json()["id"] for answer in answers}) == TOGETHER
                assert store.conflicts == 0
                # It is used up.
                assert (await join(TOGETHER)).status_code == 401
        finally:
            await cluster.stop()

    asyncio.run(main())
