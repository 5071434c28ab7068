# SPDX-License-Identifier: Apache-2.0
"""Who may log in, which programs may call, and who did what."""

from collections.abc import Iterable

from starlette.responses import Response
from starlette.routing import BaseRoute

from cloud_toa.cluster.console.page import Page, route
from cloud_toa.cluster.model import api_tokens, audit, people
from cloud_toa.cluster.model.people import ROLES, Role
from cloud_toa.cluster.model.values import Mistake, RefusedError
from cloud_toa.cluster.store import ConflictError

_PIECE = 100
_DAYS = ("30", "90", "365", "")


def routes() -> list[BaseRoute]:
    """Users, API tokens and the audit log."""
    return [
        route("GET", "/users", "admin", _users),
        route("POST", "/users", "admin", _add),
        route("GET", "/users/{name}", "admin", _user),
        route("POST", "/users/{name}/role", "admin", _role),
        route("POST", "/users/{name}/password", "admin", _password),
        route("POST", "/users/{name}/remove", "admin", _remove),
        route("GET", "/tokens", "admin", _tokens),
        route("POST", "/tokens", "admin", _add_token),
        route("POST", "/tokens/{id}/remove", "admin", _remove_token),
        route("GET", "/audit", "operator", _audit),
    ]


def by_field(mistakes: Iterable[Mistake]) -> dict[str, list[str]]:
    """Messages by input."""
    found: dict[str, list[str]] = {}
    for mistake in mistakes:
        found.setdefault(mistake.field, []).append(mistake.message)
    return found


def _asked_role(page: Page) -> Role:
    for role in ROLES:
        if role == page.input("role"):
            return role
    raise RefusedError(Mistake(message=f"role: one of {', '.join(ROLES)}", field="role"))


def _roles(page: Page) -> list[tuple[str, str]]:
    return [(role, page.t(f"role.{role}")) for role in ROLES]


async def _users(page: Page) -> Response:
    return await _show_users(page, {})


async def _show_users(page: Page, wrong: dict[str, list[str]]) -> Response:
    return page.show(
        "users.html",
        422 if wrong else 200,
        people=await people.all(page.store),
        roles=ROLES,
        role_choices=_roles(page),
        name=page.input("name"),
        role=page.input("role") or "viewer",
        wrong=wrong,
    )


async def _add(page: Page) -> Response:
    try:
        name, password = page.input("name"), page.secret("password")
        await people.create(page.store, name, password, _asked_role(page), page.by)
    except RefusedError as error:
        return await _show_users(page, by_field(error.mistakes))
    except ConflictError as error:
        return await _show_users(page, {"name": [str(error)]})
    return page.go("/users", "user_added")


async def _user(page: Page) -> Response:
    return await _show_user(page, {})


async def _show_user(page: Page, wrong: dict[str, list[str]]) -> Response:
    user = await people.one(page.store, page.named("name"))
    return page.show("user.html", 422 if wrong else 200, person=people.person(user), wrong=wrong)


async def _role(page: Page) -> Response:
    try:
        await people.set_role(page.store, page.named("name"), _asked_role(page), page.by)
    except RefusedError as error:
        return await _show_users(page, {"": [each.message for each in error.mistakes]})
    return page.go("/users", "role_changed")


async def _password(page: Page) -> Response:
    try:
        await people.set_password(page.store, page.named("name"), page.secret("password"), page.by)
    except RefusedError as error:
        return await _show_user(page, by_field(error.mistakes))
    return page.go("/users", "password_set")


async def _remove(page: Page) -> Response:
    try:
        await people.remove(page.store, page.named("name"), page.by)
    except RefusedError as error:
        return await _show_user(page, by_field(error.mistakes))
    return page.go("/users", "user_removed")


async def _tokens(page: Page) -> Response:
    return await _show_tokens(page, {}, None)


async def _show_tokens(page: Page, wrong: dict[str, list[str]], secret: str | None) -> Response:
    return page.show(
        "tokens.html",
        422 if wrong else 200,
        tokens=await api_tokens.all(page.store),
        secret=secret,
        origin=str(page.request.base_url).rstrip("/"),
        name=page.input("name") if wrong else "",
        role=page.input("role") or "viewer",
        role_choices=_roles(page),
        days=page.input("days") if wrong else "90",
        day_choices=[(days, page.t(f"tokens.days_{days or 'ever'}")) for days in _DAYS],
        wrong=wrong,
    )


async def _add_token(page: Page) -> Response:
    try:
        days = page.input("days")
        if days not in _DAYS:
            raise RefusedError(
                Mistake(message=f"{days[:20]} days: 30, 90, 365 or none", field="days")
            )
        _, secret = await api_tokens.create(
            page.store,
            page.input("name"),
            _asked_role(page),
            page.by,
            days=float(days) if days else None,
        )
    except RefusedError as error:
        return await _show_tokens(page, by_field(error.mistakes), None)
    return await _show_tokens(page, {}, secret)


async def _remove_token(page: Page) -> Response:
    await api_tokens.remove(page.store, page.named("id"), page.by)
    return page.go("/tokens", "token_removed")


async def _audit(page: Page) -> Response:
    records = await audit.latest(page.store, before=page.before, limit=_PIECE)
    older = f"/audit?before={records[-1].time!r}" if len(records) == _PIECE else ""
    return page.show("audit.html", records=records, older=older)
