"""Up to where each partition is published: what this process knows, and what it has told PostgreSQL."""

from uuid import UUID

from stores.progress import ProgressStore


class Published:
    """The published offsets of one group, by the topic id of the progress row and the partition; they only rise."""

    def __init__(self, group: str, store: ProgressStore) -> None:
        self._group = group
        self._store = store
        self._known: dict[tuple[UUID, int], int] = {}
        self._told: dict[tuple[UUID, int], int] = {}

    def known(self, topic_id: UUID, partition: int) -> int:
        """Everything below it was acknowledged; 0 if nothing is known."""
        return self._known.get((topic_id, partition), 0)

    def note(self, topic_id: UUID, partition: int, offset: int) -> None:
        """Everything below `offset` was acknowledged."""
        self._known[(topic_id, partition)] = max(self.known(topic_id, partition), offset)

    def take(self, topic_id: UUID, partition: int) -> int | None:
        """What a commit takes along; None if nothing is new."""
        offset = self._known.get((topic_id, partition))
        if offset is not None and offset > self._told.get((topic_id, partition), -1):
            self._told[(topic_id, partition)] = offset
            return offset
        return None

    async def tell(self) -> None:
        """Write what no commit took along. Raises StoresAway."""
        for (topic_id, partition), offset in list(self._known.items()):
            if offset > self._told.get((topic_id, partition), -1):
                await self.tell_of(topic_id, partition, offset)

    async def tell_of(self, topic_id: UUID, partition: int, offset: int) -> None:
        """Write one. Raises StoresAway."""
        await self._store.published(self._group, topic_id, partition, offset)
        self.note(topic_id, partition, offset)
        self._told[(topic_id, partition)] = max(self._told.get((topic_id, partition), -1), offset)
