"""Plain JSON as an event: which members of an object say what a CloudEvent's attributes say, as people declare it.

[plain]
id = "order.number"                # a member, or a path inside of the object
type = { constant = "order.placed" }
source = { constant = "/shop" }
time = "at"                        # RFC 3339, or a number: seconds or milliseconds since 1970
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Raw

from domain.metrics import Complaint
from domain.values import NULL, inside, number, spell

PATH = re.compile(r"[^.\s]{1,64}(?:\.[^.\s]{1,64}){0,8}")
REQUIRED = ("id", "type", "source")
ATTRIBUTES = (*REQUIRED, "time", "subject")
MILLISECONDS_FROM = 100_000_000_000
"""A time above this is milliseconds since 1970, not seconds (as which it would be after the year 5100)."""


class From(msgspec.Struct, frozen=True):
    """Where an attribute comes from: a path in the object, or the same text for all."""

    path: tuple[str, ...] = ()
    constant: str = ""


class PlainJson(msgspec.Struct, frozen=True):
    """Where each attribute comes from, by its name."""

    attributes: tuple[tuple[str, From], ...]


class Unmapped(ValueError):
    """An object that lacks what the declaration names; the message says what."""


def declared(fields: Any) -> tuple[PlainJson | None, tuple[Complaint, ...]]:
    """What a declaration says, or every complaint about it."""
    if not isinstance(fields, Mapping):
        return None, (Complaint("plain", "", "plain must be a table: [plain]"),)
    allowed = ", ".join(ATTRIBUTES)
    complaints = [
        Complaint("plain", name, f"{name!r} is no attribute that plain JSON is read for; there are {allowed}")
        for name in fields
        if name not in ATTRIBUTES
    ]
    complaints += [
        Complaint("plain", "", f'{name} must be said: {name} = "member", or {name} = {{ constant = "text" }}')
        for name in REQUIRED
        if name not in fields
    ]
    found = []
    for name in ATTRIBUTES:
        if name in fields:
            source = _from(fields[name], constant=name not in ("id", "time"))
            if source is None:
                may = "" if name in ("id", "time") else f', or a constant: {name} = {{ constant = "text" }}'
                complaints.append(
                    Complaint("plain", name, f'{name} must be a member or a path, such as "order.id"{may}')
                )
            else:
                found.append((name, source))
    return (None, tuple(complaints)) if complaints else (PlainJson(tuple(found)), ())


def _from(said: Any, *, constant: bool) -> From | None:
    if isinstance(said, str) and PATH.fullmatch(said):
        return From(tuple(said.split(".")))
    if constant and isinstance(said, Mapping) and set(said) == {"constant"}:
        text = said["constant"]
        return From(constant=text) if isinstance(text, str) and 0 < len(text) <= 256 and "\0" not in text else None
    return None


def mapped(plain: PlainJson, members: Mapping[str, Raw]) -> dict[str, str]:
    """The attributes of an object with these members. Raises Unmapped."""
    found = {}
    for name, source in plain.attributes:
        value = source.constant or _text(name, source.path, members)
        if value is not None:
            found[name] = value
    return found


def _text(name: str, path: tuple[str, ...], members: Mapping[str, Raw]) -> str | None:
    shown, raw = ".".join(path), members.get(path[0])
    value = NULL if raw is None else inside(bytes(raw), path[1:])
    if value == NULL:
        if name in REQUIRED:
            raise Unmapped(f"{shown!r} is missing, which [plain] of the metrics file reads as {name}")
        return None
    if value[:1] == b'"':
        try:
            text: str = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Unmapped(f"{shown!r} is not UTF-8") from None
        return text
    found = number(value)
    if found is None:
        raise Unmapped(f"{shown!r} is neither a text nor a number, so it can't be the {name}")
    return _moment(shown, found) if name == "time" else spell(value).decode()


def _moment(shown: str, found: Decimal) -> str:
    try:
        return datetime.fromtimestamp(float(found / 1000 if found > MILLISECONDS_FROM else found), UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        raise Unmapped(f"{shown!r} is no time: neither seconds nor milliseconds since 1970") from None
