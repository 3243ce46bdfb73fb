"""What was decided and waits to be published: by partition, bounded by count and by bytes."""

import asyncio
from collections.abc import Collection
from uuid import UUID

import msgspec

MOST_EVENTS = 20_000
MOST_BYTES = 64 << 20
"""Events, and bytes of them, that may wait to be published before the handler waits too."""


class Tenure:
    """The time in which this process publishes a partition. `topic_id`: as its progress row has it.

    `behind`: the journal has events that are not published yet, and what is decided meanwhile stands there too.
    """

    __slots__ = ("behind", "topic_id")

    def __init__(self, topic_id: UUID) -> None:
        self.topic_id = topic_id
        self.behind = True


class Publication(msgspec.Struct, frozen=True):
    """What a batch has to tell of one partition; afterwards everything below `end` is published."""

    partition: int
    tenure: Tenure | None
    """In which the batch was decided."""
    end: int
    records: list[tuple[bytes, bytes]]


class _Waiting:
    """What one partition has waiting, in order."""

    __slots__ = ("bytes", "events", "publications")

    def __init__(self) -> None:
        self.publications: list[Publication] = []
        self.events = 0
        self.bytes = 0


class Backlog:
    """The publications that wait, in order within each partition."""

    def __init__(self) -> None:
        self._waiting: dict[int, _Waiting] = {}
        self._room = asyncio.Event()
        self._room.set()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __contains__(self, partition: int) -> bool:
        return partition in self._waiting

    async def room(self) -> None:
        """Returns when little enough waits."""
        await self._room.wait()

    def put(self, publication: Publication) -> None:
        """Queue it behind the others of its partition."""
        waiting = self._waiting.setdefault(publication.partition, _Waiting())
        waiting.publications.append(publication)
        waiting.events += len(publication.records)
        waiting.bytes += sum([len(value) for _key, value in publication.records])
        self._measure()

    def take(self, busy: Collection[int]) -> dict[int, list[Publication]]:
        """Everything that waits, but for the partitions that are busy."""
        ready = [partition for partition in self._waiting if partition not in busy]
        taken = {partition: self._waiting.pop(partition).publications for partition in ready}
        self._measure()
        return taken

    def drop(self, partition: int | None = None) -> None:
        """Forget what waits for a partition (for all by default): the journal has it."""
        if partition is None:
            self._waiting.clear()
        else:
            self._waiting.pop(partition, None)
        self._measure()

    def _measure(self) -> None:
        events = sum([waiting.events for waiting in self._waiting.values()])
        size = sum([waiting.bytes for waiting in self._waiting.values()])
        if events > MOST_EVENTS or size > MOST_BYTES:
            self._room.clear()
        else:
            self._room.set()
