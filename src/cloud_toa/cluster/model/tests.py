# SPDX-License-Identifier: Apache-2.0
"""Quick tests: one connection through a node that somebody asked for, and what became of it."""

import time
import tomllib
from ipaddress import ip_address

import msgspec
from msgspec import Struct

from cloud_toa.cluster.model import audit, nodes, random_tokens, settings
from cloud_toa.cluster.model.protocol import Outcome, Test
from cloud_toa.cluster.model.values import By, MissingError, Mistake, RefusedError, put, read
from cloud_toa.cluster.store import Store

PREFIX = "tests/"
_HOUR = 3600.0
_LARGEST = 64_000
"""Bytes of an outcome."""


class QuickTest(Struct, frozen=True, kw_only=True):
    """A test that was asked for."""

    id: str
    node: str
    service: str
    client: str | None
    who: str
    when: float
    outcome: Outcome | None = None
    """None as long as the node has not said."""

    @property
    def asked(self) -> Test:
        """What the node is told."""
        return Test(id=self.id, service=self.service, client=self.client)


async def ask(store: Store, node: str, service: str, client: str | None, by: By) -> QuickTest:
    """Ask a node to make a connection.

    Raises:
        MissingError: there is no such node.
        RefusedError: it is offline, has no such service, or the client is no IP address.
    """
    seen = await nodes.one(store, node)
    wrong = []
    if seen.state == "offline":
        message = f"node {seen.name} is offline: nothing can be tested"
        wrong.append(Mistake(message=message, field="node"))
    text = (await settings.current(store)).text
    names = [each["name"] for each in tomllib.loads(text).get("service", [])]
    if service not in names:
        there = f"there is {', '.join(names)}" if names else "none was saved yet"
        wrong.append(Mistake(message=f"no service {service!r}: {there}", field="service"))
    try:
        client = None if client is None else str(ip_address(client))
    except ValueError:
        wrong.append(Mistake(message=f"client {client!r} is not an IP address", field="client"))
    if wrong:
        raise RefusedError(*wrong)
    test = QuickTest(
        id=random_tokens.new_id(),
        node=node,
        service=service,
        client=client,
        who=by.name,
        when=time.time(),
    )
    await store.change(
        put(f"{PREFIX}{test.id}", test, 0, _HOUR),
        audit.record(by, "node.test", seen.name, after=service),
    )
    return test


async def one(store: Store, id_: str) -> QuickTest:
    """A test.

    Raises:
        MissingError: there is none of this id, or it is too long ago.
    """
    entry = await store.get(f"{PREFIX}{id_}")
    if entry is None:
        raise MissingError(f"there is no quick test {id_}: they are kept for an hour")
    return read(entry, QuickTest)


async def latest(store: Store, node: str | None = None) -> list[QuickTest]:
    """Tests of the last hour, newest first; of one node, if given."""
    entries, _ = await store.list(PREFIX)
    found = (read(entry, QuickTest) for entry in entries)
    return sorted(
        (test for test in found if node in (None, test.node)), key=lambda test: -test.when
    )


async def finish(store: Store, id_: str, node: str, outcome: Outcome) -> None:
    """Keep what a node says of a test that it was asked for.

    Raises:
        MissingError: it was not asked for this one.
        RefusedError: it says too much.
        ConflictError: it has said it at this moment.
    """
    entry = await store.get(f"{PREFIX}{id_}")
    test = read(entry, QuickTest) if entry else None
    if entry is None or test is None or test.node != node:
        raise MissingError(f"there is no quick test {id_} of this node")
    if len(msgspec.json.encode(outcome)) > _LARGEST:
        raise RefusedError(Mistake(message=f"the outcome is longer than {_LARGEST} bytes"))
    left = max(1.0, test.when + _HOUR - time.time())
    done = msgspec.structs.replace(test, outcome=outcome)
    await store.change(put(entry.key, done, entry.revision, left))
