# SPDX-License-Identifier: Apache-2.0
"""The cluster's settings: read, checked, saved, and gone back on."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from cloud_toa.cluster.api.operation import Call, operation
from cloud_toa.cluster.model import settings, settings_text
from cloud_toa.cluster.model.settings import Revision
from cloud_toa.cluster.model.values import Mistake

Number = Annotated[int, Meta(ge=0, le=9_999_999_999)]


class Save(Struct, forbid_unknown_fields=True, kw_only=True):
    """A whole text to be put into force."""

    text: str
    seen: Number
    """The number of the revision that it was made from; 0 for none."""
    why: Annotated[str, Meta(max_length=500)] = ""


class Revert(Struct, forbid_unknown_fields=True, kw_only=True):
    """An earlier revision to be put into force again."""

    number: Number
    seen: Number


class Edit(Struct, forbid_unknown_fields=True, kw_only=True):
    """Keys and their values; null takes one away."""

    values: dict[str, Any]
    seen: Number
    why: Annotated[str, Meta(max_length=500)] = ""


class Text(Struct, forbid_unknown_fields=True, kw_only=True):
    """A text to be checked."""

    text: str


class Checked(Struct, kw_only=True):
    """What is wrong in a text; it can be saved where there is nothing."""

    mistakes: list[Mistake]
    diff: str
    """What it would change, as a unified diff."""


class HistoryPart(Struct, forbid_unknown_fields=True, kw_only=True):
    """Which part of the history."""

    before: Number | None = None
    """Only older ones."""
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class Between(Struct, forbid_unknown_fields=True, kw_only=True):
    """Two revisions."""

    before: Number
    after: Number


class Diff(Struct, kw_only=True):
    """What has changed between two revisions, as a unified diff."""

    diff: str


class Seen(Struct, forbid_unknown_fields=True, kw_only=True):
    """What a change was made from."""

    seen: Number


@operation("GET", "/api/settings", "viewer")
async def current(call: Call[None, None]) -> Revision:
    """The revision in force; of number 0 where none was saved yet."""
    return await settings.current(call.store)


@operation("PUT", "/api/settings", "operator", refusals=(409, 422))
async def save(call: Call[Save, None]) -> Revision:
    """Put a text into force, for all nodes."""
    wish = call.body
    return await settings.save(call.store, wish.text, seen=wish.seen, by=call.by, why=wish.why)


@operation("POST", "/api/settings/check", "viewer", refusals=(422,))
async def check(call: Call[Text, None]) -> Checked:
    """Say what is wrong in a text, and what it would change; nothing is saved."""
    now = await settings.current(call.store)
    text = call.body.text
    return Checked(
        mistakes=settings.check(text),
        diff=settings.diff_texts(now.text, text, f"revision {now.number}", "to be saved"),
    )


@operation("PUT", "/api/settings/toa", "operator", refusals=(409, 422))
async def save_toa(call: Call[Edit, None]) -> Revision:
    """Change keys of the table [toa]; the rest of the text stays as it is."""
    now = await settings.current(call.store)
    text = settings_text.with_toa(now.text, call.body.values)
    return await settings.save(call.store, text, seen=call.body.seen, by=call.by, why=call.body.why)


@operation("POST", "/api/settings/services", "operator", status=201, refusals=(409, 422))
async def add_service(call: Call[Edit, None]) -> Revision:
    """Add a service; its keys are those of [[service]] in an edge's file."""
    now = await settings.current(call.store)
    text = settings_text.with_service(now.text, None, call.body.values)
    return await settings.save(call.store, text, seen=call.body.seen, by=call.by, why=call.body.why)


@operation("PUT", "/api/settings/services/{name}", "operator", refusals=(404, 409, 422))
async def change_service(call: Call[Edit, None]) -> Revision:
    """Change a service into what is given; keys that are not named go."""
    now = await settings.current(call.store)
    text = settings_text.with_service(now.text, call.named("name"), call.body.values)
    return await settings.save(call.store, text, seen=call.body.seen, by=call.by, why=call.body.why)


@operation("DELETE", "/api/settings/services/{name}", "operator", refusals=(404, 409, 422))
async def remove_service(call: Call[None, Seen]) -> Revision:
    """Remove a service; one at least remains."""
    now = await settings.current(call.store)
    text = settings_text.without_service(now.text, call.named("name"))
    return await settings.save(call.store, text, seen=call.query.seen, by=call.by)


@operation("GET", "/api/settings/history", "viewer", refusals=(422,))
async def history(call: Call[None, HistoryPart]) -> list[Revision]:
    """Revisions, newest first."""
    return await settings.history(call.store, before=call.query.before, limit=call.query.limit)


@operation("GET", "/api/settings/diff", "viewer", refusals=(404, 422))
async def diff(call: Call[None, Between]) -> Diff:
    """What has changed between two revisions; 0 is the empty one."""
    before, after = [
        await settings.at(call.store, number) if number else settings.NONE
        for number in (call.query.before, call.query.after)
    ]
    return Diff(diff=settings.diff(before, after))


@operation("GET", "/api/settings/history/{number:int}", "viewer", refusals=(404,))
async def at(call: Call[None, None]) -> Revision:
    """A revision of the history."""
    return await settings.at(call.store, int(call.named("number")))


@operation("POST", "/api/settings/revert", "operator", refusals=(404, 409, 422))
async def revert(call: Call[Revert, None]) -> Revision:
    """Put an earlier revision's text into force, as a new revision."""
    return await settings.revert(call.store, call.body.number, seen=call.body.seen, by=call.by)
