"""API keys over HTTP: made, listed and ended by whose they are. How one is presented: web/keyring.py."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from aiohttp import web

from domain.access import SCOPES, Scope
from domain.accounts import AccountStatus
from domain.api_keys import ApiKey, CreateApiKey, RevokeApiKey
from domain.refusals import Code
from security import api_keys
from stores.api_keys import Used
from streams import identity
from web import headers, sessions, users, writes
from web.auth import LONGEST_BODY, NO_STORE
from web.parts import PARTS, Parts
from web.paths import object_id
from web.presenters import Reply
from web.refused import Wrong, refused
from web.validation import Schema


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /api-keys`. Without `expires_at` the key is good until it is revoked."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    scopes: Annotated[tuple[Scope, ...], msgspec.Meta(min_length=1, max_length=len(Scope))]
    expires_at: Annotated[datetime, msgspec.Meta(tz=True, extra={"like": "2026-12-31T00:00:00Z"})] | None = None


NEW_KEY = Schema(NewKey)
_encode = msgspec.json.Encoder().encode


async def create(request: web.Request) -> Reply:
    """`POST /api-keys`: 201 with the key, which is shown this once; what repeats it shows all but that."""
    parts = request.app[PARTS]
    wrong = Wrong()
    idempotency_key = parsed = None
    with wrong:
        idempotency_key = headers.idempotency_key(request)
    with wrong:
        parsed = await writes.read_body(request, NEW_KEY, LONGEST_BODY)
    wrong.refuse()
    assert parsed is not None
    account = await users.own(request)
    new = parsed.value
    # What may still be said of the role in a token, the account may have lost since.
    if account.status is not AccountStatus.ACTIVE or not set(new.scopes) <= set(SCOPES[account.role]):
        raise refused(Code.FORBIDDEN)
    wrapped = await users.key_of(parts, account.id)
    made = api_keys.ApiKey.new(account.id)
    hashed = made.hash(parts.settings.environment)
    id = identity.uuid7()
    if idempotency_key is not None:
        operation = identity.operation_id(account.id, request.method, request.path, idempotency_key)
        id = identity.aggregate_id(operation)
    command = CreateApiKey(
        id, hashed, parts.sealer.seal(wrapped, account.id, "api_key", new.name), new.scopes, account.version,
        new.expires_at,
    )  # fmt: skip
    answer = await writes.submit(
        request, noun="api_keys", command="create_api_key", data=_encode(command), key=idempotency_key,
        canonical=parsed.canonical, aggregate_id=account.id, personal=True,
        awaited=True,
    )  # fmt: skip
    held = await parts.stores.api_keys.get(account.id)
    found = None if held is None else held.keys.find(id, datetime.now(UTC))
    if held is None or found is None:
        raise refused(Code.NOT_FOUND)  # it was revoked since
    # Of two tries under one Idempotency-Key one has made it, and only that one knows it.
    secret = made.text if found.hash == hashed else None
    body = _encode({**_shown(parts, wrapped, account.id, held, found), "key": secret})
    return Reply(body, status=201, headers=writes.reply_headers(answer, **NO_STORE))


async def listing(request: web.Request) -> Reply:
    """`GET /api-keys`: the caller's keys that are good, the newest first."""
    parts = request.app[PARTS]
    account = sessions.account_of(request)
    held = await parts.stores.api_keys.get(account)
    wrapped = await parts.stores.accounts.key(account)
    return Reply(items=[_encode(one) for one in shown(parts, wrapped, account, held)], headers=NO_STORE)


async def revoke(request: web.Request) -> Reply:
    """`DELETE /api-keys/{id}`: ends one key of the caller."""
    key = object_id(request)
    answer = await writes.submit(
        request, noun="api_keys", command="revoke_api_key", data=_encode(RevokeApiKey(key)),
        key=headers.idempotency_key(request), aggregate_id=sessions.account_of(request),
    )  # fmt: skip
    request.app[PARTS].stores.revoked.add(key)  # in other processes a moment later
    return Reply(status=204, headers=writes.reply_headers(answer))


def shown(parts: Parts, wrapped: bytes | None, account: UUID, held: Used | None) -> list[dict[str, Any]]:
    """The keys that are good, the newest first, with names opened; nothing of the secrets."""
    if held is None:
        return []
    now = datetime.now(UTC)
    return [_shown(parts, wrapped, account, held, one) for one in reversed(held.keys.held) if one.is_good(now)]


def _shown(parts: Parts, wrapped: bytes | None, account: UUID, held: Used, one: ApiKey) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": sessions.opened(parts, wrapped, account, "api_key", one.name_sealed),
        "scopes": one.scopes,
        "created_at": one.created_at,
        "last_used_at": held.at.get(one.id),
        "expires_at": one.expires_at,
    }
