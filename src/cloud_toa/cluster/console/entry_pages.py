# SPDX-License-Identifier: Apache-2.0
"""Getting in: the one-time set-up link, logging in and out; and one's own account."""

from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute

from cloud_toa.cluster.api import access
from cloud_toa.cluster.api.problem import ProblemError
from cloud_toa.cluster.console.page import THEMES, Note, Page, inside, keep, route
from cloud_toa.cluster.console.people_pages import by_field
from cloud_toa.cluster.console.texts import LANGUAGES
from cloud_toa.cluster.model import passwords, people
from cloud_toa.cluster.model.attempts import TooManyError
from cloud_toa.cluster.model.people import Language, SetupError
from cloud_toa.cluster.model.values import RefusedError

_DIFFER = "the two passwords differ: type both again"


def routes() -> list[BaseRoute]:
    """Pages without a login, and those of one's own."""
    return [
        route("GET", "/setup", None, _setup),
        route("POST", "/setup", None, _set_up),
        route("GET", "/login", None, _login),
        route("POST", "/login", None, _log_in),
        route("POST", "/logout", "viewer", _log_out),
        route("GET", "/account", "viewer", _account),
        route("POST", "/account/password", "viewer", _password),
        route("POST", "/account/look", "viewer", _look),
        route("POST", "/language", "viewer", _language),
        route("POST", "/theme", "viewer", _theme),
    ]


async def _setup(page: Page) -> Response:
    if await people.is_set_up(page.store):
        return page.go("/login")
    return page.show("setup.html", name="", wrong={})


async def _set_up(page: Page) -> Response:
    name, password = page.input("name"), page.secret("password")
    wrong = by_field(people.wrong(name, password))
    if password != page.secret("again"):
        wrong["again"] = [_DIFFER]
    if not wrong:
        try:
            await people.set_up(
                page.store,
                page.query.get("token", ""),
                name,
                password,
                access.address(page.request),
            )
        except RefusedError as error:
            wrong = by_field(error.mistakes)
        except SetupError as error:
            wrong = {"": [str(error)]}
    if wrong:
        return page.show("setup.html", 422, name=name, wrong=wrong)
    token = await access.log_in(page.request, name, password)
    response = page.go("/", "set_up")
    access.set_cookie(response, page.request, token)
    return response


async def _login(page: Page) -> Response:
    if page.who and page.who.user:
        return page.go(inside(page.query.get("next", "/")))
    return page.show("login.html", name="", next=inside(page.query.get("next", "/")))


async def _log_in(page: Page) -> Response:
    name, on = page.input("name"), inside(page.input("next") or "/")
    try:
        token = await access.log_in(page.request, name, page.secret("password"))
    except TooManyError as error:
        note = Note("bad", page.t("login.too_many", seconds=error.seconds))
        return page.show("login.html", 429, name=name, next=on, notes=[note])
    except ProblemError:
        note = Note("bad", page.t("login.wrong"))
        return page.show("login.html", 401, name=name, next=on, notes=[note])
    response = page.go(on)
    access.set_cookie(response, page.request, token)
    return response


async def _log_out(page: Page) -> Response:
    await access.log_out(page.request)
    response = page.go("/login", "logged_out")
    access.set_cookie(response, page.request, None)
    return response


async def _account(page: Page) -> Response:
    return _show_account(page, {})


def _show_account(page: Page, wrong: dict[str, list[str]]) -> Response:
    own = page.who.user.language if page.who and page.who.user else ""
    return page.show(
        "account.html",
        422 if wrong else 200,
        wrong=wrong,
        language=own,
        language_choices=[("", page.t("account.by_browser")), *LANGUAGES.items()],
        theme_choices=[(each, page.t(f"theme.{each}")) for each in THEMES],
    )


async def _password(page: Page) -> Response:
    mistake = passwords.wrong(page.secret("password"), page.who.name if page.who else "")
    wrong = by_field([] if mistake is None else [mistake])
    if page.secret("password") != page.secret("again"):
        wrong["again"] = [_DIFFER]
    if wrong:
        return _show_account(page, wrong)
    try:
        token = await access.change_password(
            page.request, page.secret("current"), page.secret("password")
        )
    except RefusedError as error:
        return _show_account(page, by_field(error.mistakes))
    except TooManyError as error:
        return _show_account(page, {"current": [str(error)]})
    except ProblemError as error:
        return _show_account(page, {"current": [error.problem.detail]})
    response = page.go("/account", "password_changed")
    access.set_cookie(response, page.request, token)
    return response


async def _look(page: Page) -> Response:
    response = page.go("/account", "saved")
    await _set_language(page, response)
    _set_theme(page, response)
    return response


async def _language(page: Page) -> Response:
    response = page.go(inside(page.input("next")))
    await _set_language(page, response)
    return response


async def _theme(page: Page) -> Response:
    response = page.go(inside(page.input("next")))
    _set_theme(page, response)
    return response


async def _set_language(page: Page, response: RedirectResponse) -> None:
    """Keep it with the account, as other browsers shall have it, and here, for the login."""
    wish: Language | None = next(
        (code for code in ("", "en", "zh") if code == page.input("language")), None
    )
    if wish is None or page.who is None:
        return
    await people.set_language(page.store, page.who.name, wish)
    if wish:
        keep(response, page.request, "language", wish)
    else:
        response.delete_cookie("language")


def _set_theme(page: Page, response: RedirectResponse) -> None:
    if page.input("theme") in THEMES:
        keep(response, page.request, "theme", page.input("theme"))
