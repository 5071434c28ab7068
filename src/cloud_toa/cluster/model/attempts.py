# SPDX-License-Identifier: Apache-2.0
"""How often somebody may try a password: by account, and by address; counted in the store.

An attempt is counted before the password is looked at, so that many at the same time are counted
as well. One that was good is taken back. What an account is refused for, its owner feels as
well as who tries: so it is short.
"""

import hashlib
import time
from ipaddress import IPv6Address, ip_address, ip_network

from msgspec import Struct

from cloud_toa.cluster.model.values import put, read
from cloud_toa.cluster.store import ConflictError, Delete, Store
from cloud_toa.errors import ToaError

SECONDS = 300.0
"""From the first one on."""
BY_ACCOUNT = 10
BY_ADDRESS = 50


class Attempts(Struct, frozen=True, kw_only=True):
    """So many in the time until ``expires``."""

    count: int
    expires: float


class TooManyError(ToaError):
    """It was tried too often."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many failed attempts: try again in {seconds} seconds")
        self.seconds = seconds


async def take(store: Store, account: str, address: str) -> None:
    """Count an attempt.

    Raises:
        TooManyError: it was one too many; the password is not to be looked at.
    """
    await _take(store, _by_address(address), BY_ADDRESS)
    await _take(store, _by_account(account), BY_ACCOUNT)


async def give_back(store: Store, account: str, address: str) -> None:
    """The attempt was good: the account's are forgotten, and the address has one less."""
    await store.change(Delete(_by_account(account)))
    key = _by_address(address)
    entry = await store.get(key)
    if entry is None:
        return
    before = read(entry, Attempts)
    left = Attempts(count=max(0, before.count - 1), expires=before.expires)
    seconds = max(1.0, before.expires - time.time())
    try:
        await store.change(put(key, left, entry.revision, seconds))
    except ConflictError:
        return  # another attempt from there is counted at this moment; one too many is no harm


async def _take(store: Store, key: str, most: int) -> None:
    while True:
        entry = await store.get(key)
        before = read(entry, Attempts) if entry else Attempts(count=0, expires=0.0)
        now = time.time()
        if before.expires <= now:
            before = Attempts(count=0, expires=now + SECONDS)
        left = max(1.0, before.expires - now)
        if before.count >= most:
            raise TooManyError(int(left) + 1)
        after = Attempts(count=before.count + 1, expires=before.expires)
        try:
            await store.change(put(key, after, entry.revision if entry else 0, left))
        except ConflictError:
            continue
        return


def _by_account(name: str) -> str:
    return f"attempts/account/{hashlib.sha256(name.casefold().encode()).hexdigest()}"


def _by_address(address: str) -> str:
    try:
        ip = ip_address(address)
    except ValueError:
        return f"attempts/address/{hashlib.sha256(address.encode()).hexdigest()}"
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is None:
        # Whoever has one address of IPv6 has its whole /64.
        return f"attempts/address/{ip_network((ip, 64), strict=False).network_address}"
    return f"attempts/address/{ip}"
