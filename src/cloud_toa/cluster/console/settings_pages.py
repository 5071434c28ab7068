# SPDX-License-Identifier: Apache-2.0
"""How a changed text becomes the cluster's settings: compared, saved, or told to be too late.

Whatever the form, the way is the same: a text and the revision that it was made from. The page in
between has both, so a lost connection, a restart of the server or another's save loses nothing.
"""

import re
from contextlib import suppress

from merge3 import Merge3
from starlette.responses import Response
from starlette.routing import BaseRoute

from cloud_toa.cluster.console.page import Note, Page, inside, route
from cloud_toa.cluster.model import settings
from cloud_toa.cluster.model.settings import OutdatedError, Revision
from cloud_toa.cluster.model.values import MissingError, Mistake, RefusedError
from cloud_toa.cluster.store import UnavailableError

_PIECE = 50
_NUMBER = re.compile(r"[0-9]{1,10}")


def routes() -> list[BaseRoute]:
    """The text, saving it, and the history."""
    return [
        route("GET", "/text", "viewer", _text),
        route("POST", "/text", "operator", _compare_text),
        route("POST", "/save", "operator", _save),
        route("GET", "/history", "viewer", _history),
        route("GET", "/history/{number:int}", "viewer", _revision),
        route("POST", "/history/{number:int}/revert", "operator", _revert),
    ]


def seen(page: Page) -> int:
    """The number of the revision that a form was made from.

    Raises:
        RefusedError: the form has none.
    """
    text = page.input("seen")
    if not _NUMBER.fullmatch(text):
        raise RefusedError(Mistake(message="the form is not whole: load the page again"))
    return int(text)


async def base(page: Page) -> Revision:
    """The revision that a form was made from.

    Raises:
        RefusedError: there is none of this number.
    """
    number = seen(page)
    if number == 0:
        return settings.NONE
    try:
        return await settings.at(page.store, number)
    except MissingError as error:
        raise RefusedError(Mistake(message=str(error))) from None


async def compare(page: Page, text: str, why: str, back: str) -> Response:
    """The page that shows what would change, before it is saved."""
    now = await settings.current(page.store)
    before = await base(page)
    if now.number != before.number:
        return conflict(page, before, now, text)
    diff = settings.diff_texts(before.text, text, "", "")
    return page.show(
        "confirm.html", text=text, seen=before.number, diff=diff, why=why, back=inside(back)
    )


async def save(page: Page, text: str, why: str, back: str) -> Response:
    """Save a text; the page that says so, or that another was faster."""
    try:
        await settings.save(page.store, text, seen=seen(page), by=page.by, why=why)
    except OutdatedError as error:
        return conflict(page, error.seen, error.current, text)
    except UnavailableError as error:
        with suppress(UnavailableError, RefusedError):
            before = await base(page)
            diff = settings.diff_texts(before.text, text, "", "")
            note = Note(
                "bad", page.t("save.unavailable", why=page.t.message(str(error)) or str(error))
            )
            return page.show(
                "confirm.html",
                503,
                text=text,
                seen=before.number,
                diff=diff,
                why=why,
                back=back,
                notes=[note],
            )
        return page.show("error.html", 503, message=str(error), remedy="save.kept", kept=text)
    return page.go(inside(back), "saved")


def conflict(page: Page, before: Revision, now: Revision, text: str) -> Response:
    """Another has saved meanwhile: both changes, and one text with both where that is possible."""
    return page.show(
        "conflict.html",
        409,
        current=now,
        seen_number=before.number,
        text=text,
        yours=settings.diff_texts(before.text, text, "", ""),
        theirs=settings.diff(before, now),
        merged=merged(before.text, text, now.text),
    )


def merged(before: str, one: str, other: str) -> str | None:
    """A text with both changes; None where they are about the same lines, or can't be together."""
    three = Merge3(before.splitlines(True), one.splitlines(True), other.splitlines(True))
    if any(region[0] == "conflict" for region in three.merge_regions()):
        return None
    text = "".join(three.merge_lines())
    return None if settings.check(text) else text


async def _text(page: Page) -> Response:
    now = await settings.current(page.store)
    return page.show("text.html", text=now.text, seen=now.number, mistakes=[])


async def _compare_text(page: Page) -> Response:
    text = page.secret("text")
    if mistakes := settings.check(text):
        return page.show("text.html", 422, text=text, seen=seen(page), mistakes=mistakes)
    return await compare(page, text, "", "/text")


async def _save(page: Page) -> Response:
    text, why = page.secret("text"), page.input("why")
    if page.input("do") == "edit":
        return page.show("text.html", text=text, seen=seen(page), mistakes=[])
    try:
        return await save(page, text, why, "/history")
    except RefusedError as error:
        return page.show("text.html", 422, text=text, seen=seen(page), mistakes=error.mistakes)


async def _history(page: Page) -> Response:
    before = page.query.get("before", "")
    revisions = await settings.history(
        page.store, before=int(before) if _NUMBER.fullmatch(before) else None, limit=_PIECE
    )
    now = await settings.current(page.store)
    more = len(revisions) == _PIECE and revisions[-1].number > 1
    older = f"/history?before={revisions[-1].number}" if more else ""
    return page.show("history.html", revisions=revisions, current=now.number, older=older)


async def _revision(page: Page) -> Response:
    revision = await settings.at(page.store, int(page.named("number")))
    now = await settings.current(page.store)
    before = settings.NONE
    with suppress(MissingError):
        before = await settings.at(page.store, revision.number - 1)
    return page.show(
        "revision.html",
        revision=revision,
        current=now.number,
        to_current=settings.diff(revision, now),
        from_before=settings.diff(before, revision),
    )


async def _revert(page: Page) -> Response:
    earlier = await settings.at(page.store, int(page.named("number")))
    return await compare(
        page, earlier.text, f"back to revision {earlier.number}", f"/history/{earlier.number}"
    )
