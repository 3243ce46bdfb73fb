"""API keys as they are presented: looked up once, then remembered, so that a hot one asks no database.

What is remembered is good for TRUSTED_S, as an access token is, unless its end is heard of before (`revoked`). At a use
after FRESH_S it is looked up anew, beside the request; then it is also written down that it was used.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from aiohttp import web

from domain.access import SCOPES, Actor, Role, Scope
from domain.refusals import Code
from security.api_keys import ApiKey
from security.refresh import same
from security.tokens import TokenRefused, Verified
from stores import StoresAway
from stores.api_keys import Usable
from web.quotas import Quotas

FRESH_S = 60.0
TRUSTED_S = 900.0
"""How long a key that can't be looked up any more goes on being good, seconds; ended ones are told of for longer."""
AGAIN_S = 5.0
"""After how long one that is remembered, and could not be looked up anew, is tried again, seconds."""
REMEMBERED = 10_000


class Store(Protocol):
    """Keys as verifying needs them."""

    async def usable(self, account: UUID) -> Usable | None:
        """The keys by which something may be done now; None of an account that is not active. Raises StoresAway."""

    async def note_use(self, account: UUID, key: UUID, at: datetime) -> bool:
        """Writes down that a key was used, unless that was done a moment ago. Raises StoresAway."""


class Ended(Protocol):
    """Keys that have ended; asks nobody."""

    def __contains__(self, key: UUID | None) -> bool: ...


class Known(NamedTuple):
    """A key that was found to be good at `checked` (Unix seconds)."""

    account: UUID
    hash: str
    verified: Verified
    checked: float


class Keyring:
    """The keys that this process knows. They are known by the SHA-256 of what was presented, never as themselves."""

    def __init__(self, store: Store, ended: Ended, quotas: Quotas, environment: str) -> None:
        self._store = store
        self._ended = ended
        self._quotas = quotas
        self._environment = environment
        self._known: dict[bytes, Known] = {}
        self._looking: dict[bytes, asyncio.Task[Verified]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def known(self, text: str, now: float) -> Verified | None:
        """Whom a key speaks for, if that is remembered."""
        digest = _digest(text)
        found = self._known.get(digest)
        if found is None:
            return None
        if found.verified.expires <= now or found.verified.session in self._ended:
            del self._known[digest]
            return None
        if not 0 <= now - found.checked < FRESH_S and digest not in self._looking:
            self._known[digest] = found._replace(checked=now - FRESH_S + AGAIN_S)
            self._look(digest, found.account, found.hash)
        return found.verified

    async def find(self, request: web.Request, text: str) -> Verified:
        """Whom a key speaks for that is not remembered. Raises TokenRefused, Refused, StoresAway."""
        digest = _digest(text)
        looking = self._looking.get(digest)
        if looking is not None:  # many come at once with one key: one looks
            return await asyncio.shield(looking)
        with self._quotas.presenting(request):
            presented = ApiKey.read(text)
            if presented is None:
                raise TokenRefused(Code.API_KEY_INVALID)
            return await asyncio.shield(self._look(digest, presented.account, presented.hash(self._environment)))

    async def close(self) -> None:
        """Ends what goes on beside requests."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _look(self, digest: bytes, account: UUID, hashed: str) -> "asyncio.Task[Verified]":
        task = self._looking[digest] = self._beside(self._check(digest, account, hashed))
        task.add_done_callback(lambda _: self._looking.pop(digest, None))
        return task

    def _beside(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits for it is told; maybe nobody does

    async def _check(self, digest: bytes, account: UUID, hashed: str) -> Verified:
        found = await self._store.usable(account)
        now = time.time()
        verified = None if found is None else _verified(found, account, hashed, now)
        if verified is None or verified.session is None or verified.session in self._ended:
            self._known.pop(digest, None)
            raise TokenRefused(Code.API_KEY_INVALID)
        self._known.pop(digest, None)
        if len(self._known) >= REMEMBERED:
            del self._known[next(iter(self._known))]  # the one that was looked up longest ago
        self._known[digest] = Known(account, hashed, verified, now)
        self._beside(self._note(account, verified.session, now))
        return verified

    async def _note(self, account: UUID, key: UUID, now: float) -> None:
        with contextlib.suppress(StoresAway):  # it is used again, or was not used since
            await self._store.note_use(account, key, datetime.fromtimestamp(now, UTC))


def _verified(found: Usable, account: UUID, hashed: str, now: float) -> Verified | None:
    """Whom the key speaks for, if it is one of the account's that is good; None else."""
    key = next((one for one in found.keys.held if same(one.hash, hashed)), None)
    if key is None or not key.is_good(datetime.fromtimestamp(now, UTC)):
        return None
    # The account's role may be less than it was: then its keys end in a moment, and may do no more until then.
    scopes = tuple(scope for scope in key.scopes if scope in SCOPES[found.role])
    role = Role.ADMIN if Scope.ADMIN in scopes else Role.USER
    expires = now + TRUSTED_S
    if key.expires_at is not None:
        expires = min(expires, key.expires_at.timestamp())
    payload = {"sub": str(account), "role": role.value, "scopes": scopes, "exp": expires, "key": key.id}
    return Verified(Actor(account, role), payload, expires, key.id)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
