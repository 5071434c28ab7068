# SPDX-License-Identifier: Apache-2.0
"""Run logs of nodes: by node, level, tag, word and time."""

from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import urlencode

from msgspec import structs
from starlette.responses import Response
from starlette.routing import BaseRoute

from cloud_toa.cluster.console import templates
from cloud_toa.cluster.console.page import Page, route
from cloud_toa.cluster.model import logs, nodes
from cloud_toa.cluster.model.logs import Filter, NodeLine

_LEVELS = ("debug", "info", "warning", "error")
_PIECE = 200
_KEYS = ("node", "level", "tag", "word", "since", "until")
_LATEST = 1e11


def routes() -> list[BaseRoute]:
    """The page; following is in `live`."""
    return [route("GET", "/logs", "viewer", _logs)]


def wanted(page: Page) -> Filter:
    """Which lines a page asks for; a time that is none counts as not given."""
    level = page.query.get("level", "")
    return Filter(
        node=page.query.get("node", ""),
        level=level if level in _LEVELS else "debug",
        tag=page.query.get("tag", "").strip(),
        word=page.query.get("word", "").strip(),
        since=_seconds(page.query.get("since", "")) or 0.0,
        until=_seconds(page.query.get("until", "")) or _LATEST,
    )


async def rows(page: Page, lines: Sequence[NodeLine], missed: int) -> str:
    """Lines as rows of the table, the newest on top.

    Args:
        page: the one that follows them.
        lines: what came.
        missed: how many came before these and were passed over.
    """
    lines = sorted(lines, key=lambda line: -line.time)
    names = {node.id: node.name for node in await nodes.all(page.store)}
    template = templates.environment().get_template("log_lines.html")
    return template.render({"t": page.t, "lines": lines, "names": names, "missed": missed})


async def _logs(page: Page) -> Response:
    wish = wanted(page)
    views = await nodes.all(page.store)
    names = {node.id: node.name for node in views}
    ids = [wish.node] if wish.node in names else [] if wish.node else list(names)
    if page.before is not None:
        wish = structs.replace(wish, until=min(wish.until, page.before))
    # One more than is shown: the next page begins with it. By its whole time, which no field for
    # the time has, and with what is of the same moment, so that no line is on neither.
    found = await logs.latest(page.store, ids, wish, _PIECE + 1)
    lines = found[: -_PIECE - 1 : -1]
    given = {key: page.query[key] for key in _KEYS if page.query.get(key)}
    older = ""
    if len(found) > _PIECE:
        older = f"/logs?{urlencode({**given, 'before': repr(found[0].time)})}"
    wrong = [
        f"no time: {page.query[key][:40]}"
        for key in ("since", "until")
        if page.query.get(key) and _seconds(page.query[key]) is None
    ]
    return page.show(
        "logs.html",
        lines=lines,
        missed=0,
        names=names,
        filter=wish,
        since=page.query.get("since", ""),
        until=page.query.get("until", ""),
        query=urlencode(given),
        filtered=bool(given) or page.before is not None,
        follow=page.query.get("follow") == "on",
        older=older,
        tags=sorted({line.tag for line in lines if line.tag}),
        node_choices=[("", page.t("logs.all_nodes")), *names.items()],
        level_choices=[(level, page.t(f"level.{level}_up")) for level in _LEVELS],
        wrong=wrong,
    )


def _seconds(text: str) -> float | None:
    """A time as browsers write it, without a zone: UTC, as all times are shown."""
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
