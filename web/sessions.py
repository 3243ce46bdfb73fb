"""Sessions over HTTP: begun by a login, continued by refresh tokens, listed and ended by whose they are."""

import time
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any
from uuid import UUID

import msgspec
import orjson
from aiohttp import hdrs, web

from domain import sessions
from domain.access import Actor, Role
from domain.accounts import Account, AccountStatus
from domain.refusals import Code, Refusal
from domain.sessions import Reason, RefreshSession, RevokeSession, RevokeSessions, Sessions, StartSession
from security.fields import SealBroken
from security.refresh import RefreshToken, same
from security.tokens import LIFETIME_S
from streams import identity
from streams.publish import Answer
from web import headers, writes
from web.parts import ACTOR, CLIENTS, PARTS, PAYLOAD, Parts
from web.paths import object_id
from web.presenters import Reply
from web.refused import Refused, refused
from web.validation import Schema
from web.writes import Origin

LONGEST_BODY = 8_192
"""Bytes of a refresh, which asks for no token in the header."""
LONGEST_DEVICE = 200
NO_STORE = {"Cache-Control": "no-store"}
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="yeoul", error="invalid_token"'}
UNNAMED = "unknown device"


class Refresh(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /auth/refresh`."""

    refresh_token: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]


REFRESH = Schema(Refresh)
_document = msgspec.json.Decoder(sessions.Document).decode


class Caller(msgspec.Struct, frozen=True):
    """From where a session is used, and with which request. `wait`: seconds for the answer of a command."""

    device: str
    address: str
    wait: float
    origin: Origin


def caller_of(request: web.Request) -> Caller:
    """The caller of this request. Of what it calls itself, only what can be shown is kept."""
    named = "".join(sign if sign.isprintable() else " " for sign in request.headers.get(hdrs.USER_AGENT, ""))
    return Caller(
        " ".join(named.split())[:LONGEST_DEVICE] or UNNAMED,
        request.app[CLIENTS].address(request)[:64],
        writes.patience(request),
        writes.origin_of(request),
    )


async def begin(parts: Parts, caller: Caller, account: UUID, role: Role, version: int) -> dict[str, str | int]:
    """A new session for whoever has proved to be this account (of this version): its tokens, as members of an answer.

    Raises Refused, StoresAway, BrokerAway.
    """
    wrapped = await parts.stores.accounts.key(account)
    if wrapped is None:
        raise over()
    environment = parts.settings.environment
    first = RefreshToken.first(account, identity.uuid7())
    command = StartSession(
        first.session,
        first.family_hash(environment),
        first.hash(environment),
        parts.sealer.seal(wrapped, account, "device", caller.device),
        parts.sealer.seal(wrapped, account, "address", caller.address),
        version,
    )
    order = writes.order_of(
        caller.origin, "sessions", "start_session", account, Actor(account, role), msgspec.json.encode(command)
    )
    writes.finished(await parts.commands.submit(order, wait=caller.wait))
    return _granted(parts, first, role)


async def refresh(request: web.Request) -> Reply:
    """`POST /auth/refresh`: new tokens for a refresh token, which is used up; 401 for any that is not the latest."""
    parts = request.app[PARTS]
    key = headers.idempotency_key(request)
    text = (await writes.read_body(request, REFRESH, LONGEST_BODY)).value.refresh_token
    presented = RefreshToken.read(text)
    if presented is None:
        raise over()
    account, wrapped = await _held(parts, presented)
    caller, environment = caller_of(request), parts.settings.environment
    following = presented.next(parts.settings.command_key, key)
    used = presented.hash(environment)
    command = RefreshSession(
        presented.session,
        presented.family_hash(environment),
        used,
        following.hash(environment),
        parts.sealer.seal(wrapped, account.id, "address", caller.address),
    )
    # A key counts for the token that it comes with: another session's may be called the same.
    operation = (
        identity.new_operation()
        if key is None
        else identity.operation_id(account.id, request.method, request.path, f"{used} {key}")
    )
    order = writes.order_of(
        caller.origin, "sessions", "refresh_session", account.id, Actor(account.id, account.role),
        msgspec.json.encode(command), operation=operation, keyed=key is not None,
        fingerprint=sha256(f"refresh_session\n{used}".encode()).hexdigest(),
    )  # fmt: skip
    told = await parts.commands.submit(order, wait=caller.wait)
    if isinstance(told, Answer) and told.refusal is not None and told.refusal.code is Code.SESSION_ENDED:
        raise over()
    answer = writes.finished(told)
    # The command that finds a token used for the second time succeeds: it ends the session.
    if presented.session not in _document(answer.document).sessions:
        _ended(parts, presented.session)
        raise over()
    if answer.replayed and not await _is_latest(parts, following):
        raise over()
    granted = _granted(parts, following, account.role)
    return Reply(orjson.dumps(granted), headers=writes.reply_headers(answer, **NO_STORE))


async def logout(request: web.Request) -> Reply:
    """`POST /auth/logout`: ends the session of the access token."""
    session = current(request)
    if session is None:
        raise refused(Code.NOT_FOUND)
    return await _revoke(request, session, Reason.LOGOUT)


async def logout_all(request: web.Request) -> Reply:
    """`POST /auth/logout-all`: ends every session of the caller, this one too."""
    data = msgspec.json.encode(RevokeSessions(Reason.LOGOUT_ALL))
    answer = await writes.submit(
        request, noun="sessions", command="revoke_sessions", data=data, key=headers.idempotency_key(request),
        aggregate_id=account_of(request),
    )  # fmt: skip
    session = current(request)
    if session is not None:
        _ended(request.app[PARTS], session)
    return Reply(status=204, headers=writes.reply_headers(answer))


async def revoke(request: web.Request) -> Reply:
    """`DELETE /sessions/{id}`: ends one session of the caller."""
    return await _revoke(request, object_id(request), Reason.REVOKED)


async def listing(request: web.Request) -> Reply:
    """`GET /sessions`: the caller's sessions that go on, the one that was used last first."""
    parts, account = request.app[PARTS], account_of(request)
    found = await parts.stores.sessions.get(account)
    wrapped = await parts.stores.accounts.key(account)
    mine = current(request)
    items = [msgspec.json.encode({**one, "current": one["id"] == mine}) for one in shown(parts, wrapped, found)]
    return Reply(items=items, headers=NO_STORE)


def shown(parts: Parts, wrapped: bytes | None, found: Sessions | None) -> list[dict[str, Any]]:
    """The sessions that go on, the one that was used last first, with device and address opened."""
    if found is None:
        return []
    now = datetime.now(UTC)
    return [
        {
            "id": one.id,
            "device": opened(parts, wrapped, found.id, "device", one.device_sealed),
            "address": opened(parts, wrapped, found.id, "address", one.address_sealed),
            "created_at": one.started_at,
            "last_seen_at": one.refreshed_at,
            "expires_at": one.expires_at,
        }
        for one in sorted(found.held, key=lambda one: one.refreshed_at, reverse=True)
        if one.expires_at > now
    ]


def opened(parts: Parts, wrapped: bytes | None, account: UUID, field: str, sealed: str) -> str | None:
    """A field of a session; None where the account's key is gone, or another one since."""
    try:
        return None if wrapped is None else parts.sealer.open(wrapped, account, field, sealed)
    except SealBroken:
        return None  # what it belongs to can still be seen, and ended


def current(request: web.Request) -> UUID | None:
    """The session of the caller's access token; None for a token of an older version."""
    named = request[PAYLOAD].get("sid")
    return None if named is None else UUID(named)


def ends_with(request: web.Request) -> UUID | None:
    """Whose end ends what the caller may do: its session, or its API key."""
    key: UUID | None = request[PAYLOAD].get("key")
    return current(request) if key is None else key


def over() -> Refused:
    """The refusal of tokens that are good for nothing any more, whyever."""
    return Refused(Refusal(Code.SESSION_ENDED), CHALLENGE)


async def _held(parts: Parts, presented: RefreshToken) -> tuple[Account, bytes]:
    """Whose token it is, and the account's wrapped key. Raises Refused, StoresAway.

    Asked before any command is sent: who has nothing of a session is to cause no work in Kafka.
    """
    found = await parts.stores.sessions.get(presented.account)
    session = None if found is None else found.find(presented.session, datetime.now(UTC))
    if session is None or not same(session.family, presented.family_hash(parts.settings.environment)):
        raise over()
    account = await parts.stores.accounts.get(presented.account)
    wrapped = await parts.stores.accounts.key(presented.account)
    if account is None or wrapped is None or account.status != AccountStatus.ACTIVE:
        raise over()
    return account, wrapped


async def _is_latest(parts: Parts, token: RefreshToken) -> bool:
    """True if this token was given and not used yet: only then may the answer that gave it be told again."""
    found = await parts.stores.sessions.get(token.account)
    session = None if found is None else found.find(token.session, datetime.now(UTC))
    return session is not None and same(session.current, token.hash(parts.settings.environment))


async def _revoke(request: web.Request, session: UUID, reason: Reason) -> Reply:
    data = msgspec.json.encode(RevokeSession(session, reason))
    answer = await writes.submit(
        request, noun="sessions", command="revoke_session", data=data, key=headers.idempotency_key(request),
        aggregate_id=account_of(request),
    )  # fmt: skip
    _ended(request.app[PARTS], session)
    return Reply(status=204, headers=writes.reply_headers(answer))


def _ended(parts: Parts, session: UUID) -> None:
    """Known here at once; in other processes a moment later."""
    parts.stores.revoked.add(session)


def account_of(request: web.Request) -> UUID:
    """Whose session or key it is that asks. Raises Refused for nobody's."""
    account = request[ACTOR].id
    if account is None:
        raise refused(Code.TOKEN_MISSING)
    return account


def _granted(parts: Parts, token: RefreshToken, role: Role) -> dict[str, str | int]:
    return {
        "access_token": parts.tokens.issue(token.account, role, time.time(), token.session),
        "token_type": "Bearer",
        "expires_in": LIFETIME_S,
        "refresh_token": token.text,
        "refresh_expires_in": int(sessions.LIFETIME.total_seconds()),
    }
