"""From the bytes of a body to a typed value, or to every reason why not.

Two ways, one result. The fast way is taken by every good body, in C from end to end:

1. `orjson.loads`, then `orjson.dumps` with sorted keys: the canonical body, which the fingerprint of an idempotency key
   needs anyway.
2. Duplicate keys: each member of an object costs one colon outside of strings, and a parser keeps one member of two.
   Colons inside strings survive the way through the parser. So the canonical body has as many colons as the body had,
   or fewer if a key was repeated. Only an escaped colon (backslash u003a) can hide one, so a body with such an
   escape takes the slow way. Two `bytes.count` answer it.
3. Values: a body has no more of them than commas and opening brackets outside of strings, and one. Those are counted
   before anything is made of it: a megabyte of empty lists is quickly sent, and slowly parsed and looked through.
4. Depth: a body with no more than `DEPTH` brackets can't be deeper; others are looked at level by level.
5. NUL can come as its escape only, which is looked for.
6. msgspec decodes into the type, with unknown fields forbidden; the type's own check refuses numbers that can't be
   kept.

If any of these objects, the slow way reads the body again with everything recorded (repeated keys, exact numbers, lone
surrogates) and walks it against the type, gathering every wrong field by its path.
"""

import json
import re
from datetime import datetime
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

import msgspec
import orjson
from msgspec import inspect

from domain import text
from domain.refusals import Code, Detail, Problem, Refusal
from web.refused import MOST_DETAILS, Refused, invalid

T = TypeVar("T")

WHOLE = "$"
"""How a detail names the document itself."""

MOST_ITEMS = 1_000
"""Items of a list that are looked at; every list of ours is shorter, unless it is refused for its length anyway."""
MOST_VALUES = 2 * text.MOST_VALUES
"""Values of a whole body: what the free JSON in it may hold, and room for everything beside it."""
# A string that doesn't end is matched to the end of the text: failing there would look for it again at every quote.
_STRING_OR_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_STRING_OR_SIGN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{},]', re.DOTALL)
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_WRONG = (orjson.JSONEncodeError, msgspec.DecodeError, ValueError, RecursionError)


class Parsed(NamedTuple, Generic[T]):
    """A good body: its typed value, and its canonical form (compact, keys sorted)."""

    value: T
    canonical: bytes


class Schema(Generic[T]):
    """Reads bodies of one msgspec struct type, which hold no more than `most_values` values."""

    def __init__(self, kind: type[T], most_values: int = MOST_VALUES) -> None:
        self.kind = kind
        self._most_values = most_values
        self._decode = msgspec.json.Decoder(kind).decode
        self._type = inspect.type_info(kind)

    def read(self, body: bytes) -> Parsed[T]:
        """The value in `body`. Raises Refused with VALIDATION_ERROR or MALFORMED_BODY."""
        if len(body) > self._most_values:
            _refuse_many(body, self._most_values)
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            if _brackets(body) > text.DEPTH:
                _refuse_depth(body)
            return self._slowly(body)
        if _brackets(body) > text.DEPTH and _deep(document):
            _refuse_depth(body)
        try:
            canonical = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
            if canonical.count(b":") == body.count(b":") and b"\\u003" not in body and b"\\u0000" not in body:
                return Parsed(self._decode(body), canonical)
        except _WRONG:
            pass  # the slow way says what is wrong
        return self._slowly(body)

    def value(self, document: dict[str, Any]) -> T:
        """The value in a document of ours. Raises Refused as `read` does."""
        return self.read(orjson.dumps(document)).value

    def _slowly(self, body: bytes) -> Parsed[T]:
        document = _recorded(body)
        details: list[Detail] = []
        _walk(document, self._type, "", details)
        if details:
            raise Refused(Refusal(Code.VALIDATION_ERROR, tuple(details[:MOST_DETAILS])))
        try:
            return Parsed(self._decode(body), orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS))
        except _WRONG:
            raise invalid(WHOLE, Problem.INVALID) from None


class _Members(dict[str, Any]):
    """An object of the slow way; `repeated` are the keys that came more than once."""

    repeated: tuple[str, ...] = ()


def _members(pairs: list[tuple[str, Any]]) -> _Members:
    members = _Members(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        members.repeated = tuple(dict.fromkeys(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return members


def _integer(digits: str) -> int:
    # Longer ones are out of every range; reading them takes quadratic time.
    return int(digits[:21])


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _recorded(body: bytes) -> Any:
    """`body` as Python values with nothing lost on the way. Raises Refused."""
    try:
        return json.loads(
            body.decode(), object_pairs_hook=_members, parse_int=_integer, parse_constant=_no_constant, strict=True
        )
    except UnicodeDecodeError as error:
        raise _malformed(Problem.NOT_UTF8, str(error.start + 1)) from None
    except (ValueError, RecursionError) as error:
        raise _malformed(Problem.SYNTAX, _place(error, body)) from None


def _malformed(problem: Problem, place: str) -> Refused:
    return Refused(Refusal(Code.MALFORMED_BODY, (Detail(WHOLE, problem, place),)))


def _place(error: Exception, body: bytes) -> str:
    """Where a parser stopped; without its words, which may show what is in the body."""
    if not isinstance(error, json.JSONDecodeError):  # a name that is no JSON: NaN, Infinity
        try:
            orjson.loads(body)
        except orjson.JSONDecodeError as stopped:
            error = stopped
    return (
        f"line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else "line 1, column 1"
    )


def _brackets(body: bytes) -> int:
    """No document is deeper than this."""
    return body.count(b"[") + body.count(b"{")


def _refuse_many(body: bytes, most: int) -> None:
    """Raises Refused if `body` holds more values than `most`, naming the member of the document where it does."""
    if body.count(b",") + _brackets(body) < most:
        return
    bare = _STRING.sub(b"", body)
    if bare.count(b",") + _brackets(bare) < most:
        return
    member, depth, values = WHOLE.encode(), 0, 1
    for token in _STRING_OR_SIGN.finditer(body):
        sign = token.group()
        if sign in (b"[", b"{", b","):
            values += 1
            depth += sign != b","
            if values > most:
                break
        elif sign in (b"]", b"}"):
            depth -= 1
        elif depth == 1:
            member = sign[1:-1]
    raise invalid(text.printable(member.decode(errors="replace")), Problem.TOO_LONG, str(most))


def _deep(document: Any) -> bool:
    """True if a document is nested deeper than DEPTH; level by level, for it may be too deep to recurse."""
    level = [document]
    for _ in range(text.DEPTH):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += [value for value in item.values() if isinstance(value, dict | list)]
            elif isinstance(item, list):
                inner += [value for value in item if isinstance(value, dict | list)]
        if not inner:
            return False
        level = inner
    return True


def _refuse_depth(body: bytes) -> None:
    """Raises Refused if `body` is nested deeper than DEPTH, naming the member of the document where it is."""
    source = body.decode(errors="replace")
    depth = 0
    member = WHOLE
    for token in _STRING_OR_BRACKET.finditer(source):
        sign = source[token.start()]
        if sign in "[{":
            depth += 1
            if depth > text.DEPTH:
                raise invalid(text.printable(member), Problem.TOO_DEEP, str(text.DEPTH))
        elif sign in "]}":
            depth -= 1
        elif depth == 1:
            # The last string of the first level before a deeper one begins is the name of the member it belongs to.
            member = token.group()[1:-1]


def _walk(value: Any, expected: inspect.Type, path: str, found: list[Detail]) -> None:
    """Adds to `found` every place at or below `path` where `value` is not as `expected`."""
    like = ""
    if isinstance(expected, inspect.Metadata):
        like = (expected.extra or {}).get("like", "")
        expected = expected.type
    if len(found) > MOST_DETAILS:
        return

    def wrong(problem: Problem, allowed: object = "") -> None:
        found.append(Detail(text.printable(path) or WHOLE, problem, str(allowed)))

    def length(
        at_least: int | None, at_most: int | None, below: Problem = Problem.TOO_SHORT, above: Problem = Problem.TOO_LONG
    ) -> bool:
        if at_least is not None and len(value) < at_least:
            wrong(below, at_least)
        elif at_most is not None and len(value) > at_most:
            wrong(above, at_most)
        else:
            return True
        return False

    match expected:
        case inspect.StructType():
            if isinstance(value, _Members):
                _walk_members(value, expected, path, found)
            else:
                wrong(Problem.TYPE, "object")
        case inspect.StrType():
            if not isinstance(value, str):
                wrong(Problem.TYPE, "string")
            elif (problem := text.problem(value)) is not None:
                wrong(problem)
            elif length(expected.min_length, expected.max_length) and not re.search(expected.pattern or "", value):
                wrong(Problem.PATTERN, like or expected.pattern)
        case inspect.EnumType():
            choices = [member.value for member in expected.cls]
            if value not in choices:
                wrong(Problem.CHOICE, ", ".join(map(str, choices)))
        case inspect.LiteralType():
            if value not in expected.values:
                wrong(Problem.CHOICE, ", ".join(map(str, expected.values)))
        case inspect.IntType():
            if not isinstance(value, int) or isinstance(value, bool):
                wrong(Problem.TYPE, "integer")
            elif expected.ge is not None and value < expected.ge:
                wrong(Problem.RANGE, f"{expected.ge}…{text.INTEGERS[1]}")
        case inspect.UUIDType():
            if not isinstance(value, str):
                wrong(Problem.TYPE, "string")
            elif not _is(value, UUID):
                wrong(Problem.PATTERN, "UUID")
        case inspect.ListType() | inspect.VarTupleType():
            if not isinstance(value, list):
                wrong(Problem.TYPE, "array")
            else:
                length(expected.min_length, expected.max_length, Problem.TOO_FEW, Problem.TOO_MANY)
                for index, item in enumerate(islice(value, MOST_ITEMS)):
                    _walk(item, expected.item_type, f"{path}[{index}]", found)
        case inspect.DictType():
            if not isinstance(value, _Members):
                wrong(Problem.TYPE, "object")
            else:
                fits = length(expected.min_length, expected.max_length)
                for at, problem in _free(value, path):
                    if fits or problem is not Problem.TOO_LONG:
                        found.append(Detail(text.printable(at), problem, text.LIMITS.get(problem, "")))
        case inspect.BoolType():
            if not isinstance(value, bool):
                wrong(Problem.TYPE, "boolean")
        case inspect.DateTimeType():
            if not isinstance(value, str):
                wrong(Problem.TYPE, "string")
            elif not _is_moment(value):
                wrong(Problem.PATTERN, like)
        case inspect.UnionType():
            kinds = [kind for kind in expected.types if not isinstance(kind, inspect.NoneType)]
            if value is not None or len(kinds) == len(expected.types):
                _walk(value, kinds[0], path, found)
        case _:  # pragma: no cover (a type that no body has so far; msgspec itself has refused the value)
            try:
                msgspec.convert(value, expected)
            except (msgspec.ValidationError, TypeError):
                wrong(Problem.INVALID)


def _is(value: str, kind: type) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _is_moment(value: str) -> bool:
    try:
        return msgspec.convert(value, datetime).tzinfo is not None
    except msgspec.ValidationError:
        return False


def _walk_members(value: _Members, expected: inspect.StructType, path: str, found: list[Detail]) -> None:
    fields = {field.encode_name: field for field in expected.fields}

    def wrong(key: str, problem: Problem) -> None:
        found.append(Detail(text.printable(text.join(path, key)), problem))

    for key in value.repeated:
        wrong(key, Problem.TWICE)
    for key in value:
        if key not in fields:
            wrong(key, Problem.UNKNOWN)
    for name, field in fields.items():
        if name in value:
            _walk(value[name], field.type, text.join(path, name), found)
        elif field.required:
            wrong(name, Problem.REQUIRED)


def _free(value: Any, path: str) -> list[tuple[str, Problem]]:
    """What is wrong within free JSON: text and numbers that can't be kept, and repeated keys at any depth."""
    found = list(islice(text.problems(value, path), MOST_DETAILS))
    if any(problem is Problem.TOO_LONG for _, problem in found):
        return found
    stack = [(value, path)]
    while stack:
        item, at = stack.pop()
        if isinstance(item, _Members):
            found += [(text.join(at, key), Problem.TWICE) for key in item.repeated]
            stack += [(inner, text.join(at, key)) for key, inner in item.items()]
        elif isinstance(item, list):
            stack += [(inner, f"{at}[{index}]") for index, inner in enumerate(item)]
    return found
