"""Erasures: what an erased account owned is deleted, public or not, and nothing is left of it.

account.erased → the resources that are its own → erase_resource for each, acknowledged → the position moves

What the account still had under way when it was erased comes to be after the reader has looked. So somebody looks
again now and then: `Sweeper`. Its sessions are ended by agents/revocations.py.
"""

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
from aiokafka.structs import ConsumerRecord

import topics
from domain.resources import EraseResource
from stores.belongings import CONTENTS, FIRST, Belongings, Place
from stores.dead_letters import DeadLetters
from stores.limits import Counts
from stores.redis import RedisAway
from streams.consequences import Cause, Commanding, Consequences, read_cause
from streams.groups import Connections, ReaderGroup
from streams.orders import Order

NAME = "erasures"
ERASED = "account.erased"
STEP = 500
"""Resources that are looked up, and commands that wait for their acknowledgement, at a time."""
RECENT = timedelta(days=1)
OTHERS = 1_000
BEGINNING: Place = (datetime.fromtimestamp(0, UTC), FIRST)

_ERASE = msgspec.json.encode(EraseResource())


class Erasures(Commanding):
    """Sends what follows for the resources."""

    name = "erasures"
    by = NAME

    def __init__(self, connections: Connections, group: str) -> None:
        super().__init__(connections, group)
        self._belongings = Belongings(connections.database)
        self._counts = Counts(connections.redis)

    def decode(self, record: ConsumerRecord) -> Cause | None:
        """See streams.work.Handler."""
        event = read_cause(record)
        return event if event.type == ERASED else None

    async def follow(self, messages: Sequence[Cause]) -> None:
        """See Follower.follow."""
        # Hashes of places; where they stay, as Redis is away, their time ends them.
        with contextlib.suppress(RedisAway):
            await self._counts.forget(event.subject for event in messages)
        for event in messages:
            after = FIRST
            while ids := await self._belongings.contents(event.subject, after, STEP):
                await self.consequences.send(_erasing(self.consequences, ids, event))
                after = ids[-1]


def _erasing(consequences: Consequences, ids: Sequence[UUID], of: Cause | str) -> list[Order]:
    return [consequences.order("resources", "erase_resource", id, _ERASE, of=of) for id in ids]


class Sweeper:
    """Looks now and then for what erasures have not reached. Any worker may."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._belongings = Belongings(connections.database)
        self._letters = DeadLetters(connections.database)
        prefix = connections.settings.topic_prefix
        self._commands = topics.COMMANDS_RESOURCES.full_name(prefix)
        self._events = topics.EVENTS_RESOURCES.full_name(prefix)
        self._after: Place = BEGINNING

    async def accounts(self) -> None:
        """Have erased what came to be in the name of erased accounts after they were. Raises StoresAway.

        Of those that were erased within a day, and of OTHERS more each time, in turn: a command may be carried out
        however late. What waits as dead letters is not to be carried out any more.
        """
        recent = (datetime.now(UTC) - RECENT, FIRST)
        while places := await self._belongings.erased(recent, STEP):
            await self._reach([id for _, id in places])
            recent = places[-1]
        others = await self._belongings.erased(self._after, OTHERS)
        await self._reach([id for _, id in others])
        self._after = others[-1] if len(others) == OTHERS else BEGINNING

    async def _reach(self, accounts: Sequence[UUID]) -> None:
        consequences = Consequences(self._connections, NAME)
        for owner, ids in (await self._belongings.left_behind(accounts, STEP)).items():
            await consequences.send(_erasing(consequences, ids, f"contents left behind by {owner}"))
        await self._letters.empty(self._commands, actors=accounts)

    async def resources(self) -> None:
        """Take the contents of erased resources out of dead letters and the journal. Raises StoresAway."""
        while ids := await self._belongings.to_empty():
            await self._belongings.empty(ids)
            # Right before they are noted, so that hardly anything can be parked in between.
            await self._letters.empty(self._commands, subjects=ids)
            await self._letters.empty_events(self._events, ids, CONTENTS)
            if not await self._belongings.emptied(ids):
                return


GROUP = ReaderGroup(NAME, (topics.EVENTS_ACCOUNTS,), Erasures, gather_s=0.0)
