# SPDX-License-Identifier: Apache-2.0
"""One page that somebody asks for: who he is, in which language, and the templates."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlencode

from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Match, Route

from cloud_toa.cluster.api import access
from cloud_toa.cluster.api.access import Who
from cloud_toa.cluster.api.cluster import Cluster, cluster_of
from cloud_toa.cluster.console import menu, templates
from cloud_toa.cluster.console.texts import LANGUAGES, Texts, preferred
from cloud_toa.cluster.model import people
from cloud_toa.cluster.model.people import Role
from cloud_toa.cluster.model.values import By
from cloud_toa.cluster.store import Store

THEMES = ("auto", "light", "dark")
_YEAR = 365 * 86400
_MOST_INPUTS = 20_000
_TIME = re.compile(r"[0-9]{1,11}(\.[0-9]{1,9})?")
_ONCE = ("said", "language", "theme")
"""Parts of a query that are for one answer."""


@dataclass(frozen=True)
class Note:
    """What stands above a page once."""

    state: Literal["good", "warn", "bad"]
    text: str


@dataclass
class Page:
    """What a handler needs of a request."""

    request: Request
    who: Who | None
    t: Texts
    theme: str
    posted: dict[str, list[str]] = field(default_factory=dict)
    """The form's inputs, lines ending as in Unix."""

    @property
    def cluster(self) -> Cluster:
        """What the server has in its hands."""
        return cluster_of(self.request)

    @property
    def store(self) -> Store:
        """Where everything is kept."""
        return self.cluster.store

    @property
    def by(self) -> By:
        """Who asks, for the audit log."""
        return access.by(self.request)

    @property
    def query(self) -> Mapping[str, str]:
        """What stands behind the question mark."""
        return self.request.query_params

    @property
    def before(self) -> float | None:
        """The time to which a link to what is older goes back; None where none leads here."""
        asked = self.query.get("before", "")
        return float(asked) if _TIME.fullmatch(asked) else None

    def named(self, what: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[what])

    def input(self, name: str) -> str:
        """What was filled in, without space around it."""
        return self.posted.get(name, [""])[0].strip()

    def secret(self, name: str) -> str:
        """A password, exactly as it was typed."""
        return self.posted.get(name, [""])[0]

    def may(self, role: Role) -> bool:
        """Whether the one who asks may do what takes this role."""
        return bool(self.who and self.who.role and people.may(self.who.role, role))

    def show(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:  # noqa: ANN401
        """A page made of a template."""
        path = self.request.url.path
        said = self.query.get("said", "")
        notes = list(values.pop("notes", []))
        if said and self.t.has(f"said.{said}"):
            notes.insert(0, Note("good", self.t(f"said.{said}")))
        context = {
            "t": self.t,
            "theme": self.theme,
            "languages": LANGUAGES,
            "path": path,
            "here": _here(self.request),
            "user": self.who,
            "may": self.may,
            "csrf_token": access.page_token(self.request),
            "menu": menu.of(self.who, path),
            "notes": notes,
            "writable": self.may("operator"),
        }
        html = templates.environment().get_template(template).render({**context, **values})
        response = HTMLResponse(html, status)
        if self.query.get("language") in LANGUAGES:
            keep(response, self.request, "language", self.t.language)
        if self.query.get("theme") in THEMES:
            keep(response, self.request, "theme", self.theme)
        return response

    def go(self, path: str, said: str = "") -> RedirectResponse:
        """Have the browser ask for another page, which says what was done."""
        return RedirectResponse(f"{path}?{urlencode({'said': said})}" if said else path, 303)


Handler = Callable[[Page], Awaitable[Response]]


def route(method: Literal["GET", "POST"], path: str, role: Role | None, handler: Handler) -> Route:
    """A page at a path, for who has this role; None: for everybody."""

    async def answer(request: Request) -> Response:
        if role is not None:
            access.require(request, role)
        page = of(request)
        if method == "POST":
            form = await request.form(max_fields=_MOST_INPUTS)
            for name, value in form.multi_items():
                if isinstance(value, str):
                    page.posted.setdefault(name, []).append(value.replace("\r\n", "\n"))
        return await handler(page)

    name = f"page {method} {path}"
    return Route(path, answer, methods=[method], name=name)


def of(request: Request) -> Page:
    """The page that is asked for."""
    who = access.who(request)
    own = who.user.language if who and who.user else ""
    language = next(
        (
            code
            for code in (request.query_params.get("language"), own, request.cookies.get("language"))
            if code in LANGUAGES
        ),
        None,
    )
    theme = request.query_params.get("theme") or request.cookies.get("theme", "")
    return Page(
        request,
        who,
        Texts(language or preferred(request.headers.get("Accept-Language", ""))),
        theme if theme in THEMES else "auto",
    )


def keep(response: Response, request: HTTPConnection, name: str, value: str) -> None:
    """Have the browser remember how pages look."""
    response.set_cookie(
        name,
        value,
        max_age=_YEAR,
        secure=access.by_tls(request),
        httponly=True,
        samesite="lax",
    )


def inside(path: str) -> str:
    """A path of this console to go on to; the first page where it is something else."""
    safe = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if safe else "/"


def _here(request: Request) -> str:
    """The page's path and query, to come back to; the first page where it can't be asked for."""
    scope = {**request.scope, "method": "GET"}
    if all(each.matches(scope)[0] != Match.FULL for each in request.app.routes):
        return "/"
    left = [(key, value) for key, value in request.query_params.multi_items() if key not in _ONCE]
    return f"{request.url.path}?{urlencode(left)}" if left else request.url.path
