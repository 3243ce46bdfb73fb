"""Who may do how much: the limits of the settings, by kind of endpoint, for addresses, users and logins."""

import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from enum import StrEnum
from time import time
from uuid import UUID

from aiohttp import web

from config import Settings
from domain.access import Actor
from domain.refusals import Code, Refusal
from security.fields import NOBODY
from security.signatures import sign
from security.tokens import TokenRefused
from stores.redis import RedisAway
from telemetry import metrics
from web.clients import Clients, counted, shortened
from web.limits import Meter, SharedCounts, Sharing, Spent
from web.refused import Refused

log = logging.getLogger("yeoul.web.quotas")

Rate = tuple[str, str]
RATE: web.RequestKey[Rate] = web.RequestKey("rate", tuple)
"""What `RateLimit-Policy` and `RateLimit` say of this request; not there where nothing is limited."""


GUESSED_WRONG = frozenset({Code.INVALID_CREDENTIALS, Code.WRONG_PASSWORD, Code.WRONG_CODE})
"""How a check says that the secret was not the right one."""


class Kind(StrEnum):
    """What an endpoint costs us, and so which limits count it."""

    READ = "read"
    SEARCH = "search"
    WRITE = "write"
    AUTH = "auth"


class Quotas:
    """The limits of this process, and what the others count."""

    def __init__(self, settings: Settings, shared: SharedCounts, clients: Clients) -> None:
        self._clients = clients
        self._shared = shared
        self._key = settings.index_key
        self._sharing = Sharing(shared)
        self._addresses = {kind: self._meter(settings, f"{kind}_address") for kind in Kind}
        self._users = {kind: self._meter(settings, f"{kind}_user") for kind in Kind}
        self._both = {
            kind: ", ".join(meter.policy for meter in (self._addresses[kind], self._users[kind]) if meter is not None)
            for kind in Kind
        }
        self._login_address = self._meter(settings, "login_address")
        self._login_account = self._meter(settings, "login_account")
        self._api_key_address = self._meter(settings, "api_key_address")

    def _meter(self, settings: Settings, name: str) -> Meter | None:
        limit = getattr(settings, f"limit_{name}", None)
        return None if limit is None or not limit.quota else Meter(name.replace("_", "-"), limit, self._sharing)

    async def close(self) -> None:
        """Tells the other processes what is left to tell."""
        await self._sharing.close()

    def address(self, kind: Kind, request: web.BaseRequest, now: float) -> Rate | None:
        """Counts a request of this address; what it is told of it. Raises Refused."""
        meter = self._addresses[kind]
        if meter is None:
            return None
        try:
            left = meter.take(self._who(request), now)
        except Spent as spent:
            raise self._refused(request, spent) from None
        return meter.policy, meter.shown(left, now)

    def user(self, kind: Kind, request: web.BaseRequest, actor: Actor, now: float, told: Rate | None) -> Rate | None:
        """Counts it for its user as well; what is told then, after `told` of its address. Raises Refused."""
        meter = self._users[kind]
        if meter is None or actor.id is None:
            return told
        try:
            left = meter.take(actor.id.int, now)
        except Spent as spent:
            raise self._refused(request, spent) from None
        if told is None:
            return meter.policy, meter.shown(left, now)
        return self._both[kind], f"{told[1]}, {meter.shown(left, now)}"

    def more(self, kind: Kind, request: web.Request, actor: Actor, deeds: int) -> None:
        """Counts a request, counted once already, as so many deeds, or as all that a smaller limit allows at once.

        What its answer tells is what is left then. Raises Refused, and then nothing of it was counted.
        """
        now = time()
        limits: list[tuple[Meter, str | int]] = []
        if (meter := self._addresses[kind]) is not None:
            limits.append((meter, self._who(request)))
        if (meter := self._users[kind]) is not None and actor.id is not None:
            limits.append((meter, actor.id.int))
        policies, shown = [], []
        for number, (meter, who) in enumerate(limits):
            try:
                left = meter.take(who, now, min(deeds, meter.quota) - 1)
            except Spent as spent:
                for place, (counted_by, of) in enumerate(limits):
                    counted_by.give_back(of, now, min(deeds, counted_by.quota) if place < number else 1)
                raise self._refused(request, spent) from None
            policies.append(meter.policy)
            shown.append(meter.shown(left, now))
        if limits:
            request[RATE] = (", ".join(policies), ", ".join(shown))

    def _who(self, request: web.BaseRequest) -> str:
        """The address that is counted. A connection knows it since it began, unless it is a proxy's."""
        return getattr(request.protocol, "address", "") or counted(self._clients.address(request))

    async def exactly(self, kind: Kind, request: web.BaseRequest, now: float) -> Rate | None:
        """As `address`, and no process counts alone. Raises Refused."""
        meter = self._addresses[kind]
        if meter is None:
            return None
        try:
            left = await meter.exactly(counted(self._clients.address(request)), now)
        except Spent as spent:
            raise self._refused(request, spent) from None
        return meter.policy, meter.shown(left, now)

    @staticmethod
    def headers(rate: Rate) -> tuple[tuple[str, str], tuple[str, str]]:
        """What is told, as headers."""
        return ("RateLimit-Policy", rate[0]), ("RateLimit", rate[1])

    @contextlib.asynccontextmanager
    async def attempt(self, request: web.BaseRequest, index: str, account: UUID | None) -> AsyncIterator[None]:
        """Around the check of a secret that could be guessed: a wrong one counts as failed, anything else does not.

        `index` is that of the account's address, whether there is such an `account` or not. It is bounded from wherever
        the account has not logged in before, and by itself from each place where it has: who guesses from elsewhere,
        however long, does not keep the owner out. Raises Refused before anything is checked.
        """
        now = time()
        who = counted(self._clients.address(request))
        # By the account, for its address may be another's next; and hashed, for nobody need read where it comes from.
        whose = account or NOBODY  # also where there is no account: how long it takes tells nothing
        place = sign(self._key, b"place", whose.bytes, who.encode())
        familiar = await self._shared.is_familiar(whose, place)
        taken: list[tuple[Meter, str]] = []
        try:
            for meter, of in (
                (self._login_address, who),
                (self._login_account, f"{index}:{who}" if familiar else index),
            ):
                if meter is not None:
                    await meter.exactly(of, now)
                    taken.append((meter, of))
            yield
        except Spent as spent:
            _give_back(taken)
            raise self._refused(request, spent) from None
        except Refused as no:
            if no.refusal.code not in GUESSED_WRONG:
                _give_back(taken)
            raise
        except BaseException:
            _give_back(taken)
            raise
        _give_back(taken)
        if account is not None:
            with contextlib.suppress(RedisAway):
                await self._shared.make_familiar(account, place)

    @contextlib.contextmanager
    def presenting(self, request: web.BaseRequest) -> Iterator[None]:
        """Around the look-up of an API key: one that is good for nothing counts, anything else does not.

        Raises Refused before anything is looked up.
        """
        meter, who, now = self._api_key_address, self._who(request), time()
        if meter is None:
            yield
            return
        try:
            meter.take(who, now)
        except Spent as spent:
            raise self._refused(request, spent) from None
        try:
            yield
        except TokenRefused:
            raise
        except BaseException:
            meter.give_back(who, time())
            raise
        meter.give_back(who, time())

    def _refused(self, request: web.BaseRequest, spent: Spent) -> Refused:
        meter = spent.meter
        metrics.LIMITED.labels(meter.name).inc()
        if spent.first:
            # Whose it is stands in no log; from where it comes, as far as an operator needs it to act.
            network = shortened(self._clients.address(request))
            log.warning(
                "the limit %s (%s in %s s) is used up by somebody in %s", meter.name, meter.quota, meter.window, network
            )
        request[RATE] = (meter.policy, f'"{meter.name}";r=0;t={spent.wait}')
        return Refused(Refusal(Code.TOO_MANY_REQUESTS), {"Retry-After": str(spent.wait)})


def _give_back(taken: list[tuple[Meter, str]]) -> None:
    for meter, of in taken:
        meter.give_back(of, time())
