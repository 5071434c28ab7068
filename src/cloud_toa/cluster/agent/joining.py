# SPDX-License-Identifier: Apache-2.0
"""By which token a node is known: its own, which it got for a join token.

The token file has a join token at first. An answer that is lost is asked for again: a secret that
the node made before shows that it is the same one. When the node's own token is refused, another
text in the file is tried: a token that an operator issued anew, or another join token.
"""

import logging
from pathlib import Path

import msgspec

from cloud_toa.cluster.agent.api import Api, RevokedError
from cloud_toa.cluster.agent.kept import Identity, Kept, digest
from cloud_toa.cluster.model import random_tokens
from cloud_toa.cluster.model.protocol import Facts, Join, Joined
from cloud_toa.errors import ToaError

_log = logging.getLogger(__name__)
_LONGEST = 4096


class Joining:
    """A node's way into its cluster.

    Args:
        kept: where its own token is.
        file: the token file.
        name: what it wants to be called.
        facts: of its host.
    """

    def __init__(self, kept: Kept, file: Path, name: str, facts: Facts) -> None:
        self._kept, self._file = kept, file
        self._name, self._facts = name, facts
        self._refused = ""

    async def identify(self, api: Api) -> None:
        """Have the node's own token shown from now on; join where there is none.

        Raises:
            RevokedError: the join token is not good.
            ToaError: it can't be read, the server does not answer, or has another such node.
        """
        if api.token:
            return
        known = self._kept.identity()
        if known is not None:
            api.token = known.token
            return
        await self._use(api, self._read())

    async def renew(self, api: Api) -> bool:
        """After a refusal: take what is new in the token file; answer whether there was.

        Raises:
            ToaError: see `identify`.
        """
        text = self._read()
        known = self._kept.identity()
        before = known.from_file if known else ""
        if digest(text) in (before, self._refused):
            return False
        await self._use(api, text)
        return True

    async def _use(self, api: Api, text: str) -> None:
        if random_tokens.owner(text, "node") is None:
            self._kept.see_room()
            token = await self._joined(api, text)
            _log.info("joined the cluster as %s, at %s", self._name, api.server)
        else:
            token = text
            _log.info("the token in %s is the node's own now", self._file)
        api.token = token
        self._kept.keep_identity(Identity(token=token, from_file=digest(text)))

    async def _joined(self, api: Api, text: str) -> str:
        wish = Join(name=self._name, facts=self._facts, secret=self._kept.join_secret(digest(text)))
        shown = {"Authorization": f"Bearer {text}"}
        try:
            response = await api.send("POST", "/node/join", wish, shown)
        except RevokedError as error:
            self._refused = digest(text)
            raise RevokedError(f"{error} (the token in {self._file})") from None
        return msgspec.json.decode(response.content, type=Joined).token

    def _read(self) -> str:
        try:
            with self._file.open(encoding="utf-8") as file:
                text = file.read(_LONGEST).strip()
        except UnicodeDecodeError:
            text = ""
        except OSError as error:
            raise ToaError(f"--token-file {self._file} can't be read: {error.strerror}") from None
        if not text or not text.isascii() or not text.isprintable() or " " in text:
            raise ToaError(f"--token-file {self._file} has no token in it, as one line")
        return text
