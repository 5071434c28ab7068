# SPDX-License-Identifier: Apache-2.0
"""Calls to the members of an etcd, by the JSON gateway that each of them has.

One member is asked until it fails, then the next. What is only read is asked again elsewhere, come
what may. A change is sent again only if it is certain that it was not carried out: the member
could not be reached, or said that it has no leader. (``hasleader`` makes it say so at once;
otherwise it waits for seconds, and then nobody knows.)

Source: https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Any, TypeVar

import httpx
import msgspec

from cloud_toa.cluster.store import UnavailableError
from cloud_toa.cluster.store.etcd_errors import (
    UNAVAILABLE,
    LeaseGoneError,
    LostError,
    failure,
    not_known,
    refusal,
    said,
)
from cloud_toa.cluster.store.etcd_messages import (
    Failure,
    Token,
    Watched,
    WatchResult,
    decoded,
)
from cloud_toa.cluster.store.etcd_url import Address

CHANGE_SECONDS = 5.0
"""So long it is tried to find members that can keep a change: an election takes one or two."""
_CONNECT_SECONDS = 1.0
_READ_SECONDS = 2.5
_CALLS = 8
"""At once; more wait for their turn."""
_DOWN_SECONDS = 3.0
"""A member that could not be reached is not asked for so long, if there are others."""
_PAUSE_SECONDS = 0.1
_SILENT_SECONDS = 10.0
"""After so much silence of a watch, its member is asked whether it is alive."""
# Said before anything is done about a change, so that it can be sent again.
_NOT_DONE = ("no leader", "too many requests", "not capable")
_TOKEN_IS_OLD = ("invalid auth token", "revision of auth store is old")
# See google.rpc.Code. After these nobody knows what became of a change.
_UNSURE = {1, 2, 4, 10, 13, UNAVAILABLE, 15}
_NOT_FOUND = 5
_NEW_SECONDS = 5.0
_HAS_LEADER = {"Grpc-Metadata-hasleader": "true"}

# Not all that TLS refuses is made an error of httpx.
_FAILURES = (httpx.HTTPError, OSError, msgspec.MsgspecError)

T = TypeVar("T")
Body = Mapping[str, Any]


class _NobodyError(Exception):
    """None of the members can do it now."""


class Gateway:
    """All members of one etcd."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._members = address.members
        self._at = 0
        self._down = dict.fromkeys(self._members, 0.0)
        self._closed = False
        self._token = ""
        self._token_time = 0.0
        self._renewing = asyncio.Lock()
        # Not left to httpx, whose own queue takes longer the more wait.
        # Changes that hang, as they do at first when most members are gone, hold up no reads.
        self._turns = {again: asyncio.Semaphore(_CALLS) for again in (True, False)}
        tls = address.tls() or False
        # Without the proxies that the environment may name.
        self._calls = httpx.AsyncClient(
            verify=tls,
            trust_env=False,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=_CALLS),
        )
        self._watches = httpx.AsyncClient(
            verify=tls,
            trust_env=False,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
        )

    async def close(self) -> None:
        """End all connections."""
        self._closed = True
        await self._calls.aclose()
        await self._watches.aclose()

    async def read(
        self, path: str, body: Body, kind: type[T], *, seconds: float, leader: bool = True
    ) -> T:
        """Ask for what may be asked twice, until it is answered or the time is over.

        Args:
            path: behind ``/v3``.
            body: the message.
            kind: what the answer is.
            seconds: so long all members are asked in turn; once at least.
            leader: only members that have one, so that the answer is of now.

        Raises:
            UnavailableError: no member answers, or they refuse it.
        """
        headers = _HAS_LEADER if leader else {}
        try:
            return await self._ask(path, body, kind, seconds, headers)
        except _NobodyError as error:
            raise UnavailableError(
                f"etcd does not answer now: {error}: bring most of its members back"
            ) from error

    async def change(self, path: str, body: Body, kind: type[T], *, again: bool = False) -> T:
        """Ask for a change.

        Args:
            path: behind ``/v3``.
            body: the message.
            kind: what the answer is.
            again: it may be carried out twice.

        Raises:
            UnavailableError: it was not carried out, or that is not known; the message says which.
            LeaseGoneError: the lease that it names is none.
        """
        try:
            return await self._ask(path, body, kind, CHANGE_SECONDS, _HAS_LEADER, again=again)
        except _NobodyError as error:
            raise UnavailableError(
                f"etcd can't keep anything now, and nothing was changed: {error}: "
                "bring most of its members back"
            ) from error

    async def watch(self, body: Body) -> AsyncGenerator[WatchResult]:
        """What a watch tells, as long as the member does.

        Raises:
            LostError: it does not any more.
            UnavailableError: they refuse it.
        """
        member = self._in_reach()[0]
        token = await self._authenticated()
        try:
            async with AsyncExitStack() as open_:
                # One that hangs is connected to all the same.
                async with asyncio.timeout(_READ_SECONDS):
                    response = await open_.enter_async_context(
                        self._watches.stream(
                            "POST",
                            f"{member}/v3/watch",
                            content=msgspec.json.encode(body),
                            headers={**_HAS_LEADER, **_authorization(token)},
                        )
                    )
                lines = self._lines(response, member, token)
                await open_.enter_async_context(aclosing(lines))
                async for line in lines:
                    yield self._result(line, member, token)
        except _FAILURES as error:
            self._leave(member)
            raise LostError(f"{member}: {said(error)}") from error
        self._leave(member)
        raise LostError(f"{member}: the watch has ended")

    async def _lines(
        self, response: httpx.Response, member: str, token: str
    ) -> AsyncGenerator[str]:
        lines = response.aiter_lines()
        waiting: asyncio.Future[str] | None = None
        try:
            while True:
                waiting = asyncio.ensure_future(anext(lines))
                while not (await asyncio.wait({waiting}, timeout=_SILENT_SECONDS))[0]:
                    # One that hangs, or whose host is gone, is silent, too.
                    await self._calls.post(
                        f"{member}/v3/kv/range",
                        content=b'{"key":"AA==","serializable":true}',
                        headers=_authorization(token),
                        timeout=_timeout(_READ_SECONDS),
                    )
                try:
                    yield waiting.result()
                except StopAsyncIteration:
                    return
        finally:
            if waiting is not None and not waiting.done():
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)

    async def _ask(
        self,
        path: str,
        body: Body,
        kind: type[T],
        seconds: float,
        headers: Mapping[str, str],
        *,
        again: bool = True,
    ) -> T:
        content = msgspec.json.encode(body)
        end = time.monotonic() + seconds
        timeout = _timeout(_READ_SECONDS if again else CHANGE_SECONDS)
        troubles: dict[str, str] = {}
        renewed = False
        while True:
            for member in self._in_reach():
                if self._closed:
                    raise UnavailableError("the store is closed")
                token = "" if kind is Token else await self._authenticated()
                try:
                    async with self._turns[again]:
                        response = await self._calls.post(
                            f"{member}/v3{path}",
                            content=content,
                            headers={**headers, **_authorization(token)},
                            timeout=timeout,
                        )
                    if response.is_success:
                        return decoded(response.content, kind)
                    failed = failure(response)
                except _FAILURES as error:
                    troubles[member] = said(error)
                    unreached = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                    self._leave(member, down=unreached)
                    if not again and not unreached:
                        raise not_known(member, troubles[member]) from error
                    continue
                if any(words in failed.message for words in _TOKEN_IS_OLD) and not renewed:
                    renewed = True
                    self._forget(token)
                    end = max(end, time.monotonic() + _PAUSE_SECONDS)
                    continue
                troubles[member] = failed.message
                self._judge(member, failed, again=again)
            if time.monotonic() >= end:
                raise _NobodyError("; ".join(f"{name}: {why}" for name, why in troubles.items()))
            await asyncio.sleep(_PAUSE_SECONDS)

    def _judge(self, member: str, failed: Failure, *, again: bool) -> None:
        """Whether to ask elsewhere; else it raises why not."""
        if any(words in failed.message for words in _NOT_DONE):
            self._leave(member)
        elif failed.code in _UNSURE:
            self._leave(member)
            if not again:
                raise not_known(member, failed.message)
        elif failed.code == _NOT_FOUND and "lease" in failed.message:
            raise LeaseGoneError
        else:
            raise refusal(failed.message)

    def _result(self, line: str, member: str, token: str) -> WatchResult:
        told = decoded(line.encode(), Watched)
        if told.error is not None:
            self._leave(member)
            raise LostError(f"{member}: {told.error.message}")
        result = told.result or WatchResult()
        if result.canceled and not result.compact_revision:
            # Also said of a token that is too old. If it was new, it is about the user.
            if token and self._forget(token):
                raise LostError(f"{member}: {result.cancel_reason}")
            raise refusal(result.cancel_reason)
        return result

    def _in_reach(self) -> list[str]:
        """Members to ask, in this order."""
        now = time.monotonic()
        order = self._members[self._at :] + self._members[: self._at]
        return [member for member in order if self._down[member] <= now] or order

    def _leave(self, member: str, *, down: bool = False) -> None:
        """Ask another one from now on."""
        if self._members[self._at] == member:
            self._at = (self._at + 1) % len(self._members)
        if down:
            self._down[member] = time.monotonic() + _DOWN_SECONDS

    async def _authenticated(self) -> str:
        """The token that we are known by; empty where no user is named."""
        if not self._address.user:
            return ""
        async with self._renewing:
            if not self._token:
                body = {"name": self._address.user, "password": self._address.password()}
                answer = await self.read("/auth/authenticate", body, Token, seconds=CHANGE_SECONDS)
                self._token, self._token_time = answer.token, time.monotonic()
            return self._token

    def _forget(self, token: str) -> bool:
        """Get another token for the next call; false where this one is too new for that to help."""
        if token == self._token:
            self._token = ""
            return time.monotonic() - self._token_time > _NEW_SECONDS
        return True


def _timeout(seconds: float) -> httpx.Timeout:
    return httpx.Timeout(seconds, connect=_CONNECT_SECONDS, pool=None)


def _authorization(token: str) -> dict[str, str]:
    return {"Authorization": token} if token else {}
