"""The one exception by which anything in the front says no."""

from types import TracebackType

from domain.refusals import Code, Detail, Problem, Refusal

MOST_DETAILS = 100


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


class Wrong:
    """Every wrong field of a request, so that one answer names them all.

    Each `with wrong:` lets one check pass although it refuses its field; `refuse` comes before any value of theirs is
    used.
    """

    def __init__(self) -> None:
        self._details: list[Detail] = []

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Refused) or error.refusal.code is not Code.VALIDATION_ERROR:
            return False
        self._details += error.refusal.details
        return True

    def refuse(self) -> None:
        """Raises Refused if anything was wrong."""
        if self._details:
            raise Refused(Refusal(Code.VALIDATION_ERROR, tuple(self._details[:MOST_DETAILS])))


def invalid(field: str, problem: Problem, allowed: str = "") -> Refused:
    """A `Refused` for one wrong field, parameter or header."""
    return Refused(Refusal(Code.VALIDATION_ERROR, (Detail(field, problem, allowed),)))
