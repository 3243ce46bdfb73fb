"""The one exception by which anything in the front says no."""

from domain.refusals import Code, Detail, Problem, Refusal


class Refused(Exception):
    """Ends a request with `refusal`; `headers` go into the answer (`Retry-After`, `Allow`, `WWW-Authenticate`)."""

    def __init__(self, refusal: Refusal, headers: dict[str, str] | None = None) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal
        self.headers = headers or {}


UNPACKABLE = Refusal(Code.MALFORMED_BODY, (Detail("Content-Encoding", Problem.UNPACKABLE),))
"""A compressed body that is damaged, or is compressed in another way."""


def refused(code: Code, **headers: str) -> Refused:
    """A `Refused` with `code`; `Retry_After="1"` becomes the header `Retry-After: 1`."""
    return Refused(Refusal(code), {name.replace("_", "-"): value for name, value in headers.items()})


def invalid(field: str, problem: Problem, allowed: str = "") -> Refused:
    """A `Refused` for one wrong field, parameter or header."""
    return Refused(Refusal(Code.VALIDATION_ERROR, (Detail(field, problem, allowed),)))
