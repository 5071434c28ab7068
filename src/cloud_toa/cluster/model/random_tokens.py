# SPDX-License-Identifier: Apache-2.0
"""Secrets that machines remember: 256 bits by chance. The store has their SHA-256 alone.

They have so many bits that a fast hash is as good as a slow one.
"""

import base64
import hashlib
import hmac
import secrets


def new(kind: str, of: str = "") -> str:
    """A token such as ``node_7f3a91c2_<secret>``: what it is for can be seen, and searched for."""
    return "_".join(filter(None, (kind, of, secret())))


def secret() -> str:
    """The part of a token that nobody guesses: 43 characters of base64url."""
    return secrets.token_urlsafe(32)


def derived(kind: str, of: str, ours: str, theirs: str) -> str:
    """A token as `new` makes them, and the same one each time for the same two secrets.

    Nobody finds it who lacks one of them: it is as good as the better one.
    """
    bits = hmac.digest(ours.encode(), f"{of}:{theirs}".encode(), "sha256")
    return "_".join((kind, of, base64.urlsafe_b64encode(bits).decode().rstrip("=")))


def owner(token: str, kind: str) -> str | None:
    """Of whom a token says that it is; None where it is of another kind."""
    parts = token.split("_", 2)
    return parts[1] if len(parts) == 3 and parts[0] == kind else None


def new_id() -> str:
    """A name that nothing else has."""
    return secrets.token_hex(6)


def hashed(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def equal(one: str, other: str) -> bool:
    """Whether two secrets are the same; takes the same time for all."""
    return hmac.compare_digest(one.encode(errors="replace"), other.encode())


def same(token: str, hash_: str) -> bool:
    """Whether this is the token that was kept so; takes the same time for all."""
    return hmac.compare_digest(hashed(token), hash_)
