"""Lists of resources over HTTP: pages, filters, order, full text, some of the fields, how many there are."""

from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from aiohttp import web

from domain import highlights, resources, words
from domain.refusals import Code, Problem
from domain.resources import Resource
from domain.text import problem
from stores.pages import IN_TURN, SORTABLE, PageQuery, Sort
from stores.search import Sought
from web import filters, queries
from web.parts import ACTOR, PARTS, Parts
from web.presenters import Reply
from web.refused import Wrong, invalid, refused

DEFAULT_SORT, DEFAULT_OF_DELETED = "-created_at", "-deleted_at"
DEFAULT_LIMIT, MOST = 20, 100
MOST_SORTS = 3
LONGEST_QUESTION = 200
KNOWN = filters.Known(frozenset({"limit", "cursor", "sort", "fields", "q", "total", "deleted"}))
FIELDS = (
    "id", "kind", "title", "body", "tags", "attributes", "visibility", "status", "owner_id", "version", "created_at",
    "updated_at",
)  # fmt: skip
"""The members of a resource that may be chosen by `fields`."""
_CURSOR = b"cursor of resources"


async def listing(request: web.Request) -> Reply:
    """`GET /resources`: what the caller may see, page by page; `meta.next_cursor` is null on the last one."""
    parts = request.app[PARTS]
    actor = request[ACTOR]
    wrong = Wrong()
    asked = queries.asked(request, wrong, KNOWN)
    limit, deleted, counted = DEFAULT_LIMIT, False, False
    with wrong:
        limit = queries.limit(asked.get("limit"), DEFAULT_LIMIT, MOST)
    with wrong:
        deleted = _flag(asked, "deleted")
    with wrong:
        counted = _flag(asked, "total")
    fields: tuple[str, ...] | None = None
    with wrong:
        fields = _fields(asked.get("fields"))
    terms: tuple[words.Term, ...] = ()
    with wrong:
        terms = _terms(asked, deleted)
    sort: Sort = ()
    sort_text = asked.get("sort", DEFAULT_OF_DELETED if deleted else DEFAULT_SORT)
    with wrong:
        sort = _sort(sort_text, deleted)
    narrowed = filters.read(asked, wrong)
    marked = None
    with wrong:
        marked = queries.marked(asked.get("cursor"), parts.settings.cursor_key, _CURSOR)
    wrong.refuse()
    if deleted and actor.id is None:
        raise refused(Code.TOKEN_MISSING)
    # A cursor belongs to one order, one filter and one question; with another it would skip or repeat.
    bound = [sort_text, asked.get("q"), deleted, sorted((n, t) for n, t in asked.items() if n.startswith("filter["))]
    place = None if marked is None else _place(marked, bound)
    query = PageQuery(
        limit=limit, visible_to=actor, sort=sort, filters=narrowed, deleted=deleted,
        after=None if place is None or terms else _after(place, sort, deleted),
    )  # fmt: skip
    if terms:
        after = None if place is None else (float(place[0]), UUID(place[1]))
        items, next_place = await _found(parts, query, terms, after, fields)
    else:
        page = await parts.stores.resources.page(query)
        items = [_document(resource, fields, deleted) for resource in page.items]
        next_place = page.place
    cursor = None
    if next_place is not None:
        shown = [str(value) if isinstance(value, UUID) else value for value in next_place]
        cursor = queries.cursor(parts.settings.cursor_key, _CURSOR, [bound, shown])
    meta: dict[str, object] | None = None
    if counted:
        total = await parts.stores.resources.total(query, terms)
        meta = {"total": {"count": total.count, "exact": total.exact}}
    return Reply(items=items, cursor=cursor, meta=meta)


async def _found(
    parts: Parts, query: PageQuery, terms: tuple[words.Term, ...], after: Any, fields: tuple[str, ...] | None
) -> tuple[list[bytes], tuple[Any, ...] | None]:
    """What has all the words, the best first, each with the places where they stand."""
    hits = await parts.stores.search.find(
        Sought(
            terms=terms, visible_to=query.visible_to, limit=query.limit + 1, filters=query.filters, after=after
        )
    )  # fmt: skip
    items = []
    for hit in hits[: query.limit]:
        shown = {
            "title": highlights.highlight(hit.resource.title, terms),
            "body": highlights.excerpt(hit.resource.body, terms),
        }
        document = _document(hit.resource, fields, False)
        items.append(b'%b,"highlight":%b}' % (document[:-1], orjson.dumps(shown)))
    last = hits[query.limit - 1] if len(hits) > query.limit else None
    return items, None if last is None else (last.score, last.resource.id)


def _document(resource: Resource, fields: tuple[str, ...] | None, deleted: bool) -> bytes:
    if fields is None and not deleted:
        return resources.document(resource)
    chosen: dict[str, Any] = {name: getattr(resource, name) for name in fields or FIELDS}
    if deleted:
        chosen["deleted_at"] = resource.deleted_at
    return resources.encode(chosen)


def _flag(asked: dict[str, str], name: str) -> bool:
    text = asked.get(name, "false")
    if text not in ("true", "false"):
        raise invalid(name, Problem.CHOICE, "true, false")
    return text == "true"


def _fields(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    names = tuple(dict.fromkeys(text.split(",")))
    if not set(names) <= set(FIELDS):
        raise invalid("fields", Problem.CHOICE, ", ".join(FIELDS))
    return names if "id" in names else ("id", *names)


def _terms(asked: dict[str, str], deleted: bool) -> tuple[words.Term, ...]:
    text = asked.get("q")
    if text is None:
        return ()
    if "sort" in asked:
        raise invalid("sort", Problem.BESIDE, "q")
    if deleted:
        raise invalid("deleted", Problem.BESIDE, "q")
    if len(text) > LONGEST_QUESTION:
        raise invalid("q", Problem.TOO_LONG, str(LONGEST_QUESTION))
    if (found := problem(text)) is not None:
        raise invalid("q", found)
    terms = words.terms(text)
    if not terms:
        raise invalid("q", Problem.PATTERN, words.EXAMPLE)
    return terms


def _sort(text: str, deleted: bool) -> Sort:
    """The columns to sort by, each with whether it descends.

    After a column of many equal values only `created_at` may come, in the same direction: any other order would have to
    sort all the equal ones for each page.
    """
    columns = tuple((part.removeprefix("-"), part.startswith("-")) for part in text.split(","))
    names = [name for name, _ in columns]
    possible = ("deleted_at",) if deleted else SORTABLE
    if len(set(names)) != len(names) or not set(names) <= set(possible):
        raise invalid("sort", Problem.CHOICE, ", ".join(f"{name}, -{name}" for name in possible))
    if len(columns) > MOST_SORTS:
        raise invalid("sort", Problem.TOO_LONG, str(MOST_SORTS))
    first, *more = columns
    if first[0] in IN_TURN and more not in ([], [("created_at", first[1])]):
        sign = "-" if first[1] else ""
        raise invalid("sort", Problem.UNSUPPORTED, f"{sign}{first[0]},{sign}created_at")
    return columns


def _place(marked: list[Any], bound: list[Any]) -> list[Any]:
    """The place in the order that a cursor marks. Raises Refused if it is one of another list."""
    of, place = marked
    if of != orjson.loads(orjson.dumps(bound)):
        raise invalid("cursor", Problem.ANOTHER_LIST)
    found: list[Any] = place
    return found


def _after(place: list[Any], sort: Sort, deleted: bool) -> tuple[Any, ...]:
    columns = [column for column, _ in sort]
    if not deleted and columns[-1] in IN_TURN and "created_at" not in columns:
        columns.append("created_at")
    values = [
        datetime.fromisoformat(value) if column.endswith("_at") else value
        for column, value in zip(columns, place, strict=False)
    ]
    return (*values, UUID(place[-1]))
