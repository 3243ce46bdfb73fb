"""Everything that is stored of somebody, as one JSON document: `GET /users/me/export`.

    {"exported_at", "account": {…}, "account_history": [{"type", "time", "version"}],
     "api_keys": [{…}], "api_key_history": [{"type", "time", "version", "api_key", …}],
     "second_factor": {…}, "second_factor_history": [{"type", "time", "version"}],
     "sessions": [{…}], "session_history": [{"type", "time", "version", "session", …}],
     "mails": [{"kind", "sent_at"}], "resources": [{…, "deleted_at", "history": [event]}]}

It is written as it is read, a few rows at a time, and never held as a whole: it may be as long as somebody has written.
No connection to PostgreSQL is held while a slow reader reads.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
from aiohttp import hdrs, web

from domain import resources
from domain.accounts import Account
from domain.refusals import Code
from domain.resources import Resource
from stores.belongings import FIRST, Told
from web import account_views, api_keys, second_factors, sessions, users
from web.parts import PARTS, Parts
from web.refused import refused
from web.streaming import abort, begun

log = logging.getLogger("yeoul.web.export")

AT_ONCE = 4
"""Exports that one process writes at the same time; whoever comes then is told to come again."""
AGAIN_S = 5
STEP = 20
"""Resources that are read at a time. None is longer than the body of a request (YEOUL_BODY_LIMIT)."""
PIECE = 64 * 1024
STALL_S = 20.0
"""A reader that takes nothing for this long is cut."""


class Room:
    """How many exports run in this process."""

    def __init__(self) -> None:
        self.left = AT_ONCE

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """A place among AT_ONCE. Raises Refused when there is none."""
        if not self.left:
            raise refused(Code.TOO_BUSY, Retry_After=str(AGAIN_S))
        self.left -= 1
        try:
            yield
        finally:
            self.left += 1


ROOM: web.AppKey[Room] = web.AppKey("exports", Room)


class _Data(msgspec.Struct, frozen=True):
    session: UUID | None = None
    device_sealed: str | None = None
    address_sealed: str | None = None
    reason: str | None = None


class _KeyData(msgspec.Struct, frozen=True):
    key: UUID | None = None
    name_sealed: str | None = None
    scopes: tuple[str, ...] | None = None
    expires_at: datetime | None = None
    reason: str | None = None


class _Seen(msgspec.Struct, frozen=True):
    type: str
    time: datetime
    data: _Data


class _SeenOfKey(msgspec.Struct, frozen=True):
    type: str
    time: datetime
    data: _KeyData


_seen = msgspec.json.Decoder(_Seen).decode
_seen_of_key = msgspec.json.Decoder(_SeenOfKey).decode
_encode = msgspec.json.Encoder().encode


async def export(request: web.Request) -> web.StreamResponse:
    """`GET /users/me/export`: the document, or a connection that breaks where it could not be read on."""
    parts = request.app[PARTS]
    account = await users.own(request)
    wrapped = await users.key_of(parts, account.id)
    about = account_views.opened(parts, account, wrapped)
    response = begun(request, {"Content-Disposition": 'attachment; filename="export.json"'})
    if request.method == hdrs.METH_HEAD:
        return response
    with request.app[ROOM].taken():
        await response.prepare(request)
        try:
            # Whose session ends meanwhile, because somebody else had it, gets no more of it.
            with parts.stores.revoked.watch(sessions.current(request), lambda: abort(request)):
                await _write(response, _document(parts, account, wrapped, about))
        except Exception as error:
            # What was sent can't be taken back. Nobody may take it for the whole: the body ends without its end.
            if not isinstance(error, ConnectionError):
                log.warning("an export was cut: %s", str(error) or type(error).__name__)
            abort(request)
    return response


async def _write(response: web.StreamResponse, pieces: AsyncIterator[bytes]) -> None:
    """Raises TimeoutError if the reader takes nothing for STALL_S; StoresAway."""
    gathered: list[bytes] = []
    size = 0
    async for piece in pieces:
        gathered.append(piece)
        size += len(piece)
        if size >= PIECE:
            await _send(response, b"".join(gathered))
            gathered, size = [], 0
    await _send(response, b"".join(gathered))
    await response.write_eof()


async def _send(response: web.StreamResponse, data: bytes) -> None:
    view = memoryview(data)
    for at in range(0, len(view), PIECE):
        async with asyncio.timeout(STALL_S):
            await response.write(view[at : at + PIECE])


async def _document(parts: Parts, account: Account, wrapped: bytes, about: bytes) -> AsyncIterator[bytes]:
    yield b'{"exported_at":%b,"account":%b,"account_history":[' % (_encode(datetime.now(UTC)), about)
    async for piece in _history(parts, "accounts", account.id, _in_short):
        yield piece
    keys = api_keys.shown(parts, wrapped, account.id, await parts.stores.api_keys.get(account.id))
    yield b'],"api_keys":%b,"api_key_history":[' % _encode(keys)
    async for piece in _history(parts, "api_keys", account.id, partial(_of_key, parts, account.id, wrapped)):
        yield piece
    factor = second_factors.shown(await parts.stores.second_factors.get(account.id))
    yield b'],"second_factor":%b,"second_factor_history":[' % _encode(factor)
    async for piece in _history(parts, "second_factors", account.id, _in_short):
        yield piece
    held = sessions.shown(parts, wrapped, await parts.stores.sessions.get(account.id))
    yield b'],"sessions":%b,"session_history":[' % _encode(held)
    async for piece in _history(parts, "sessions", account.id, partial(_of_session, parts, account.id, wrapped)):
        yield piece
    yield b'],"mails":%b,"resources":[' % _encode(await parts.stores.mails.of(account.id))
    after, comma = FIRST, b""
    while page := await parts.stores.belongings.resources(account.id, after, STEP):
        for resource in page:
            yield comma + _opening(resource)
            async for piece in _history(parts, "resources", resource.id, _whole):
                yield piece
            yield b"]}"
            comma = b","
        after = page[-1].id
    yield b"]}"


def _opening(resource: Resource) -> bytes:
    return resources.document(resource)[:-1] + b',"deleted_at":%b,"history":[' % _encode(resource.deleted_at)


async def _history(parts: Parts, noun: str, aggregate: UUID, shown: Callable[[Told], bytes]) -> AsyncIterator[bytes]:
    after, comma = 0, b""
    while events := await parts.stores.belongings.history(noun, aggregate, after):
        for told in events:
            yield comma + shown(told)
            comma = b","
        after = events[-1].version


def _whole(told: Told) -> bytes:
    return told.event


def _in_short(told: Told) -> bytes:
    """What happened and when; what was sealed in it stands opened above, as it is now, unless it is a secret."""
    seen = _seen(told.event)
    return _encode({"type": seen.type, "time": seen.time, "version": told.version})


def _of_session(parts: Parts, account: UUID, wrapped: bytes, told: Told) -> bytes:
    """What happened to a session, from which device and address."""
    seen = _seen(told.event)
    data = seen.data
    about: dict[str, Any] = {"session": data.session, "reason": data.reason}
    for field, sealed in (("device", data.device_sealed), ("address", data.address_sealed)):
        about[field] = None if sealed is None else sessions.opened(parts, wrapped, account, field, sealed)
    return _happened(seen, told, about)


def _of_key(parts: Parts, account: UUID, wrapped: bytes, told: Told) -> bytes:
    """What happened to an API key."""
    seen = _seen_of_key(told.event)
    data = seen.data
    name = None if data.name_sealed is None else sessions.opened(parts, wrapped, account, "api_key", data.name_sealed)
    about = {"api_key": data.key, "name": name, "scopes": data.scopes, "expires_at": data.expires_at}
    return _happened(seen, told, about | {"reason": data.reason})


def _happened(seen: _Seen | _SeenOfKey, told: Told, about: dict[str, Any]) -> bytes:
    return _encode(
        {"type": seen.type, "time": seen.time, "version": told.version}
        | {name: value for name, value in about.items() if value is not None}
    )
