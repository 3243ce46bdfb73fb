"""Resources over HTTP: create, read, replace, patch, delete, restore."""

from typing import Any
from uuid import UUID

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from domain import resources
from domain.access import Visibility, may_read
from domain.refusals import Code
from domain.resources import Attributes, CreateResource, UpdateResource
from domain.text import Slug, check, check_json
from domain.versions import Expected
from streams.publish import Answer
from web import headers, kinds, writes
from web.parts import ACTOR, PARTS
from web.paths import object_id
from web.presenters import Reply
from web.refused import Wrong, refused
from web.validation import Schema

PATH = "/api/v1/resources/"
BODY = Schema(CreateResource)
encode = msgspec.json.Encoder().encode


class Patch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A merge patch (RFC 7396): null takes a field back to its default, and is no kind and no title."""

    kind: Slug | UnsetType = UNSET
    title: resources.Title | UnsetType = UNSET
    body: resources.Body | UnsetType | None = UNSET
    tags: resources.Tags | UnsetType | None = UNSET
    attributes: Attributes | UnsetType | None = UNSET
    visibility: Visibility | UnsetType | None = UNSET
    status: Slug | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        if self.title is not UNSET:
            check(self.title)
        if isinstance(self.body, str):
            check(self.body)
        if isinstance(self.tags, tuple):
            check(*self.tags)
        if isinstance(self.attributes, dict):
            check_json(self.attributes)

    def command(self, expected: Expected) -> UpdateResource:
        """The change that it asks for."""
        attributes = self.attributes
        given: Any = {"attributes": {}} if attributes is None else {}
        if isinstance(attributes, dict):
            given = {"merge": attributes}
        return UpdateResource(
            expected_version=expected,
            kind=self.kind,
            title=self.title,
            body="" if self.body is None else self.body,
            tags=() if self.tags is None else self.tags,
            visibility=Visibility.PRIVATE if self.visibility is None else self.visibility,
            status=resources.DEFAULT_STATUS if self.status is None else self.status,
            **given,
        )


PATCH = Schema(Patch)


def replacement(new: CreateResource, expected: Expected) -> UpdateResource:
    """The change that makes a resource what `new` says."""
    return UpdateResource(
        expected_version=expected,
        kind=new.kind,
        title=new.title,
        body=new.body,
        tags=new.tags,
        attributes=new.attributes,
        visibility=new.visibility,
        status=new.status,
    )


def location(document: bytes) -> str:
    """The address of a finished resource: the id stands first in it, 36 characters after `{"id":"`."""
    return PATH + document[7:43].decode()


async def create(request: web.Request) -> Reply:
    """`POST /resources`: 201 with the finished resource, its address and its ETag."""
    wrong = Wrong()
    key = None
    with wrong:
        key = headers.idempotency_key(request)
    with wrong:
        parsed = await writes.read_body(request, BODY)
        await kinds.check(request, key, parsed.value.kind, parsed.value.attributes)
    wrong.refuse()
    answer = await change(request, None, "create_resource", encode(parsed.value), key, None, parsed.canonical)
    return Reply(
        answer.document,
        status=201,
        version=answer.version,
        headers=writes.reply_headers(answer, Location=location(answer.document)),
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
    id = object_id(request)
    wrong = Wrong()
    key, expected = writes.preconditions(request, wrong)
    with wrong:
        parsed = await writes.read_body(request, BODY)
    wrong.refuse()
    return await _changed(
        request, id, "update_resource", encode(replacement(parsed.value, expected)), key, expected, parsed.canonical
    )


async def patch(request: web.Request) -> Reply:
    """`PATCH /resources/{id}`: what the body says, merged into what is there; the rest stays."""
    id = object_id(request)
    wrong = Wrong()
    key, expected = writes.preconditions(request, wrong)
    with wrong:
        parsed = await writes.read_body(request, PATCH, merging=True)
    wrong.refuse()
    return await _changed(
        request, id, "update_resource", encode(parsed.value.command(expected)), key, expected, parsed.canonical
    )


async def delete(request: web.Request) -> Reply:
    """`DELETE /resources/{id}`: 204; from then on only its owner and admins find it, to restore it."""
    id = object_id(request)
    wrong = Wrong()
    key, expected = writes.preconditions(request, wrong)
    wrong.refuse()
    answer = await change(
        request, id, "delete_resource", encode(resources.DeleteResource(expected)), key, expected, b""
    )
    return Reply(status=204, headers=writes.reply_headers(answer))


async def restore(request: web.Request) -> Reply:
    """`POST /resources/{id}/restore`: the deleted resource as it was."""
    id = object_id(request)
    wrong = Wrong()
    key, expected = writes.preconditions(request, wrong)
    wrong.refuse()
    return await _changed(
        request, id, "restore_resource", encode(resources.RestoreResource(expected)), key, expected, b""
    )


async def _changed(
    request: web.Request, id: UUID, command: str, data: bytes, key: str | None, expected: Expected, canonical: bytes
) -> Reply:
    answer = await change(request, id, command, data, key, expected, canonical)
    return Reply(answer.document, version=answer.version, headers=writes.reply_headers(answer))


async def change(
    request: web.Request,
    id: UUID | None,
    command: str,
    data: bytes,
    key: str | None,
    expected: Expected,
    canonical: bytes,
) -> Answer:
    """Sends a command about a resource; without `id`, one that is to come to be. Raises Refused, Unfinished."""
    return await writes.submit(
        request,
        noun="resources",
        command=command,
        data=data,
        key=key,
        canonical=canonical,
        aggregate_id=id,
        matching=expected,
    )
