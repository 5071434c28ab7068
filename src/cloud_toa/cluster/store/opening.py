# SPDX-License-Identifier: Apache-2.0
"""A store by its URL: ``sqlite:///var/lib/cloud-toa/console/cluster.db``, ``etcd://h1,h2,h3``."""

from pathlib import Path
from urllib.parse import unquote

from cloud_toa.cluster.store import Store, etcd_url
from cloud_toa.cluster.store.sqlite import SqliteStore
from cloud_toa.errors import ToaError

DEFAULT = "sqlite:///var/lib/cloud-toa/console/cluster.db"


async def open_store(url: str, *, make: bool = True) -> Store:
    """Open the store that a URL names, in this loop; `Store.close` it in the end.

    Members of etcd need not answer yet: what is asked of the store raises `UnavailableError`
    until they do.

    Args:
        url: see `DEFAULT` and `etcd_url`.
        make: a file where there is none.

    Raises:
        ToaError: the URL is none of a store.
        UnavailableError: the file can't be a store; the message says why.
    """
    scheme = url.partition(":")[0].lower() if ":" in url else ""
    if scheme == "sqlite":
        name = url[len("sqlite://") :]
        if not name.startswith("/") or not name.strip("/") or "?" in name or "#" in name:
            raise ToaError(
                f"{url} names no file: write its whole path behind three slashes, such as "
                "sqlite:///var/lib/cloud-toa/console/cluster.db"
            )
        path = Path(unquote(name))
        if not make and not path.exists():
            raise ToaError(f"there is no {path}: name the file of a store")
        return await SqliteStore.open(path)
    if scheme == "etcd":
        address = etcd_url.read(url)
        try:
            # Here, as it needs what only a cluster needs.
            from cloud_toa.cluster.store.etcd import EtcdStore  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise ToaError(
                f"{error.name} is missing, by which etcd is asked: pip install 'cloud-toa[cluster]'"
            ) from None
        return EtcdStore(address)
    raise ToaError(
        f"{scheme or 'a path'} is no store: name one such as "
        "sqlite:///var/lib/cloud-toa/console/cluster.db or etcd://h1,h2,h3"
    )
