"""A batch: what one poll brought, of all partitions of a group, raw bytes; and what the transport asks of others."""

from collections.abc import Iterable, Mapping
from typing import Protocol

import aiokafka
from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord
from faust.types import ConsumerMessage


class Span:
    """The part of a partition that a batch covers: offsets from `begin` (included) to `end` (excluded).

    Not record offsets: they may jump over transaction markers and compacted records, positions do not.
    """

    __slots__ = ("begin", "end")

    def __init__(self, begin: int, end: int) -> None:
        self.begin = begin
        self.end = end

    def __repr__(self) -> str:
        return f"{self.begin}..{self.end}"


class Taking(Protocol):
    """Takes batches from the log and is told what became of each: a group's consumer, or a reader outside of any."""

    pace: "Pace"
    backing_off: str
    """What it waits for; empty while nothing is away."""
    progressed_at: float
    """When a batch was committed last, monotonic seconds."""

    @property
    def generation(self) -> int:
        """Another number with every assignment."""

    @property
    def letting_go(self) -> bool:
        """What it has in hand goes to somebody else."""

    def finish(self, batch: "Batch") -> None:
        """It is committed."""

    def rewind(self, batch: "Batch") -> None:
        """Read again from where the truth says."""


class Batch:
    """One poll: records and span of each partition. Raw bytes; a partition may have a span and no records."""

    __slots__ = ("consumer", "count", "generation", "message", "records", "spans")

    def __init__(self, consumer: Taking, generation: int) -> None:
        self.consumer = consumer
        self.generation = generation
        self.records: dict[TopicPartition, list[ConsumerRecord]] = {}
        self.spans: dict[TopicPartition, Span] = {}
        self.count = 0
        self.message: ConsumerMessage | None = None

    @property
    def live(self) -> bool:
        """False once the partitions may belong to somebody else: give up, don't retry."""
        return self.consumer.generation == self.generation and not self.consumer.letting_go

    def drop(self, partition: TopicPartition) -> None:
        """Forget a partition of this batch; it will be read again from where the truth says."""
        self.spans.pop(partition, None)
        self.count -= len(self.records.pop(partition, ()))


BUSY_S = 0.5
"""CPU that a batch may take, seconds. The loop stands still meanwhile, several times as long on a busy machine; who
says nothing for 10 s is taken for dead by its group, and PostgreSQL ends a transaction that rests for 5 s."""
LEAST = 5000


class Pace:
    """How many records a batch may have: as many as were quick of late, `most` at most, and LEAST in any case."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._least = min(LEAST, most)
        self.records = self._least

    def took(self, records: int, busy_s: float) -> None:
        """A batch of so many records has taken that much CPU. A quick one that is far from full says little."""
        if records * 2 >= self.records or busy_s > BUSY_S:
            fit = int(records * BUSY_S / busy_s) if busy_s else self._most
            self.records = max(self._least, min(self._most, fit, self.records * 2))


class Unparsable(Exception):
    """The records from here on can't be taken apart by Kafka's client: an operator has to say where to go on."""


class Positions(Protocol):
    """Where each partition of a group stands. The one implementation is streams.progress.Progress."""

    async def locate(
        self, kafka: aiokafka.AIOKafkaConsumer, partitions: Iterable[TopicPartition]
    ) -> Mapping[TopicPartition, int]:
        """The next offset of each partition; one left out is stopped. Raises StoresAway, KafkaError."""

    async def stop_partition(self, key: TopicPartition, reason: str) -> None:
        """Read the partition no more until an operator says so. Raises StoresAway."""

    def let_go(self) -> None:
        """The partitions may be somebody else's from now on."""

    async def outdated(self, kafka: aiokafka.AIOKafkaConsumer) -> list[TopicPartition]:
        """Partitions whose topic is not the one that was located, or that are stopped no longer.

        Raises StoresAway, KafkaError.
        """
