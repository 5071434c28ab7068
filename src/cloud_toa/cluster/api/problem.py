# SPDX-License-Identifier: Apache-2.0
"""What is said when a call is refused: one shape for all of them, by RFC 9457's media type."""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from cloud_toa.cluster.model.attempts import TooManyError
from cloud_toa.cluster.model.nodes import JoinError
from cloud_toa.cluster.model.people import SetupError
from cloud_toa.cluster.model.settings import OutdatedError, Revision
from cloud_toa.cluster.model.values import MissingError, Mistake, RefusedError
from cloud_toa.cluster.store import ConflictError, UnavailableError
from cloud_toa.errors import ToaError

MEDIA_TYPE = "application/problem+json"

TITLES = {
    400: "not understood",
    401: "not logged in",
    403: "not allowed",
    404: "not found",
    405: "no such method here",
    408: "not sent whole",
    409: "changed meanwhile",
    413: "too large",
    415: "wrong kind of content",
    421: "not known by this name",
    422: "refused",
    429: "too often",
    500: "a fault of this server",
    503: "the store is away",
}


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a call was refused."""

    status: int
    title: str
    """The same for the same status."""
    detail: str
    """What is wrong and the remedy, in one line."""
    mistakes: Sequence[Mistake] = ()
    """422: each, with its field."""
    seen: Revision | None = None
    """409 of settings: the revision that was changed,"""
    current: Revision | None = None
    """and the one that is in force."""


class ProblemError(Exception):
    """A call that is refused."""

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.headers = headers or {}


def refuse(status: int, detail: str, **headers: str) -> ProblemError:
    """A refusal with nothing more to say."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ProblemError(Problem(status=status, title=TITLES[status], detail=detail), named)


def of(error: Exception, writes: bool) -> ProblemError:
    """A refusal for what went wrong below; ``writes`` says whether something was to be kept."""
    match error:
        case ProblemError():
            return error
        case RefusedError():
            problem = Problem(
                status=422, title=TITLES[422], detail=str(error), mistakes=error.mistakes
            )
            return ProblemError(problem)
        case OutdatedError():
            return ProblemError(
                Problem(
                    status=409,
                    title=TITLES[409],
                    detail=str(error),
                    seen=error.seen,
                    current=error.current,
                )
            )
        case ClientDisconnect():
            return refuse(408, "the connection ended before all of it was here")  # for our log
        case MissingError():
            return refuse(404, str(error))
        case ConflictError():
            return refuse(409, str(error))
        case TooManyError():
            return refuse(429, str(error), Retry_After=str(error.seconds))
        case JoinError():
            return refuse(401, str(error), WWW_Authenticate="Bearer")
        case SetupError():
            return refuse(403, str(error))
        case UnavailableError():
            kept = (
                "; nothing is known to have been kept: read it again before you repeat it"
                if writes
                else ""
            )
            return refuse(503, f"{error}{kept}", Retry_After="5")
        case ToaError():
            return refuse(422, str(error))
    return refuse(500, "this server has made a mistake: its log says which")


def of_validation(error: msgspec.ValidationError) -> ProblemError:
    """A refusal of a body or query that is not as it is described."""
    what, _, place = str(error).partition(" - at `$")
    mistake = Mistake(message=what, field=place.rstrip("`").lstrip("."))
    where = f"{mistake.field}: " if mistake.field else ""
    return ProblemError(
        Problem(status=422, title=TITLES[422], detail=f"{where}{what}", mistakes=[mistake])
    )


def response(error: ProblemError) -> Response:
    """A refusal as it is sent."""
    return Response(
        msgspec.json.encode(error.problem),
        error.problem.status,
        {**error.headers},
        MEDIA_TYPE,
    )
