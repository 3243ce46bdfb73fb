"""Erasures: what an erased account owned is deleted, public or not, by the same commands as anybody's.

account.erased → the resources that are its own → delete_resource for each, acknowledged → the position moves

What the account still had under way when it was erased comes to be after the reader has looked. So somebody looks
again now and then, for a day: `sweep`.
"""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec
from aiokafka.structs import ConsumerRecord

import topics
from domain.resources import DeleteResource
from stores.belongings import FIRST, Belongings
from stores.dead_letters import Parked
from stores.progress import Move
from streams.consequences import Consequences
from streams.envelope import Foreign, Unreadable, read_foreign
from streams.groups import Connections, ReaderGroup
from streams.progress import Owned
from streams.readers import Reader
from streams.work import Part, Work

NAME = "erasures"
ERASED = "account.erased"
STEP = 500
"""Resources that are looked up, and commands that wait for their acknowledgement, at a time."""

_DELETE = msgspec.json.encode(DeleteResource())


class Erasures(Reader):
    """Follows `account.erased`; its own tables have nothing of it, so all it writes are commands and its position."""

    name = "erasures"

    def __init__(self, connections: Connections, group: str) -> None:
        super().__init__(connections.database, group)
        self._belongings = Belongings(connections.database)
        self._consequences = Consequences(connections.settings, connections.broker, NAME)

    def decode(self, record: ConsumerRecord) -> Foreign:
        """See streams.work.Handler."""
        event = read_foreign(record)
        if event.type == ERASED:
            _account(event)
        return event

    async def commit(self, work: Work, moves: list[Move]) -> Any:
        """See streams.work.Handler. What is asked of Kafka is done before the transaction begins."""
        await self._delete(message for part in work.parts for message in part.messages)
        return await super().commit(work, moves)

    async def replay(self, letter: Parked, owned: Owned, message: Foreign) -> None:
        """See Reader.replay."""
        await self._delete([message])
        await super().replay(letter, owned, message)

    async def handle(self, connection: Any, parts: Sequence[Part]) -> None:
        """Nothing but the position: the commands were acknowledged before."""

    async def _delete(self, events: Iterable[Foreign]) -> None:
        for event in events:
            if event.type == ERASED:
                await self._delete_of(_account(event), event.id)

    async def _delete_of(self, owner: UUID, event: str) -> None:
        after = FIRST
        while ids := await self._belongings.living(owner, after, STEP):
            await self._consequences.send("resources", "delete_resource", _DELETE, event, ids)
            after = ids[-1]


def _account(event: Foreign) -> UUID:
    try:
        return UUID(event.subject or "")
    except ValueError:
        raise Unreadable("wrong_shape", "the subject of an event of accounts is the account's id") from None


async def sweep(connections: Connections) -> None:
    """Have deleted what came to be in the name of an account after it was erased. Raises StoresAway."""
    consequences = Consequences(connections.settings, connections.broker, NAME)
    for owner, ids in (await Belongings(connections.database).left_behind(STEP)).items():
        await consequences.send("resources", "delete_resource", _DELETE, f"left behind by {owner}", ids)


GROUP = ReaderGroup(NAME, (topics.EVENTS_ACCOUNTS,), Erasures, gather_s=0.0)
