"""Resources over HTTP: create, read, list, replace, delete."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import orjson
from aiohttp import web

from domain import resources
from domain.access import Visibility, may_read
from domain.refusals import Code, Problem
from stores.resources import FILTERABLE, SORTABLE, PageQuery
from web import headers, queries, writes
from web.parts import ACTOR, PARTS
from web.paths import object_id
from web.presenters import Reply
from web.refused import Wrong, invalid, refused
from web.validation import Schema

PATH = "/api/v1/resources/"
BODY = Schema(resources.CreateResource)

DEFAULT_SORT = "-created_at"
DEFAULT_LIMIT, MOST = 20, 100
PARAMETERS = frozenset({"limit", "cursor", "sort", *(f"filter[{name}]" for name in FILTERABLE)})
_CURSOR = b"cursor of resources"

_encode = msgspec.json.Encoder().encode


async def create(request: web.Request) -> Reply:
    """`POST /resources`: 201 with the finished resource, its address and its ETag."""
    wrong = Wrong()
    with wrong:
        key = headers.idempotency_key(request)
    with wrong:
        parsed = await writes.read_body(request, BODY)
    wrong.refuse()
    answer = writes.answered(
        await writes.submit(
            request,
            noun="resources",
            command="create_resource",
            data=_encode(parsed.value),
            key=key,
            canonical=parsed.canonical,
        )
    )
    # The id stands first in the document (domain/resources.py), 36 characters after {"id":"
    location = PATH + answer.document[7:43].decode()
    return Reply(
        answer.document, status=201, version=answer.version, headers=writes.reply_headers(answer, Location=location)
    )


async def read(request: web.Request) -> Reply:
    """`GET /resources/{id}`: the resource, or 304 if the caller has this version."""
    view = await request.app[PARTS].stores.resources.get(object_id(request))
    if view is None or not may_read(request[ACTOR], view.owner_id, view.visibility):
        raise refused(Code.NOT_FOUND)
    if headers.none_match(request, view.version):
        return Reply(status=304, version=view.version)
    return Reply(view.document, version=view.version)


async def replace(request: web.Request) -> Reply:
    """`PUT /resources/{id}`: every writable field becomes what the body says; one left out becomes its default."""
    resource_id = object_id(request)
    wrong = Wrong()
    with wrong:
        key = headers.idempotency_key(request)
    with wrong:
        expected = headers.if_match(request)
    with wrong:
        headers.no_none_match(request)
    with wrong:
        parsed = await writes.read_body(request, BODY)
    wrong.refuse()
    new = parsed.value
    command = resources.UpdateResource(
        expected_version=expected,
        kind=new.kind,
        title=new.title,
        body=new.body,
        tags=new.tags,
        attributes=new.attributes,
        visibility=new.visibility,
        status=new.status,
    )
    answer = writes.answered(
        await writes.submit(
            request,
            noun="resources",
            command="update_resource",
            data=_encode(command),
            key=key,
            canonical=parsed.canonical,
            aggregate_id=resource_id,
            matching=expected,
        )
    )
    return Reply(answer.document, version=answer.version, headers=writes.reply_headers(answer))


async def delete(request: web.Request) -> Reply:
    """`DELETE /resources/{id}`: 204; the resource is found by nobody from then on."""
    resource_id = object_id(request)
    wrong = Wrong()
    with wrong:
        key = headers.idempotency_key(request)
    with wrong:
        expected = headers.if_match(request)
    with wrong:
        headers.no_none_match(request)
    wrong.refuse()
    answer = writes.answered(
        await writes.submit(
            request,
            noun="resources",
            command="delete_resource",
            data=_encode(resources.DeleteResource(expected)),
            key=key,
            aggregate_id=resource_id,
            matching=expected,
        )
    )
    return Reply(status=204, headers=writes.reply_headers(answer))


async def listing(request: web.Request) -> Reply:
    """`GET /resources`: what the caller may see, page by page; `meta.next_cursor` is null on the last one."""
    parts = request.app[PARTS]
    wrong = Wrong()
    asked = queries.asked(request, wrong, PARAMETERS)
    with wrong:
        limit = queries.limit(asked.get("limit"), DEFAULT_LIMIT, MOST)
    sort_text = asked.get("sort", DEFAULT_SORT)
    with wrong:
        sort = _sort(sort_text)
    filters = _filters(asked, wrong)
    with wrong:
        marked = queries.marked(asked.get("cursor"), parts.settings.cursor_key, _CURSOR)
    wrong.refuse()
    # A cursor belongs to one order and one filter; with another it would skip or repeat.
    bound = [sort_text, sorted((name, str(value)) for name, value in filters.items())]
    after = None if marked is None else _after(marked, bound, sort)
    actor = request[ACTOR]
    found = await parts.stores.resources.page(
        PageQuery(limit=limit + 1, visible_to=actor, sort=sort, filters=filters, after=after)
    )
    cursor = None
    if len(found) > limit:
        found = found[:limit]
        last = found[-1]
        place = [*(getattr(last, column) for column, _ in sort), str(last.id)]
        cursor = queries.cursor(parts.settings.cursor_key, _CURSOR, [bound, place])
    return Reply(items=[resources.document(resource) for resource in found], cursor=cursor)


def _sort(text: str) -> tuple[tuple[str, bool], ...]:
    """The columns to sort by, each with whether it descends."""
    columns = [(part.removeprefix("-"), part.startswith("-")) for part in text.split(",")]
    names = [name for name, _ in columns]
    if len(set(names)) != len(names) or not set(names) <= set(SORTABLE):
        raise invalid("sort", Problem.CHOICE, ", ".join(f"{name}, -{name}" for name in SORTABLE))
    return tuple(columns)


def _filters(asked: dict[str, str], wrong: Wrong) -> dict[str, str | UUID]:
    filters: dict[str, str | UUID] = {}
    for name, kind in FILTERABLE.items():
        text = asked.get(f"filter[{name}]")
        if text is None:
            continue
        with wrong:
            try:
                filters[name] = msgspec.convert(text, kind)
            except msgspec.ValidationError:
                allowed = ", ".join(Visibility) if kind is Visibility else "UUID" if kind is UUID else "a-z 0-9 _ . -"
                raise invalid(f"filter[{name}]", Problem.PATTERN, allowed) from None
    return filters


def _after(marked: list[Any], bound: list[Any], sort: tuple[tuple[str, bool], ...]) -> tuple[Any, ...]:
    """The place in the order that a cursor marks: a value for each column, and the id."""
    of, place = marked
    if of != orjson.loads(orjson.dumps(bound)):
        raise invalid("cursor", Problem.ANOTHER_LIST)
    values = [
        value if column == "title" else datetime.fromisoformat(value)
        for (column, _), value in zip(sort, place, strict=False)
    ]
    return (*values, UUID(place[-1]))
