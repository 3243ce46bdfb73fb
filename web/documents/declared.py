"""How a route is declared: what it takes and what it answers, as data. What many routes share is added by kind."""

from typing import Any

import msgspec

from domain.refusals import Code
from web.validation import Schema

Json = dict[str, Any]


class Parameter(msgspec.Struct, frozen=True):
    """A parameter. `schema`: a type, or a JSON Schema. `place`: query, path or header. `deep`: `name[key]=value`."""

    name: str
    schema: Any
    says: str
    place: str = "query"
    example: Any = None
    deep: bool = False


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A good answer. `shape`: the type of its document, None without a body; `many`: a list of it, by pages.

    `meta`: members of a list besides its cursor. `headers`: names of HEADERS (replies.py). `media`: bodies that come
    bare, without a version's dress, each by its media type with its schema.
    """

    says: str
    shape: Any = None
    many: bool = False
    meta: dict[str, Any] = {}
    headers: tuple[str, ...] = ()
    media: dict[str, Any] = {}


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One route.

    `command`: it goes through Kafka, so it may be answered later, unless it is `awaited`: then it is waited for, or
    refused. `keyed`: it takes an Idempotency-Key. `conditional`: it takes If-Match. `tagged`:
    its answer has an ETag that If-None-Match may name. `refuses`: the codes of its own, besides those of its kind.
    `besides`: what of its body's schema the type can't say. `example`: a body that works, and `query` a query that
    does. `links`: what may be done next with what its answer names.
    """

    tag: str
    summary: str
    answers: dict[int, Answer]
    says: str = ""
    parameters: tuple[Parameter, ...] = ()
    body: Schema[Any] | None = None
    besides: Json = {}
    merging: bool = False
    command: bool = False
    awaited: bool = False
    keyed: bool = False
    conditional: bool = False
    tagged: bool = False
    refuses: tuple[Code, ...] = ()
    example: Json | None = None
    query: str = ""
    links: dict[int, tuple[str, ...]] = {}
    bare: bool = False


def one(shape: Any, says: str, *headers: str, media: dict[str, Any] | None = None) -> Answer:
    """An answer that is one document."""
    return Answer(says=says, shape=shape, headers=headers, media=media or {})


def many(
    shape: Any, says: str, *headers: str, meta: dict[str, Any] | None = None, media: dict[str, Any] | None = None
) -> Answer:
    """An answer that is a list."""
    return Answer(says=says, shape=shape, many=True, headers=headers, meta=meta or {}, media=media or {})


def nothing(says: str, *headers: str) -> Answer:
    """An answer without a body."""
    return Answer(says=says, headers=headers)


def limit(default: int, most: int, says: str = "") -> Parameter:
    """How many at most."""
    schema = {"type": "integer", "minimum": 1, "maximum": most, "default": default}
    return Parameter("limit", schema, says or "How many at most.")


CURSOR = Parameter(
    "cursor", {"type": "string", "minLength": 1}, "The `next_cursor` of the page before; it belongs to its question."
)
