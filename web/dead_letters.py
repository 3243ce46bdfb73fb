"""Dead letters over HTTP, for admins: which records could not be handled, and why."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from aiohttp import web

from domain.refusals import Code, Problem
from domain.text import problem
from stores.dead_letters import STATES, Parked
from web import queries
from web.parts import PARTS
from web.presenters import Reply
from web.refused import Wrong, invalid, refused

DEFAULT_LIMIT, MOST = 20, 100
FILTERS = ("group", "state", "topic")
PARAMETERS = frozenset({"limit", "cursor", *(f"filter[{name}]" for name in FILTERS)})
PLAIN = (
    "id", "state", "group", "topic", "topic_id", "partition", "offset", "code", "error", "handler", "attempts",
    "parked_at",
)  # fmt: skip
"""What a letter is, besides the bytes that came."""
_CURSOR = b"cursor of dead letters"
_LONGEST_ID = 18
"""Digits, which PostgreSQL's bigint holds."""
_EPOCH = datetime.fromtimestamp(0, UTC)

_encode = msgspec.json.Encoder().encode


async def listing(request: web.Request) -> Reply:
    """`GET /dead-letters`: oldest first, page by page, without what came."""
    parts = request.app[PARTS]
    wrong = Wrong()
    asked = queries.asked(request, wrong, PARAMETERS)
    with wrong:
        limit = queries.limit(asked.get("limit"), DEFAULT_LIMIT, MOST)
    filters = {}
    for name in FILTERS:
        with wrong:
            filters[name] = _filter(name, asked.get(f"filter[{name}]"))
    with wrong:
        marked = queries.marked(asked.get("cursor"), parts.settings.cursor_key, _CURSOR)
    wrong.refuse()
    bound = [filters[name] for name in FILTERS]
    if marked is not None and marked[0] != bound:
        raise invalid("cursor", Problem.ANOTHER_LIST)
    after = 0 if marked is None else marked[1]
    found = await parts.stores.dead_letters.listed(**filters, limit=limit + 1, after=after)
    cursor = None
    if len(found) > limit:
        found = found[:limit]
        cursor = queries.cursor(parts.settings.cursor_key, _CURSOR, [bound, found[-1].id])
    return Reply(items=[_encode(letter) for letter in found], cursor=cursor)


def _filter(name: str, text: str | None) -> str | None:
    if text is None:
        return None
    bad = problem(text)
    if bad is not None:
        raise invalid(f"filter[{name}]", bad)
    if name == "state" and text not in STATES:
        raise invalid("filter[state]", Problem.CHOICE, ", ".join(STATES))
    return text


async def read(request: web.Request) -> Reply:
    """`GET /dead-letters/{id}`: one with its key, headers and value."""
    text = request.match_info["id"]
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_ID and str(int(text)) == text):
        raise refused(Code.NOT_FOUND)
    letter = await request.app[PARTS].stores.dead_letters.get(int(text))
    if letter is None:
        raise refused(Code.NOT_FOUND)
    return Reply(_document(letter))


def _document(letter: Parked) -> bytes:
    shown: dict[str, Any] = {name: getattr(letter, name) for name in PLAIN}
    shown["produced_at"] = _time(letter.produced_at)
    shown["key"] = _shown(letter.key)
    shown["headers"] = [{"name": name, "value": _shown(value)} for name, value in letter.headers]
    shown["value"] = _shown(letter.value)
    return _encode(shown)


def _time(milliseconds: int | None) -> datetime | None:
    """When a producer says that it made the record; None where that is no time of ours (it may say any number)."""
    try:
        return None if milliseconds is None else _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None


def _shown(raw: bytes | None) -> dict[str, Any] | None:
    """Bytes as JSON can hold them: `{"text"}` if they are UTF-8, else `{"base64"}`; None of none."""
    if raw is None:
        return None
    try:
        return {"text": raw.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}
