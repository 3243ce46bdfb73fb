"""Erasures: what an erased account owned is deleted, public or not, and nothing is left of it.

account.erased → the resources that are its own → erase_resource for each, acknowledged → the position moves

What the account still had under way when it was erased comes to be after the reader has looked. So somebody looks
again now and then: `sweep`. Its sessions are ended by agents/revocations.py.
"""

import contextlib
from collections.abc import Sequence
from uuid import UUID

import msgspec
from aiokafka.structs import ConsumerRecord

import topics
from domain.resources import EraseResource
from stores.belongings import FIRST, Belongings
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


async def sweep(connections: Connections) -> None:
    """Empty journal and dead letters of what was erased, and have erased what came to be in an erased account's name.

    Raises StoresAway.
    """
    belongings = Belongings(connections.database)
    await belongings.empty()
    topic = topics.COMMANDS_RESOURCES.full_name(connections.settings.topic_prefix)
    await DeadLetters(connections.database).empty(topic)
    consequences = Consequences(connections, NAME)
    for owner, ids in (await belongings.left_behind(STEP)).items():
        await consequences.send(_erasing(consequences, ids, f"contents left behind by {owner}"))


GROUP = ReaderGroup(NAME, (topics.EVENTS_ACCOUNTS,), Erasures, gather_s=0.0)
