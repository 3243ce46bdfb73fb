"""A reader's group at work in this process: what it reads, what its handler is told to refuse, and what came of it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, Self

import msgspec
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.record.util import calc_crc32c_py
from aiokafka.structs import ConsumerRecord
from prometheus_client import REGISTRY

from config import Settings
from stores.dead_letters import Parked
from stores.postgres import Database
from stores.progress import Standing
from streams.envelope import Foreign, read_foreign, sequence
from streams.groups import Connections, ReaderGroup
from streams.readers import Reader
from streams.runtime import Running
from streams.work import Part
from tests.contracts.harness import Broker, until
from tests.stores.given import letters as letters_of
from topics import Repeats, Topic

OWNER = "tests"
"""Who writes the events of ours."""
_numbers = itertools.count()

Gate = Callable[[Sequence[Part]], Awaitable[None]]


class Plan:
    """What the handler does besides writing notes."""

    def __init__(self) -> None:
        self.poison: set[str] = set()
        """Ids that it can't handle."""
        self.startling: set[str] = set()
        """Ids at which `decode` itself has a defect."""
        self.error = "{} is poison"
        """What the handler says of an id that it can't handle."""
        self.types = {"noted"}
        """What it knows; others are skipped."""
        self.after_fails = 0
        """How often what follows a commit fails from now on."""
        self.statement: str | None = None
        """SQL that it runs first when it is given records."""
        self.gate: Gate | None = None
        """Waited for in the transaction, after everything was written."""
        self.calls = 0


class Notes(Reader):
    """Writes a row for each event, without asking whether there is one: what was handled twice shows."""

    name = "notes"

    def __init__(self, database: Database, group: str, plan: Plan) -> None:
        super().__init__(database, group)
        self._plan = plan

    def decode(self, record: ConsumerRecord) -> Foreign | None:
        event = read_foreign(record)
        if event.id in self._plan.startling:
            raise ZeroDivisionError(event.id)
        return event if event.type in self._plan.types else None

    async def after(self, result: bool) -> None:
        if self._plan.after_fails:
            self._plan.after_fails -= 1
            raise ZeroDivisionError("behind the commit")

    async def handle(self, connection: Any, parts: Sequence[Part]) -> bool:
        self._plan.calls += 1
        if self._plan.statement is not None and any(part.records for part in parts):
            await connection.execute(self._plan.statement)
        for part in parts:
            for record, message in zip(part.records, part.messages, strict=True):
                await connection.execute(
                    "INSERT INTO notes VALUES ($1, $2, $3, $4)",
                    self._group, message.id, record.partition, record.offset,
                )  # fmt: skip
                if message.id in self._plan.poison:
                    raise ValueError(self._plan.error.format(message.id))
        if self._plan.gate is not None:
            await self._plan.gate(parts)
        return True


class Scene:
    """A topic of its own and a group that reads it."""

    def __init__(
        self,
        settings: Settings,
        connections: Connections,
        broker: Broker,
        repeats: Repeats,
        partitions: int,
        start: Literal["beginning", "end"],
    ) -> None:
        number = next(_numbers)
        self.plan = Plan()
        self.topic = Topic(
            name=f"readings-{number}",
            key="id",
            owner=OWNER if repeats is Repeats.SEQUENCE else "anybody",
            carries="notes",
            repeats=repeats,
            partitions=partitions,
        )
        self.name = self.topic.full_name(settings.topic_prefix)
        self.connections = connections
        self.broker = broker
        self._group = ReaderGroup(
            f"notes-{number}",
            (self.topic,),
            lambda shared, group: Notes(shared.database, group, self.plan),
            start=start,
        )
        self.group = f"{settings.topic_prefix}.notes-{number}"
        self._running: Running | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        self._running = Running(self.connections, self._group)
        self._running.start()

    async def stop(self) -> None:
        if self._running is not None:
            await self._running.stop()
            self._running = None

    @property
    def running(self) -> Running:
        assert self._running is not None
        return self._running

    def key(self, partition: int = 0) -> TopicPartition:
        return TopicPartition(self.name, partition)

    # -- what it is given --------------------------------------------------------------------------------------------

    async def send(
        self,
        *values: bytes | None,
        partition: int = 0,
        headers: Sequence[tuple[str, bytes | None]] = (("h", b"\xff"),),
        timestamp_ms: int | None = None,
    ) -> None:
        """Records with these values, in order."""
        futures = [
            await self.broker.producer.send(
                self.name, value, b"key", partition=partition, headers=list(headers), timestamp_ms=timestamp_ms
            )
            for value in values
        ]
        await self.broker.producer.flush()
        await asyncio.gather(*futures)

    async def send_broken(self, *values: bytes, broken: int, partition: int = 0) -> None:
        """One record batch with these values, of which the `broken`-th has a header name that is no UTF-8.

        aiokafka raises there, and can't go past it: also what stands behind it in that batch is out of its reach.
        """
        # Not the idempotent one: that writes its own number into the batch when it goes out.
        async with AIOKafkaProducer(bootstrap_servers=self.connections.settings.kafka_url) as producer:
            batch = producer.create_batch()
            for number, value in enumerate(values):
                headers = [("name", b"x")] if number == broken else []
                batch.append(timestamp=None, key=b"key", value=value, headers=headers)
            batch.close()
            raw = bytearray(batch._build())
            at = raw.index(b"name")
            raw[at : at + 4] = b"\xff\xfe\xfd\xfc"
            raw[17:21] = calc_crc32c_py(memoryview(bytes(raw))[21:]).to_bytes(4, "big")
            batch._buffer = raw
            await (await producer.send_batch(batch, self.name, partition=partition))

    async def note(self, *ids: str, partition: int = 0, source: str = "/tests", kind: str = "noted") -> None:
        """Events with these ids."""
        await self.send(*[event(id, source=source, kind=kind) for id in ids], partition=partition)

    async def stand(self, offset: int, partition: int = 0) -> None:
        """Move the position, as another owner does."""
        await self.connections.database.execute(
            "UPDATE progress SET next_offset = $3 WHERE consumer_group = $1 AND topic = $2 AND partition = $4",
            self.group, self.name, offset, partition,
        )  # fmt: skip

    # -- what came of it ---------------------------------------------------------------------------------------------

    async def standing(self, partition: int = 0) -> Standing | None:
        lives = await self.connections.progress.lives(self.group, partition)
        return lives[-1] if lives else None

    async def reaches(self, *ends: int) -> None:
        """Wait until each partition stands there."""

        async def there() -> bool:
            found = [await self.standing(partition) for partition in range(len(ends))]
            return [None if one is None else one.next_offset for one in found] == list(ends)

        await until(there)

    async def stops(self, partition: int = 0) -> str:
        """Wait until the partition is stopped, and say why."""

        async def reason() -> str | None:
            found = await self.standing(partition)
            return None if found is None else found.stopped

        return str(await until(reason))

    async def notes(self, partition: int | None = None) -> list[str]:
        """The ids that were noted, in the order of their records."""
        rows = await self.connections.database.fetch(
            """SELECT id FROM notes WHERE consumer_group = $1 AND ($2::int IS NULL OR partition = $2)
               ORDER BY partition, place, id""",
            self.group,
            partition,
        )
        return [row["id"] for row in rows]

    async def places(self, partition: int = 0) -> list[int]:
        """The offsets of what was noted, in order; one that was handled twice is there twice."""
        rows = await self.connections.database.fetch(
            "SELECT place FROM notes WHERE consumer_group = $1 AND partition = $2 ORDER BY place", self.group, partition
        )
        return [row["place"] for row in rows]

    async def letters(self, state: str = "parked") -> list[Parked]:
        return await letters_of(self.connections.dead_letters, group=self.group, state=state)

    def handler(self) -> Notes:
        """Another handler of the group, as another member has one."""
        return Notes(self.connections.database, self.group, self.plan)

    def counted(self, outcome: str) -> float:
        """yeoul_records_total of this group."""
        return self.metric("yeoul_records_total", outcome=outcome)

    def metric(self, name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, {"group": self.group, **labels}) or 0.0


class Door:
    """Holds the handler in its transaction, after it has written, until it is opened."""

    def __init__(self, scene: Scene) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()
        scene.plan.gate = self._hold

    async def _hold(self, _parts: Sequence[Part]) -> None:
        self.entered.set()
        await self.open.wait()


def event(id: str, *, source: str = "/tests", kind: str = "noted", place: tuple[int, int, int] | None = None) -> bytes:
    """A structured CloudEvent; `place` is (life, command offset, index) of an event of ours."""
    attributes = {"id": id, "source": source, "type": kind, "specversion": "1.0"}
    if place is not None:
        attributes |= {"source": f"/yeoul/{OWNER}", "sequence": sequence(*place)}
    return msgspec.json.encode(attributes)
