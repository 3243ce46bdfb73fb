"""Every way in which Yeoul says no: one code, one HTTP status. What people read of it is in domain/sentences.py.

A refusal is a value, not an exception: `decide` returns it, it travels through topics as data, and the front turns it
into an answer in the language of whoever asked. That is why a detail names its problem by a key and not by a sentence.
"""

from enum import StrEnum

import msgspec


class Code(StrEnum):
    """The codes a client may program against. They are part of the contract and never renamed."""

    VALIDATION_ERROR = "VALIDATION_ERROR"
    MALFORMED_BODY = "MALFORMED_BODY"
    MALFORMED_REQUEST = "MALFORMED_REQUEST"
    TOKEN_MISSING = "TOKEN_MISSING"  # noqa: S105 (a code, not a secret)
    TOKEN_INVALID = "TOKEN_INVALID"  # noqa: S105 (a code, not a secret)
    TOKEN_EXPIRED = "TOKEN_EXPIRED"  # noqa: S105 (a code, not a secret)
    INVALID_CREDENTIALS = "INVALID_CREDENTIALS"
    SECOND_FACTOR_REQUIRED = "SECOND_FACTOR_REQUIRED"
    SESSION_ENDED = "SESSION_ENDED"
    API_KEY_INVALID = "API_KEY_INVALID"
    FORBIDDEN = "FORBIDDEN"
    SESSION_REQUIRED = "SESSION_REQUIRED"
    WRONG_PASSWORD = "WRONG_PASSWORD"  # noqa: S105 (a code, not a secret)
    MAIL_TOKEN_INVALID = "MAIL_TOKEN_INVALID"  # noqa: S105 (a code, not a secret)
    EMAIL_UNVERIFIED = "EMAIL_UNVERIFIED"
    WRONG_CODE = "WRONG_CODE"
    NOT_FOUND = "NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    EMAIL_TAKEN = "EMAIL_TAKEN"
    LAST_ADMIN = "LAST_ADMIN"
    TOO_MANY_API_KEYS = "TOO_MANY_API_KEYS"
    SECOND_FACTOR_ON = "SECOND_FACTOR_ON"
    SECOND_FACTOR_OFF = "SECOND_FACTOR_OFF"
    OPERATION_RUNNING = "OPERATION_RUNNING"
    ACCOUNT_ERASED = "ACCOUNT_ERASED"
    RESTORE_EXPIRED = "RESTORE_EXPIRED"
    STALE_VERSION = "STALE_VERSION"
    REQUEST_TIMEOUT = "REQUEST_TIMEOUT"
    TOO_MANY_REQUESTS = "TOO_MANY_REQUESTS"
    BODY_TOO_LARGE = "BODY_TOO_LARGE"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    UNSUPPORTED_ENCODING = "UNSUPPORTED_ENCODING"
    EXPECTATION_FAILED = "EXPECTATION_FAILED"
    KEY_REUSED = "KEY_REUSED"
    ANSWER_TOO_LARGE = "ANSWER_TOO_LARGE"
    HEADERS_TOO_LARGE = "HEADERS_TOO_LARGE"
    REFUSED = "REFUSED"
    OPERATION_FAILED = "OPERATION_FAILED"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    METHOD_UNKNOWN = "METHOD_UNKNOWN"
    TOO_BUSY = "TOO_BUSY"
    BROKER_AWAY = "BROKER_AWAY"
    STORES_AWAY = "STORES_AWAY"


STATUS: dict[Code, int] = {
    Code.VALIDATION_ERROR: 400,
    Code.MALFORMED_BODY: 400,
    Code.MALFORMED_REQUEST: 400,
    Code.TOKEN_MISSING: 401,
    Code.TOKEN_INVALID: 401,
    Code.TOKEN_EXPIRED: 401,
    Code.INVALID_CREDENTIALS: 401,
    Code.SECOND_FACTOR_REQUIRED: 401,
    Code.SESSION_ENDED: 401,
    Code.API_KEY_INVALID: 401,
    Code.FORBIDDEN: 403,
    Code.SESSION_REQUIRED: 403,
    Code.WRONG_PASSWORD: 403,
    Code.MAIL_TOKEN_INVALID: 403,
    Code.EMAIL_UNVERIFIED: 403,
    Code.WRONG_CODE: 403,
    Code.NOT_FOUND: 404,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.ALREADY_EXISTS: 409,
    Code.EMAIL_TAKEN: 409,
    Code.LAST_ADMIN: 409,
    Code.TOO_MANY_API_KEYS: 409,
    Code.SECOND_FACTOR_ON: 409,
    Code.SECOND_FACTOR_OFF: 409,
    Code.OPERATION_RUNNING: 409,
    Code.ACCOUNT_ERASED: 410,
    Code.RESTORE_EXPIRED: 410,
    Code.STALE_VERSION: 412,
    Code.BODY_TOO_LARGE: 413,
    Code.UNSUPPORTED_MEDIA_TYPE: 415,
    Code.UNSUPPORTED_ENCODING: 415,
    Code.EXPECTATION_FAILED: 417,
    Code.KEY_REUSED: 422,
    Code.ANSWER_TOO_LARGE: 422,
    Code.REFUSED: 422,
    Code.REQUEST_TIMEOUT: 408,
    Code.TOO_MANY_REQUESTS: 429,
    Code.HEADERS_TOO_LARGE: 431,
    Code.OPERATION_FAILED: 500,
    Code.INTERNAL_ERROR: 500,
    Code.METHOD_UNKNOWN: 501,
    Code.TOO_BUSY: 503,
    Code.BROKER_AWAY: 503,
    Code.STORES_AWAY: 503,
}


class Problem(StrEnum):
    """What may be wrong with one field. `{}` in its message is the detail's `allowed`."""

    REQUIRED = "required"
    REQUIRED_OR = "required_or"
    UNKNOWN = "unknown"
    TWICE = "twice"
    TYPE = "type"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    TOO_FEW = "too_few"
    TOO_MANY = "too_many"
    PATTERN = "pattern"
    CHOICE = "choice"
    RANGE = "range"
    FLOAT_RANGE = "float_range"
    NUL = "nul"
    SURROGATE = "surrogate"
    TOO_DEEP = "too_deep"
    INVALID = "invalid"
    UNSUPPORTED = "unsupported"
    BESIDE = "beside"
    SYNTAX = "syntax"
    NOT_UTF8 = "not_utf8"
    ANOTHER_LIST = "another_list"
    UNPACKABLE = "unpackable"
    NO_LOCAL_DAYS = "no_local_days"
    SCHEMA = "schema"
    UNSATISFIED = "unsatisfied"
    NO_SCHEMA = "no_schema"
    NO_PATTERN = "no_pattern"
    REFERENCE = "reference"
    TOO_COMPLEX = "too_complex"
    SCOPES = "scopes"


class Detail(msgspec.Struct, frozen=True):
    """One wrong field: its JSON path in the body (`tags[3]`, `attributes.size`), or a parameter or header."""

    field: str
    problem: Problem
    allowed: str = ""


class Refusal(msgspec.Struct, frozen=True):
    """A no, with its reason. `details` names every wrong field at once."""

    code: Code
    details: tuple[Detail, ...] = ()
    foreign: int = 0
    """The HTTP status of a code that another version of Yeoul gave and this one does not know (shown as REFUSED)."""

    @property
    def status(self) -> int:
        """The HTTP status of this refusal."""
        return self.foreign or STATUS[self.code]
