"""`filter[field]` and `filter[field][operator]` of the query, as conditions with typed values."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import orjson

from domain import words
from domain.access import Visibility
from domain.refusals import Problem
from domain.resources import Tag, Title
from domain.text import problem
from stores.narrowing import ATTRIBUTES, FIELDS, Filter, Op
from web.refused import Wrong, invalid

MOST_CHOICES = 50
"""Values of one `in`."""
DEEPEST = 8
"""Members of a path into attributes."""
LONGEST = 256
"""Characters of a path or of a value of an attribute."""
_NAME = re.compile(r"filter\[([^\[\]]{1,300})\](?:\[([a-z]{1,20})\])?")
_LIKE = {UUID: "UUID", datetime: "2026-11-23T08:00:00Z", Visibility: ", ".join(Visibility)}


class Known:
    """The names that a list knows: some of its own, and those of filters."""

    def __init__(self, own: frozenset[str]) -> None:
        self._own = own

    def __contains__(self, name: object) -> bool:
        if name in self._own:
            return True
        found = _NAME.fullmatch(str(name))
        return found is not None and (found.group(1) in FIELDS or found.group(1).startswith(ATTRIBUTES))


def read(asked: Mapping[str, str], wrong: Wrong) -> tuple[Filter, ...]:
    """The conditions in the parameters that are known; `wrong` gets those that can't be understood."""
    found = []
    for name, text in asked.items():
        matched = _NAME.fullmatch(name)
        if matched is None:
            continue
        with wrong:
            found.append(_filter(name, matched.group(1), matched.group(2), text))
    return tuple(found)


def _filter(name: str, field: str, operator: str | None, text: str) -> Filter:
    bad = problem(text) or problem(field)
    if bad is not None:
        raise invalid(name, bad)
    if field.startswith(ATTRIBUTES):
        if operator not in (None, "eq"):
            raise invalid(name, Problem.CHOICE, "eq")
        return Filter(field, Op.EQ, _attribute(name, field, text))
    kind, ops = FIELDS[field]
    # Of tags there is one comparison only, which needs no name.
    asked = operator or ops[0].value
    if asked not in ops:
        raise invalid(name, Problem.CHOICE, ", ".join(ops))
    op = Op(asked)
    if op is Op.IN:
        texts = text.split(",")
        if len(texts) > MOST_CHOICES:
            raise invalid(name, Problem.TOO_LONG, str(MOST_CHOICES))
        return Filter(field, op, tuple(dict.fromkeys(_value(name, kind, one) for one in texts)))
    if field == "tags":
        return Filter(field, op, _converted(name, Tag, text, "1–64"))
    if field == "title":
        title = _converted(name, Title, text, "1–200")
        if op is Op.CONTAINS and not words.terms(title):
            raise invalid(name, Problem.PATTERN, words.EXAMPLE)
        return Filter(field, op, title)
    return Filter(field, op, _value(name, kind, text))


def _value(name: str, kind: Any, text: str) -> Any:
    value = _converted(name, kind, text, _LIKE.get(kind, "a-z 0-9 _ . -"))
    if isinstance(value, datetime):
        try:
            return value.astimezone(UTC) if value.tzinfo is not None else _no_offset(name)
        except OverflowError:
            return _no_offset(name)
    return value


def _no_offset(name: str) -> Any:
    raise invalid(name, Problem.PATTERN, _LIKE[datetime])


def _converted(name: str, kind: Any, text: str, like: str) -> Any:
    try:
        if kind is UUID and len(text) != 36:
            raise msgspec.ValidationError
        return msgspec.convert(text, kind)
    except msgspec.ValidationError:
        raise invalid(name, Problem.PATTERN, like) from None


def _attribute(name: str, field: str, text: str) -> tuple[str, ...]:
    """The documents that contain what is asked for. `7` is the number and the text; `"7"` the text alone."""
    path = field.removeprefix(ATTRIBUTES).split(".")
    if len(path) > DEEPEST or not all(path) or len(text) > LONGEST:
        raise invalid(name, Problem.TOO_LONG if all(path) else Problem.INVALID, f"{DEEPEST} / {LONGEST}")
    values: list[Any] = [text]
    try:
        read: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    else:
        if isinstance(read, str):
            values = [read]
        elif not isinstance(read, dict | list):
            values = [read, text]
    return tuple(orjson.dumps(_within(path, value)).decode() for value in values)


def _within(path: list[str], value: Any) -> Any:
    for step in reversed(path):
        value = {step: value}
    return value
