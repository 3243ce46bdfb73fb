"""Every way in which Yeoul says no: one code, one HTTP status, one message in each language.

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


MESSAGES: dict[str, dict[Code, str]] = {
    "en": {
        Code.VALIDATION_ERROR: "The input is not valid.",
        Code.MALFORMED_BODY: "The body is not a JSON document in UTF-8.",
        Code.MALFORMED_REQUEST: "The request can't be read as HTTP.",
        Code.MAIL_TOKEN_INVALID: "This token of a mail is wrong, was used, or has expired. Ask for a new mail.",
        Code.TOKEN_MISSING: "An access token is required.",
        Code.TOKEN_INVALID: "The access token is not valid.",
        Code.TOKEN_EXPIRED: "The access token has expired.",
        Code.INVALID_CREDENTIALS: "The e-mail address or the password is wrong.",
        Code.SECOND_FACTOR_REQUIRED: "Log in again with the code of your app, or a recovery code, as code.",
        Code.SESSION_ENDED: "This session has ended. Log in again.",
        Code.API_KEY_INVALID: "The API key is wrong, has expired or was revoked. Make another one.",
        Code.FORBIDDEN: "You may not do this.",
        Code.SESSION_REQUIRED: "An API key may not do this. Log in, and use the token that you get.",
        Code.WRONG_PASSWORD: "The present password is wrong.",
        Code.EMAIL_UNVERIFIED: "Verify your e-mail address first: a mail with a token is on its way to you.",
        Code.WRONG_CODE: "This code is wrong, or was used already. Take the next one of your app, or a recovery code.",
        Code.NOT_FOUND: "There is no such thing here.",
        Code.METHOD_NOT_ALLOWED: "This method is not allowed here.",
        Code.ALREADY_EXISTS: "This Idempotency-Key has made it already. Send a new key to make another one.",
        Code.EMAIL_TAKEN: "This e-mail address is taken.",
        Code.LAST_ADMIN: "This is the last active admin. Make another account an admin first.",
        Code.TOO_MANY_API_KEYS: "This account has as many API keys as it may have. Revoke one first.",
        Code.SECOND_FACTOR_ON: "The second factor is on already. Turn it off first.",
        Code.SECOND_FACTOR_OFF: "No second factor is on, and none waits for its first code. Begin one.",
        Code.OPERATION_RUNNING: "The same request is still running. Ask again in a moment.",
        Code.ACCOUNT_ERASED: "The key of this account is gone, and its data with it. Register again.",
        Code.RESTORE_EXPIRED: "It was deleted too long ago to be restored. Create it anew.",
        Code.STALE_VERSION: "It was changed meanwhile. Read it again, then repeat your change.",
        Code.BODY_TOO_LARGE: "The body is too large. Send less, or in parts.",
        Code.UNSUPPORTED_MEDIA_TYPE: "Send the body as application/json.",
        Code.UNSUPPORTED_ENCODING: "Send the body as it is, or compressed with gzip or deflate.",
        Code.EXPECTATION_FAILED: "The only expectation that is known here is 100-continue.",
        Code.ANSWER_TOO_LARGE: "The answer would be too large. Ask for less time, a longer window, or one group.",
        Code.KEY_REUSED: "This Idempotency-Key was used for another request. Send a new key with this one.",
        Code.REQUEST_TIMEOUT: "The request came too slowly. Send it again, all at once.",
        Code.TOO_MANY_REQUESTS: "Too many requests. Try again after the seconds that Retry-After names.",
        Code.HEADERS_TOO_LARGE: "The request line or a header is too long, or there are too many headers.",
        Code.REFUSED: "It was refused, for a reason that this server does not know yet. Ask again later.",
        Code.OPERATION_FAILED: "The request could not be carried out. It was put aside and will be looked at.",
        Code.INTERNAL_ERROR: "Something went wrong here.",
        Code.METHOD_UNKNOWN: "This method is not known here.",
        Code.TOO_BUSY: "Too much to do right now. Try again in a moment.",
        Code.BROKER_AWAY: "Changes can't be taken right now. Try again in a moment.",
        Code.STORES_AWAY: "The data can't be reached right now. Try again in a moment.",
    },
    "ko": {
        Code.VALIDATION_ERROR: "입력값이 올바르지 않습니다.",
        Code.MALFORMED_BODY: "본문이 UTF-8 JSON 문서가 아닙니다.",
        Code.MALFORMED_REQUEST: "HTTP 요청으로 읽을 수 없습니다.",
        Code.MAIL_TOKEN_INVALID: "메일의 토큰이 올바르지 않거나 만료되었습니다. 메일을 다시 요청해 주세요.",
        Code.TOKEN_MISSING: "액세스 토큰이 필요합니다.",
        Code.TOKEN_INVALID: "액세스 토큰이 올바르지 않습니다.",
        Code.TOKEN_EXPIRED: "액세스 토큰이 만료되었습니다.",
        Code.INVALID_CREDENTIALS: "이메일 또는 비밀번호가 올바르지 않습니다.",
        Code.SECOND_FACTOR_REQUIRED: "앱의 인증 코드 또는 복구 코드를 code에 넣어 다시 로그인해 주세요.",
        Code.SESSION_ENDED: "세션이 종료되었습니다. 다시 로그인해 주세요.",
        Code.API_KEY_INVALID: "API 키가 올바르지 않거나 만료 또는 폐기되었습니다. 새로 만들어 주세요.",
        Code.FORBIDDEN: "권한이 없습니다.",
        Code.SESSION_REQUIRED: "API 키로는 할 수 없습니다. 로그인하여 받은 토큰을 사용해 주세요.",
        Code.WRONG_PASSWORD: "현재 비밀번호가 올바르지 않습니다.",
        Code.EMAIL_UNVERIFIED: "먼저 이메일 주소를 확인해 주세요. 토큰이 담긴 메일을 보내 드립니다.",
        Code.WRONG_CODE: "틀렸거나 이미 사용된 코드입니다. 앱의 다음 코드나 복구 코드를 사용해 주세요.",
        Code.NOT_FOUND: "찾을 수 없습니다.",
        Code.METHOD_NOT_ALLOWED: "허용되지 않는 메서드입니다.",
        Code.ALREADY_EXISTS: "이 Idempotency-Key로 이미 생성되었습니다. 새로 만들려면 새 키를 보내 주세요.",
        Code.EMAIL_TAKEN: "이미 사용 중인 이메일입니다.",
        Code.LAST_ADMIN: "마지막 활성 관리자입니다. 먼저 다른 계정을 관리자로 지정해 주세요.",
        Code.TOO_MANY_API_KEYS: "이 계정의 API 키가 너무 많습니다. 먼저 하나를 폐기해 주세요.",
        Code.SECOND_FACTOR_ON: "2단계 인증이 이미 켜져 있습니다. 먼저 꺼 주세요.",
        Code.SECOND_FACTOR_OFF: "켜져 있거나 첫 코드를 기다리는 2단계 인증이 없습니다. 먼저 등록을 시작해 주세요.",
        Code.OPERATION_RUNNING: "같은 요청이 아직 처리 중입니다. 잠시 후 다시 시도해 주세요.",
        Code.ACCOUNT_ERASED: "이 계정의 키가 없어져 데이터를 읽을 수 없습니다. 다시 가입해 주세요.",
        Code.RESTORE_EXPIRED: "삭제된 지 너무 오래되어 복원할 수 없습니다. 새로 생성해 주세요.",
        Code.STALE_VERSION: "그 사이에 변경되었습니다. 다시 읽은 뒤 수정해 주세요.",
        Code.BODY_TOO_LARGE: "본문이 너무 큽니다. 줄이거나 나누어 보내 주세요.",
        Code.UNSUPPORTED_MEDIA_TYPE: "본문은 application/json으로 보내 주세요.",
        Code.UNSUPPORTED_ENCODING: "본문은 그대로, 또는 gzip이나 deflate로 압축해서 보내 주세요.",
        Code.EXPECTATION_FAILED: "여기서 지원하는 Expect 값은 100-continue뿐입니다.",
        Code.ANSWER_TOO_LARGE: "응답이 너무 큽니다. 더 짧은 기간, 더 긴 윈도, 또는 한 그룹만 요청해 주세요.",
        Code.KEY_REUSED: "이 Idempotency-Key는 다른 요청에 이미 사용되었습니다. 이 요청에는 새 키를 보내 주세요.",
        Code.REQUEST_TIMEOUT: "요청이 너무 느리게 도착했습니다. 한 번에 다시 보내 주세요.",
        Code.TOO_MANY_REQUESTS: "요청이 너무 많습니다. Retry-After에 표시된 시간(초)이 지난 뒤 다시 시도해 주세요.",
        Code.HEADERS_TOO_LARGE: "요청 줄이나 헤더가 너무 길거나, 헤더가 너무 많습니다.",
        Code.REFUSED: "이 서버가 아직 알지 못하는 이유로 거부되었습니다. 나중에 다시 확인해 주세요.",
        Code.OPERATION_FAILED: "요청을 처리하지 못했습니다. 따로 보관하여 확인하겠습니다.",
        Code.INTERNAL_ERROR: "서버에서 문제가 발생했습니다.",
        Code.METHOD_UNKNOWN: "알 수 없는 메서드입니다.",
        Code.TOO_BUSY: "지금은 요청이 너무 많습니다. 잠시 후 다시 시도해 주세요.",
        Code.BROKER_AWAY: "지금은 변경을 받을 수 없습니다. 잠시 후 다시 시도해 주세요.",
        Code.STORES_AWAY: "지금은 데이터에 접근할 수 없습니다. 잠시 후 다시 시도해 주세요.",
    },
}

PROBLEMS: dict[str, dict[Problem, str]] = {
    "en": {
        Problem.REQUIRED: "is required",
        Problem.REQUIRED_OR: "is required, or {} in its place",
        Problem.UNKNOWN: "is not known here",
        Problem.TWICE: "is given more than once",
        Problem.TYPE: "must be of type {}",
        Problem.TOO_SHORT: "must not be shorter than {}",
        Problem.TOO_LONG: "must not be longer than {}",
        Problem.TOO_FEW: "must not have fewer items than {}",
        Problem.TOO_MANY: "must not have more items than {}",
        Problem.PATTERN: "must look like {}",
        Problem.CHOICE: "must be one of {}",
        Problem.RANGE: "must be within {}",
        Problem.FLOAT_RANGE: "must be within {}",
        Problem.NUL: "must not contain the NUL character",
        Problem.SURROGATE: "must not contain half of a surrogate pair",
        Problem.TOO_DEEP: "must not be nested deeper than {} levels",
        Problem.INVALID: "is not valid",
        Problem.SYNTAX: "is not JSON from {} on",
        Problem.NOT_UTF8: "is not UTF-8 from byte {} on",
        Problem.ANOTHER_LIST: "belongs to another sort, filter or question",
        Problem.UNPACKABLE: "is not how the body is compressed, or the body is damaged",
        Problem.NO_LOCAL_DAYS: "has days that this metric can't be shown by: it keeps no window, such as hour, at whose"
        " borders they begin; use UTC, or another window",
        Problem.SCHEMA: "does not satisfy the schema of its kind: {}",
        Problem.NO_SCHEMA: "is not as JSON Schema (draft 2020-12) has it: {}",
        Problem.NO_PATTERN: "is not a pattern that can be used: it is no regular expression, has look-around or"
        " back-references, or takes too much memory",
        Problem.UNSATISFIED: "does not satisfy the schema of its kind, and is too large for each wrong value to be"
        " named",
        Problem.REFERENCE: "must refer to a part of the same schema, such as #/$defs/name, and not to itself",
        Problem.TOO_COMPLEX: "is too complex: at most {}",
        Problem.SCOPES: "is an API key with only these scopes: {}; make one with the scope that this needs",
        Problem.UNSUPPORTED: "is not supported here; use {}",
        Problem.BESIDE: "can't be combined with {}",
    },
    "ko": {
        Problem.REQUIRED: "필수 항목입니다",
        Problem.REQUIRED_OR: "필수 항목입니다. 대신 {} 항목을 보내도 됩니다",
        Problem.UNKNOWN: "알 수 없는 항목입니다",
        Problem.TWICE: "두 번 이상 지정되었습니다",
        Problem.TYPE: "형식이 {}이어야 합니다",
        Problem.TOO_SHORT: "길이가 {} 이상이어야 합니다",
        Problem.TOO_LONG: "길이가 {} 이하여야 합니다",
        Problem.TOO_FEW: "항목이 {}개 이상이어야 합니다",
        Problem.TOO_MANY: "항목이 {}개 이하여야 합니다",
        Problem.PATTERN: "{} 형식이어야 합니다",
        Problem.CHOICE: "다음 중 하나여야 합니다: {}",
        Problem.RANGE: "{} 범위 안이어야 합니다",
        Problem.FLOAT_RANGE: "{} 범위 안이어야 합니다",
        Problem.NUL: "NUL 문자를 포함할 수 없습니다",
        Problem.SURROGATE: "짝이 없는 서로게이트를 포함할 수 없습니다",
        Problem.TOO_DEEP: "{}단계보다 깊게 중첩될 수 없습니다",
        Problem.INVALID: "올바르지 않습니다",
        Problem.SYNTAX: "{}부터 JSON이 아닙니다",
        Problem.NOT_UTF8: "{}번째 바이트부터 UTF-8이 아닙니다",
        Problem.ANOTHER_LIST: "다른 정렬, 필터 또는 질의의 커서입니다",
        Problem.UNPACKABLE: "본문의 압축 방식과 다르거나 본문이 손상되었습니다",
        Problem.NO_LOCAL_DAYS: "의 날짜 경계에 맞는 윈도(예: hour)를 이 지표가 보관하지 않습니다. UTC 또는 다른 윈도를"
        " 사용해 주세요",
        Problem.SCHEMA: "해당 kind의 스키마에 맞지 않습니다: {}",
        Problem.NO_SCHEMA: "JSON Schema(draft 2020-12)에 맞지 않습니다: {}",
        Problem.NO_PATTERN: "사용할 수 없는 패턴입니다. 정규식이 아니거나, 전후방 탐색이나 역참조가 있거나, 메모리를"
        " 너무 많이 사용합니다",
        Problem.UNSATISFIED: "해당 kind의 스키마에 맞지 않으며, 너무 커서 틀린 값을 하나씩 표시할 수 없습니다",
        Problem.REFERENCE: "같은 스키마의 다른 부분(#/$defs/name 등)만 참조해야 하며, 자기 자신은 참조할 수 없습니다",
        Problem.TOO_COMPLEX: "너무 복잡합니다. 최대 {}",
        Problem.SCOPES: "이 API 키의 범위는 {}뿐입니다. 필요한 범위를 가진 키를 새로 만들어 주세요",
        Problem.UNSUPPORTED: "여기서는 지원되지 않습니다. 대신 {}을(를) 사용해 주세요",
        Problem.BESIDE: "{}와(과) 함께 사용할 수 없습니다",
    },
}
LANGUAGES: tuple[str, ...] = tuple(MESSAGES)


def message(code: Code, language: str) -> str:
    """The sentence for `code` in `language` (`en` or `ko`)."""
    return MESSAGES[language][code]


def explain(detail: Detail, language: str) -> str:
    """The sentence for one wrong field in `language`."""
    return PROBLEMS[language][detail.problem].replace("{}", detail.allowed)
