# SPDX-License-Identifier: Apache-2.0
"""Calls of a node to its cluster's API servers: whichever of them answers.

The token goes to the servers that were named, and nowhere else: a redirection is an error.
Calls that can't be answered are tried at the next server; nothing here waits and tries again.
"""

from collections.abc import AsyncGenerator, Mapping
from importlib.metadata import version
from typing import Any

import httpx
import msgspec
from httpx_sse import EventSource, SSEError

from cloud_toa.cluster.agent.servers import Servers
from cloud_toa.cluster.model.protocol import Settings, Test
from cloud_toa.errors import ToaError

SILENCE = 45.0
"""Seconds without a byte after which an event stream is dead: three of the server's comments."""
_PATIENCE = httpx.Timeout(15.0, connect=10.0)
_LIMITS = httpx.Limits(max_connections=8, keepalive_expiry=70.0)
"""A connection is kept for longer than a node is silent, and less long than servers keep it."""


class UnreachableError(ToaError):
    """No server answers, or none can at the moment."""


class RevokedError(ToaError):
    """The server does not know the token: it was revoked, is used up, or wrong."""


class TurnedDownError(ToaError):
    """The server does not take what was said; it would not take it again either."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """The servers; ``token`` is shown to them."""

    def __init__(self, servers: Servers, token: str = "") -> None:
        self.token = token
        self._urls = servers.urls
        self._at = 0
        self._client = httpx.AsyncClient(
            verify=servers.context,
            timeout=_PATIENCE,
            limits=_LIMITS,
            follow_redirects=False,
            headers={"User-Agent": f"cloud-toa/{version('cloud-toa')}"},
        )

    @property
    def server(self) -> str:
        """Whom it asks at the moment."""
        return self._urls[self._at]

    def go_on(self) -> None:
        """Ask the next server from now on."""
        self._at = (self._at + 1) % len(self._urls)

    async def send(
        self,
        method: str,
        path: str,
        said: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Call a server, and the next one where that does not answer.

        Where there is one alone it is tried twice: a connection that was kept may just have ended.

        Raises:
            UnreachableError, RevokedError, TurnedDownError: see there.
        """
        content = None if said is None else msgspec.json.encode(said)
        error: UnreachableError | None = None
        for _ in range(max(2, len(self._urls))):
            try:
                response = await self._client.request(
                    method, self.server + path, content=content, headers=self._headers(headers)
                )
                self._check(response)
            except UnreachableError as again:
                error = again
            except httpx.HTTPError as again:
                error = self._unreachable(again)
            else:
                return response
            self.go_on()
        assert error is not None
        raise error

    async def events(self) -> AsyncGenerator[Settings | Test]:
        """What the server tells, until it ends the stream; others than these are passed over.

        Raises:
            UnreachableError: or it is silent, or says what can't be read.
            RevokedError, TurnedDownError: see there.
        """
        patience = httpx.Timeout(SILENCE, connect=10.0)
        url = f"{self.server}/node/events"
        headers = self._headers({"Accept": "text/event-stream"})
        try:
            async with self._client.stream("GET", url, headers=headers, timeout=patience) as answer:
                if not answer.is_success:
                    await answer.aread()
                self._check(answer)
                async for event in EventSource(answer).aiter_sse():
                    if event.event == "settings":
                        yield msgspec.json.decode(event.data, type=Settings)
                    elif event.event == "test":
                        yield msgspec.json.decode(event.data, type=Test)
        except (httpx.HTTPError, SSEError) as error:
            raise self._unreachable(error) from None
        except msgspec.DecodeError as error:
            raise UnreachableError(f"{self.server} says what is no event: {error}") from None

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()

    def _headers(self, more: Mapping[str, str] | None) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json",
            **(more or {}),
        }

    def _check(self, response: httpx.Response) -> None:
        status = response.status_code
        if response.is_success or status == 304:
            return
        why = f"{self.server}: {_detail(response)}"
        if response.is_redirect:
            place = response.headers.get("Location", "elsewhere")
            raise UnreachableError(
                f"{self.server} leads to {place:.200}, where the token is not sent: if that is "
                "the console, give its URL by --server"
            )
        if status == 401:
            raise RevokedError(why)
        if status in (408, 421, 425, 429) or status >= 500:
            raise UnreachableError(why)
        raise TurnedDownError(why, status)

    def _unreachable(self, error: Exception) -> UnreachableError:
        what = str(error) or type(error).__name__
        if isinstance(error, httpx.TimeoutException):
            what = "no answer in time"
        elif "CERTIFICATE_VERIFY_FAILED" in what:
            what = f"its certificate is not believed ({what.partition('FAILED] ')[2]}): name its "
            what += "authority by --ca FILE"
        elif isinstance(error, SSEError):
            what = f"it has no events: {what}"
        return UnreachableError(f"{self.server}: {what}")


def _detail(response: httpx.Response) -> str:
    try:
        said: Any = response.json()
        return f"{said['detail']}"[:500]
    except (ValueError, TypeError, KeyError, httpx.ResponseNotRead):
        return f"status {response.status_code} {response.reason_phrase}"
