"""Resources and their kinds, declared."""

from typing import Any

import msgspec

from domain.refusals import Code
from domain.resources import Tag, Title
from stores.narrowing import FIELDS, Op
from stores.pages import SORTABLE
from web import batches, filters, history, kinds, resource_lists, resources
from web.documents import shapes
from web.documents.declared import CURSOR, Endpoint, Parameter, limit, many, nothing, one
from web.documents.schemas import clean

RESOURCES, KINDS = "Resources", "Kinds (admins)"
NOTE = {"kind": "note", "title": "hello", "tags": ["first"], "visibility": "public"}
NEXT = ("GET /resources/{id}", "PUT /resources/{id}", "PATCH /resources/{id}", "DELETE /resources/{id}",
        "POST /resources/{id}/restore", "GET /resources/{id}/history")  # fmt: skip


_MOMENT = {"type": "string", "format": "date-time"}
SHAPES: dict[str, Any] = {"created_at": _MOMENT, "updated_at": _MOMENT, "title": Title, "tags": Tag}
"""What a value of these fields looks like, where their type does not say it."""


def _filters() -> tuple[Parameter, ...]:
    """A parameter for each field and each of its comparisons; the first one needs no name."""
    found = []
    for name, (kind, ops) in FIELDS.items():
        for place, op in enumerate(ops):
            schema = _choices(kind) if op is Op.IN else SHAPES.get(name, kind)
            found.append(Parameter(f"filter[{name}]" if not place else f"filter[{name}][{op}]", schema, _says(op)))
    return tuple(found)


def _by_commas(one: str, most: int) -> str:
    return f"^{one}(,{one}){{0,{most - 1}}}$"


def _choices(kind: Any) -> dict[str, str]:
    """Several of a kind, by commas: where one is an enum each is one of its members, else each has its pattern."""
    schema = clean(msgspec.json.schema(kind))
    schema = schema.get("$defs", {}).get(schema.get("$ref", "").rpartition("/")[2], schema)
    if "enum" in schema:
        one = f"({'|'.join(schema['enum'])})"
    elif schema.get("format") == "uuid":
        one = "[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
    else:
        one = schema["pattern"].strip("^$").replace("*", f"{{0,{schema['maxLength'] - 1}}}")
    return {"type": "string", "pattern": _by_commas(one, filters.MOST_CHOICES)}


def _says(op: Op) -> str:
    return {
        Op.EQ: "Equal to this.", Op.NE: "Not equal to this.", Op.CONTAINS: "With this in it.",
        Op.IN: f"One of these, by commas; at most {filters.MOST_CHOICES}.",
        Op.GTE: "Then or later.", Op.GT: "Later.", Op.LTE: "Then or earlier.", Op.LT: "Earlier.",
    }[op]  # fmt: skip


_FIELD = f"({'|'.join(resource_lists.FIELDS)})"

ENDPOINTS: dict[str, Endpoint] = {
    "GET /resources": Endpoint(
        tag=RESOURCES,
        summary="List resources",
        says="What you may see. `filter[attributes.a.b]=x` narrows by an attribute besides.",
        parameters=(
            limit(resource_lists.DEFAULT_LIMIT, resource_lists.MOST),
            CURSOR,
            Parameter(
                "sort",
                {
                    "type": "string",
                    "default": resource_lists.DEFAULT_SORT,
                    "pattern": _by_commas(f"-?({'|'.join((*SORTABLE, 'deleted_at'))})", resource_lists.MOST_SORTS),
                },
                f"By commas, `-` for descending: {', '.join(SORTABLE)}; with `deleted`, `deleted_at`.",
                example="-updated_at",
            ),
            Parameter(
                "fields",
                {"type": "string", "pattern": f"^{_FIELD}(,{_FIELD})*$"},
                f"Only these members, by commas: {', '.join(resource_lists.FIELDS)}.",
            ),
            Parameter(
                "q",
                {"type": "string", "minLength": 1, "maxLength": resource_lists.LONGEST_QUESTION},
                "Full text: those that have all the words, the best first.",
            ),
            Parameter("total", {"enum": ["true", "false"], "default": "false"}, "Also how many there are in all."),
            Parameter("deleted", {"enum": ["true", "false"], "default": "false"}, "Those that can be restored."),
            *_filters(),
        ),
        query="filter[kind]=note&sort=-updated_at&limit=5",
        answers={
            200: many(shapes.ListedResource, "A page of resources.", meta={"total": shapes.Total}),
        },
        refuses=(Code.TOKEN_MISSING,),
    ),
    "POST /resources": Endpoint(
        tag=RESOURCES,
        summary="Create a resource",
        body=resources.BODY,
        example=NOTE,
        answers={201: one(shapes.Resource, "The finished resource.", "Location", "ETag")},
        command=True,
        keyed=True,
        refuses=(Code.ALREADY_EXISTS,),
        links={201: NEXT},
    ),
    "POST /resources/batch": Endpoint(
        tag=RESOURCES,
        summary="Change many at once",
        says="Each on its own, and each with an answer as the request of its own would have had it.",
        body=batches.BATCH,
        example={"operations": [{"op": "create", "resource": NOTE}]},
        answers={200: many("BatchAnswer", "An answer for each operation, in order.")},
        keyed=True,
        command=True,
        awaited=True,
    ),
    "GET /resources/{id}": Endpoint(
        tag=RESOURCES,
        summary="Read a resource",
        answers={200: one(shapes.Resource, "The resource.")},
        tagged=True,
    ),
    "PUT /resources/{id}": Endpoint(
        tag=RESOURCES,
        summary="Replace a resource",
        says="A field that you leave out becomes its default.",
        body=resources.BODY,
        example={**NOTE, "title": "changed"},
        answers={200: one(shapes.Resource, "The resource as it is now.", "ETag")},
        command=True,
        keyed=True,
        conditional=True,
    ),
    "PATCH /resources/{id}": Endpoint(
        tag=RESOURCES,
        summary="Change a part of a resource",
        says="A merge patch (RFC 7396), as application/json or application/merge-patch+json.",
        body=resources.PATCH,
        merging=True,
        example={"status": "done"},
        answers={200: one(shapes.Resource, "The resource as it is now.", "ETag")},
        command=True,
        keyed=True,
        conditional=True,
    ),
    "DELETE /resources/{id}": Endpoint(
        tag=RESOURCES,
        summary="Delete a resource",
        says="It can be restored for 30 days.",
        answers={204: nothing("It is deleted.")},
        command=True,
        keyed=True,
        conditional=True,
    ),
    "POST /resources/{id}/restore": Endpoint(
        tag=RESOURCES,
        summary="Restore a deleted resource",
        answers={200: one(shapes.Resource, "The resource as it was.", "ETag")},
        command=True,
        keyed=True,
        conditional=True,
        refuses=(Code.RESTORE_EXPIRED, Code.VALIDATION_ERROR),
    ),
    "GET /resources/{id}/history": Endpoint(
        tag=RESOURCES,
        summary="See what happened to a resource",
        says="Who may not change it sees what happened while it was public.",
        parameters=(limit(history.DEFAULT_LIMIT, history.MOST), CURSOR),
        answers={200: many(shapes.ResourceChange, "Its changes, oldest first.")},
    ),
    "GET /kinds": Endpoint(
        tag=KINDS,
        summary="List kinds that have a schema",
        parameters=(limit(kinds.DEFAULT_LIMIT, kinds.MOST), CURSOR),
        answers={200: many(shapes.KindSchema, "By name.")},
    ),
    "GET /kinds/{kind}": Endpoint(
        tag=KINDS,
        summary="Read the schema of a kind",
        answers={200: one(shapes.KindSchema, "Its schema.")},
        tagged=True,
    ),
    "PUT /kinds/{kind}": Endpoint(
        tag=KINDS,
        summary="Give a kind a schema, or another one",
        says="From now on the attributes of this kind must satisfy it.",
        body=kinds.BODY,
        example={"schema": {"type": "object", "required": ["size"]}},
        answers={200: one(shapes.KindSchema, "The schema as it is now.", "ETag")},
        command=True,
        keyed=True,
        conditional=True,
    ),
    "DELETE /kinds/{kind}": Endpoint(
        tag=KINDS,
        summary="Take the schema of a kind away",
        answers={204: nothing("From now on its attributes may be anything.")},
        command=True,
        keyed=True,
        conditional=True,
    ),
}
