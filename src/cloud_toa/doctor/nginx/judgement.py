# SPDX-License-Identifier: Apache-2.0
"""Whom nginx names by a transparent source, and what its workers need for it. Pure.

In ``stream {}`` each client has a connection to the origin of its own. In ``http {}`` a connection
that is kept serves the next request, whoever that comes from, and the origin goes on seeing the
client for whom it was made. nginx keeps connections to upstreams that are a block with
``keepalive``; since 1.29.7 to every such block but those with ``keepalive 0``. It keeps none to an
address that stands in ``proxy_pass`` itself.

A master that is root and has workers of another user lets them keep CAP_NET_RAW where any source is
transparent. Without that capability they end: "capset() failed".

Source: nginx, ngx_http_upstream_keepalive_module.c, ngx_process_cycle.c (ngx_worker_process_init);
tried with 1.22 and 1.30.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cloud_toa.doctor.nginx.text import Blocks, Directive

KEEPS_BY_DEFAULT = (1, 29, 7)
"""The first nginx that keeps connections to an upstream of which nothing is said."""

_PASS = {f"{protocol}_pass": f"{protocol}_bind" for protocol in ("proxy", "grpc", "fastcgi")} | {
    "memcached_pass": "memcached_bind"
}
_SCHEME = re.compile(r"^\w+://")


@dataclass(frozen=True)
class Shared:
    """Connections to an upstream that are kept, and so name the wrong client."""

    where: str
    """Of the directive that passes requests to it, as ``file:line``."""
    upstream: str
    says_so: bool
    """Whether it is by a ``keepalive`` of its own, and not by default."""


def version(said: str) -> tuple[int, ...]:
    """The version in what ``nginx -v`` says; () where there is none."""
    found = re.search(r"(?:nginx|openresty)/(\d+)\.(\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else ()


def transparent(main: Blocks) -> bool:
    """Whether any source is transparent."""
    return any(_binds(each) for each in _all(main))


def user(main: Blocks) -> str | None:
    """The workers' user, where the file says."""
    return next((each.words[1] for each in main if each.name == "user" and each.words[1:]), None)


def shared(main: Blocks, nginx: tuple[int, ...]) -> list[Shared]:
    """Where the wrong client is named, by this version of nginx."""
    found: list[Shared] = []
    for http in (each for each in main if each.name == "http"):
        upstreams = {
            each.words[1]: each for each in http.block if each.name == "upstream" and each.words[1:]
        }
        kept = {name: own for name, each in upstreams.items() if (own := _keeps(each, nginx))}
        found += _shared(http.block, kept, {})
    return found


def _shared(
    block: Blocks, kept: Mapping[str, Directive], above: Mapping[str, Directive]
) -> Iterator[Shared]:
    # What a block says of a source takes the place of what the block around it says.
    binds = {**above, **{each.name: each for each in block if each.name in _PASS.values()}}
    for each in block:
        if each.block:
            yield from _shared(each.block, kept, binds)
        elif (
            (bind := binds.get(_PASS.get(each.name, ""))) and _binds(bind) and "$" in bind.words[1]
        ):
            for name in _upstreams(each, kept):
                yield Shared(each.where, name, kept[name].name == "keepalive")


def _upstreams(passed: Directive, kept: Mapping[str, Directive]) -> Iterator[str]:
    """Those of the kept ones that it may pass requests to: by a variable, any."""
    target = _SCHEME.sub("", passed.words[1]) if passed.words[1:] else ""
    host = target.split("/", 1)[0]
    yield from kept if "$" in host else ([host] if host in kept else [])


def _keeps(upstream: Directive, nginx: tuple[int, ...]) -> Directive | None:
    """The directive by which connections are kept: ``keepalive``, or the block itself."""
    for each in upstream.block:
        if each.name == "keepalive":
            return None if each.words[1:2] == ("0",) else each
    return upstream if nginx >= KEEPS_BY_DEFAULT else None


def _binds(directive: Directive) -> bool:
    return directive.name.endswith("_bind") and "transparent" in directive.words[2:]


def _all(block: Blocks) -> Iterator[Directive]:
    for each in block:
        yield each
        yield from _all(each.block)
