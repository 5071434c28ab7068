# SPDX-License-Identifier: Apache-2.0
"""The cluster's nodes: how one joins, what it last said, and whether it is there.

A node is there as long as its key ``alive/`` is, which the store lets expire: so the store's
clock counts, and not the node's. A join token may be used several times within its hour, as
edges are often set up by the dozen; whoever makes it says how often. A used-up one is kept as
long, for nodes that lost the answer.
"""

import re
import time
from contextlib import suppress

from msgspec import Struct
from msgspec.structs import replace

from cloud_toa.cluster.model import audit, node_state, random_tokens, settings
from cloud_toa.cluster.model.protocol import Facts, Join, Joined, Status
from cloud_toa.cluster.model.values import By, MissingError, Mistake, RefusedError, put, read
from cloud_toa.cluster.store import ConflictError, Delete, Entry, Put, Store
from cloud_toa.errors import ToaError

ALIVE_SECONDS = 45.0
JOIN_SECONDS = 3600.0
MOST_USES = 1000
_NOT_GOOD = "this join token is not known, used up or too old: get a new one"
_WORD = {True: "drained", False: "in use"}
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


class Node(Struct, frozen=True, kw_only=True):
    """A node as the cluster knows it."""

    id: str
    name: str
    token_hash: str
    joined: float
    facts: Facts
    """When it joined; `Status` has newer ones."""
    drained: bool = False


class Heard(Struct, frozen=True, kw_only=True):
    """What a node last said of itself, and when that was by the server's clock."""

    status: Status
    time: float


class View(Struct, frozen=True, kw_only=True):
    """A node with its state; without its secret."""

    id: str
    name: str
    state: node_state.State
    joined: float
    drained: bool
    facts: Facts
    wanted: int
    """The revision that the cluster has in force."""
    status: Status | None
    heard: float | None
    skew: float
    """Seconds by which its clock is ahead; 0 up to five."""


class JoinToken(Struct, frozen=True, kw_only=True):
    """How often a join token can still be used; its secret is told once and not kept."""

    uses: int
    expires: float
    by: str


class NewJoinToken(Struct, frozen=True, kw_only=True):
    """A join token, for the one who asked."""

    token: str
    uses: int
    expires: float


class JoinError(ToaError):
    """A node may not join: its token is unknown, used up, or too old."""


def view(node: Node, heard: Heard | None, alive: bool, wanted: int) -> View:
    """A node as it is shown. Pure."""
    status = heard.status if heard else None
    return View(
        id=node.id,
        name=node.name,
        state=node_state.state(status, alive, wanted),
        joined=node.joined,
        drained=node.drained,
        facts=status.facts if status else node.facts,
        wanted=wanted,
        status=status,
        heard=heard.time if heard else None,
        skew=node_state.skew(heard.status, heard.time) if heard else 0.0,
    )


async def all(store: Store) -> list[View]:  # noqa: A001  (nodes.all)
    """Every node, by name."""
    wanted = (await settings.current(store)).number
    entries, _ = await store.list("nodes/")
    heard = {each.key[7:]: read(each, Heard) for each in (await store.list("status/"))[0]}
    alive = {each.key[6:] for each in (await store.list("alive/"))[0]}
    nodes = [read(entry, Node) for entry in entries]
    return sorted(
        (view(node, heard.get(node.id), node.id in alive, wanted) for node in nodes),
        key=lambda each: (each.name, each.id),
    )


async def one(store: Store, id_: str) -> View:
    """A node.

    Raises:
        MissingError: there is none of this id.
    """
    node, _ = await known(store, id_)
    heard = await store.get(f"status/{id_}")
    alive = await store.get(f"alive/{id_}")
    wanted = (await settings.current(store)).number
    return view(node, read(heard, Heard) if heard else None, alive is not None, wanted)


async def known(store: Store, id_: str) -> tuple[Node, Entry]:
    """A node as it is kept, with its entry.

    Raises:
        MissingError: there is none of this id.
    """
    entry = await store.get(f"nodes/{id_}")
    if entry is None:
        raise MissingError(f"there is no node {id_}")
    return read(entry, Node), entry


async def by_token(store: Store, token: str) -> Node | None:
    """Whose token this is; None where it is nobody's."""
    id_ = random_tokens.owner(token, "node")
    entry = None if id_ is None else await store.get(f"nodes/{id_}")
    node = read(entry, Node) if entry else None
    return node if node and random_tokens.same(token, node.token_hash) else None


async def join_token(
    store: Store, by: By, *, uses: int = 1, seconds: float = JOIN_SECONDS
) -> NewJoinToken:
    """A new token that so many nodes can join with.

    Raises:
        RefusedError: it would be good for too many nodes.
    """
    if not 1 <= uses <= MOST_USES:
        raise RefusedError(
            Mistake(message=f"{uses} uses: from 1 to {MOST_USES} nodes", field="uses")
        )
    token = random_tokens.new("join")
    kept = JoinToken(uses=uses, expires=time.time() + seconds, by=by.name)
    await store.change(
        put(_joining(token), kept, 0, seconds),
        audit.record(by, "node.join_token", after=f"{uses} uses"),
    )
    return NewJoinToken(token=token, uses=uses, expires=kept.expires)


async def join(store: Store, token: str, wish: Join, address: str) -> Joined:
    """Take a node in; one that asks the same again is told the same, and counted once.

    Raises:
        JoinError: the token is not good.
        RefusedError: the name can't be a node's.
        ConflictError: another node has the name.
    """
    if not _NAME.fullmatch(wish.name):
        raise RefusedError(
            Mistake(
                message=f"a node can't be called {wish.name!r}: up to 63 letters, digits, '.', "
                "'_' and '-', a letter or digit at both ends",
                field="name",
            )
        )
    while True:
        entry = await store.get(_joining(token))
        if entry is None or (kept := read(entry, JoinToken)).expires <= time.time():
            raise JoinError(_NOT_GOOD)
        # Read after the token: whoever has used that has the name by then.
        named = await store.get(_named(wish.name))
        if named is not None:
            id_, _, hash_ = named.value.decode().partition(" ")
            own = _own(token, wish, id_)
            if random_tokens.same(own, hash_):
                return Joined(id=id_, token=own)
            raise ConflictError(
                f"there is a node {wish.name} already: remove it, or join by another name"
            )
        if not kept.uses:
            raise JoinError(_NOT_GOOD)
        fewer = replace(kept, uses=kept.uses - 1)
        use = put(entry.key, fewer, entry.revision, kept.expires - time.time())
        with suppress(ConflictError):  # another node has used the token, or has the name now
            return await _join(store, use, token, wish, address)


async def _join(store: Store, use: Put, token: str, wish: Join, address: str) -> Joined:
    id_ = random_tokens.new_id()
    own = _own(token, wish, id_)
    node = Node(
        id=id_,
        name=wish.name,
        token_hash=random_tokens.hashed(own),
        joined=time.time(),
        facts=wish.facts,
    )
    await store.change(
        use,
        put(f"nodes/{id_}", node, 0),
        _naming(node, 0),
        audit.record(By(f"node:{wish.name}", address), "node.join", wish.name, after=id_),
    )
    return Joined(id=id_, token=own)


def _own(token: str, wish: Join, id_: str) -> str:
    """A node's first token: so that the same wish has the same one, and no copy of it is kept."""
    return random_tokens.derived("node", id_, token, wish.secret)


async def drain(store: Store, id_: str, drained: bool, by: By) -> None:
    """Have a node take no new connections, or take them again.

    Raises:
        MissingError: there is no such node.
        ConflictError: somebody else changes it at this moment.
    """
    node, entry = await known(store, id_)
    if node.drained == drained:
        return
    await store.change(
        put(entry.key, replace(node, drained=drained), entry.revision),
        audit.record(by, "node.drain", node.name, _WORD[node.drained], _WORD[drained]),
    )


async def reissue(store: Store, id_: str, by: By) -> str:
    """Give a node another token; the former one is no longer good.

    Raises:
        MissingError, ConflictError: see `drain`.
    """
    node, entry = await known(store, id_)
    token = random_tokens.new("node", id_)
    changed = replace(node, token_hash=random_tokens.hashed(token))
    await store.change(
        put(entry.key, changed, entry.revision),
        _naming(changed),
        audit.record(by, "node.reissue", node.name),
    )
    return token


async def remove(store: Store, id_: str, by: By) -> None:
    """Forget a node; its token is no longer good, and it serves on with what it has.

    Raises:
        MissingError, ConflictError: see `drain`.
    """
    node, entry = await known(store, id_)
    await store.change(
        Delete(entry.key, entry.revision),
        Delete(_named(node.name)),
        Delete(f"status/{id_}"),
        Delete(f"alive/{id_}"),
        audit.record(by, "node.remove", node.name, id_),
    )


def heard(id_: str, status: Status) -> list[Put]:
    """The changes that keep what a node says, and that it is there; for many nodes at once."""
    return [
        put(f"status/{id_}", Heard(status=status, time=time.time())),
        Put(f"alive/{id_}", b"", None, ALIVE_SECONDS),
    ]


def _joining(token: str) -> str:
    return f"joining/{random_tokens.hashed(token)}"


def _named(name: str) -> str:
    return f"names/{name}"


def _naming(node: Node, expected: int | None = None) -> Put:
    """The name is this node's; with the hash, as `Mirror` may not have a new node yet."""
    return Put(_named(node.name), f"{node.id} {node.token_hash}".encode(), expected)
