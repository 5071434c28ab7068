# SPDX-License-Identifier: Apache-2.0
"""Why an etcd did not do what it was asked, for an operator."""

import httpx
import msgspec

from cloud_toa.cluster.store import UnavailableError
from cloud_toa.cluster.store.etcd_messages import Failure, decoded

UNAVAILABLE = 14
"""Of google.rpc.Code."""


class LeaseGoneError(Exception):
    """The lease of a change is not there any more; nothing was changed."""


class LostError(Exception):
    """A watch's member does not go on; another may."""


def failure(response: httpx.Response) -> Failure:
    """What a member says of a call that it did not carry out."""
    try:
        return decoded(response.content, Failure)
    except msgspec.MsgspecError:  # before the gateway, or not etcd at all
        text = " ".join(response.text[:200].split())
        code = UNAVAILABLE if response.status_code >= 500 else 0
        return Failure(text or f"HTTP status {response.status_code}", code)


def said(error: Exception) -> str:
    """What became of a call that was not answered."""
    match error:
        case httpx.ConnectError():
            return f"no connection ({error})"
        case httpx.TimeoutException():
            return "no answer in time"
        case httpx.ReadError() | httpx.RemoteProtocolError():
            return "ended the connection"
        case msgspec.MsgspecError():
            return "no answer of an etcd's gateway"
    return str(error) or type(error).__name__


def not_known(member: str, why: str) -> UnavailableError:
    """Of a change that may have been carried out."""
    return UnavailableError(
        f"{member} did not say whether it kept the change ({why}): read it again to see"
    )


def refusal(why: str) -> UnavailableError:
    """Of a call that a member refuses; with the remedy where there is one."""
    if "database space exceeded" in why:
        # The change that fills it is carried out, and refused in the same words (etcd 3.4, 3.5:
        # etcdserver/apply.go).
        return UnavailableError(
            "etcd's database is full; read the change again to see whether it was kept all the "
            "same: run 'etcdctl defrag', then 'etcdctl alarm disarm', or raise "
            "--quota-backend-bytes"
        )
    if "CommonName" in why:
        return UnavailableError(
            "etcd takes no certificate with a common name where there are users: "
            "make one for cert= without, such as with 'openssl req -subj /O=cloud-toa'"
        )
    if "permission denied" in why:
        return UnavailableError(
            "etcd does not let this user read and write below /cloud-toa/: run "
            "'etcdctl role grant-permission ROLE --prefix=true readwrite /cloud-toa/'"
        )
    return UnavailableError(f"etcd refused it, and nothing was changed: {why}")
