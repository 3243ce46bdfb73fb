"""What became of a write that was answered with 202."""

from typing import Any
from uuid import UUID

import msgspec
import orjson
from aiohttp import web

from domain.refusals import Code, Refusal
from streams.publish import Pending
from web import account_views, presenters
from web.auth import NO_STORE
from web.parts import ACTOR, PARTS
from web.paths import object_id
from web.presenters import Reply
from web.refused import refused

_FAILED = Refusal(Code.OPERATION_FAILED)


async def read(request: web.Request) -> Reply:
    """`GET /operations/{id}`: pending, succeeded (with the result), refused or failed (with the error)."""
    parts = request.app[PARTS]
    operation = object_id(request)
    answer = await parts.commands.find(operation, request[ACTOR])
    if answer is None:
        raise refused(Code.NOT_FOUND)
    if isinstance(answer, Pending):
        return Reply(pending(operation), headers={"Retry-After": "1"})
    shown: dict[str, Any] = {"id": str(operation), "status": answer.outcome, "result": None, "error": None}
    if answer.outcome == "succeeded":
        shown["result"] = msgspec.Raw(await account_views.result(parts, request[ACTOR], answer))
    else:
        language = presenters.language_of(request.headers.get("Accept-Language"), parts.settings.language)
        shown["error"] = parts.presenters.of(request.path).error(answer.refusal or _FAILED, language)
    return Reply(msgspec.json.encode(shown), headers=NO_STORE)  # it may be an account's


def pending(operation: UUID) -> bytes:
    """The document of an operation that goes on."""
    return orjson.dumps({"id": str(operation), "status": "pending", "result": None, "error": None})
