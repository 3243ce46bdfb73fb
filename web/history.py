"""What happened to a resource, from the journal."""

import msgspec
from aiohttp import web

from domain.access import may_change, may_read
from domain.refusals import Code
from web import queries
from web.parts import ACTOR, PARTS
from web.paths import object_id
from web.presenters import Reply
from web.refused import Wrong, refused

DEFAULT_LIMIT, MOST = 20, 100
PARAMETERS = frozenset({"limit", "cursor"})
_CURSOR = b"cursor of a history"

_encode = msgspec.json.Encoder().encode


async def listing(request: web.Request) -> Reply:
    """`GET /resources/{id}/history`: each change, oldest first.

    Whoever may change the resource sees all of it, also after it was deleted. Others who may read it see what happened
    while it was public: what its owner kept private before is nobody's business now.
    """
    parts = request.app[PARTS]
    actor = request[ACTOR]
    id = object_id(request)
    wrong = Wrong()
    asked = queries.asked(request, wrong, PARAMETERS)
    limit = DEFAULT_LIMIT
    with wrong:
        limit = queries.limit(asked.get("limit"), DEFAULT_LIMIT, MOST)
    marked = None
    with wrong:
        marked = queries.marked(asked.get("cursor"), parts.settings.cursor_key, _CURSOR + id.bytes)
    wrong.refuse()
    state = await parts.stores.resources.also_deleted(id)
    if state is None:
        raise refused(Code.NOT_FOUND)
    owned = may_change(actor, state.owner_id)
    if not owned and (state.deleted_at is not None or not may_read(actor, state.owner_id, state.visibility)):
        raise refused(Code.NOT_FOUND)
    found = await parts.stores.resources.history(
        id, limit=limit + 1, after=marked[0] if marked else 0, public_only=not owned
    )
    cursor = None
    if len(found) > limit:
        found = found[:limit]
        cursor = queries.cursor(parts.settings.cursor_key, _CURSOR + id.bytes, [found[-1].version])
    return Reply(items=[_encode(change) for change in found], cursor=cursor)
