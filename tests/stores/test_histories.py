"""Any history of commands, cut into batches, crashed, repeated and fought over by two owners, ends as its fold."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, cast
from uuid import UUID, uuid4

import msgspec
import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord
from hypothesis import HealthCheck, given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from agents.resources import NOUN
from config import Settings
from domain.access import Actor, Role
from domain.aggregates import Context, Occurrence
from domain.refusals import Refusal
from domain.resources import COMMANDS, EVENTS, CreateResource, DeleteResource, Resource, UpdateResource, evolve
from security.signatures import sign
from stores.aggregates import Journal, Operations
from stores.cache import Cache
from stores.postgres import Database
from stores.progress import ProgressStore
from stores.redis import Redis
from stores.resources import Resources
from streams.batches import Batch, Pace, Span
from streams.decisions import Decisions
from streams.delivery import Delivery
from streams.envelope import SIGNATURE, Command, Event, write
from streams.producer import Broker
from streams.progress import Owned, Progress
from streams.publisher import Publisher
from topics import COMMANDS_RESOURCES

PARTITIONS = 2
NAMES = {kind: name for name, kind in COMMANDS.items()}
ACTORS = [Actor(UUID(int=1), Role.USER), Actor(UUID(int=2), Role.USER), Actor(UUID(int=3), Role.ADMIN)]
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Asked:
    """A command of a history. `operation`: equal numbers are one operation, sent again or with something else in it."""

    aggregate: int
    actor: Actor
    command: Any
    operation: int


@dataclass(frozen=True)
class Step:
    """What an owner does: takes so many records of each partition, and how that ends."""

    owner: int
    sizes: tuple[int, int]
    ends: Literal["well", "crash before the commit", "crash after the commit"]
    meanwhile: int
    """So many records of each partition are taken by the other owner at the same time."""


titles = st.sampled_from(["a", "b", "c"])
versions = st.none() | st.integers(1, 4)
creates = st.builds(lambda title: CreateResource("note", title), titles)
updates = st.builds(lambda title, version: UpdateResource(title=title, expected_version=version), titles, versions)
deletes = st.builds(DeleteResource, versions)
asked = st.builds(
    Asked,
    aggregate=st.integers(0, 3),
    actor=st.sampled_from(ACTORS),
    command=st.one_of(creates, creates, updates, updates, updates, deletes),
    operation=st.integers(0, 30),
)
steps = st.builds(
    Step,
    owner=st.integers(0, 1),
    sizes=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    ends=st.sampled_from(["well", "well", "well", "crash before the commit", "crash after the commit"]),
    meanwhile=st.sampled_from([0, 0, 1, 3]),
)


class Crash(BaseException):
    """The process is gone."""


class Consumer:
    """What Delivery needs of a consumer: it remembers how the batch ended."""

    generation = 0
    letting_go = False
    backing_off = ""
    progressed_at = 0.0
    pace = Pace(5000)
    rewound = False

    def rewind(self, batch: Batch) -> None:
        self.rewound = True

    def finish(self, batch: Batch) -> None:
        self.rewound = False


class Fragile(Decisions):
    """Decisions of a process that may die around its commit."""

    ends: str = "well"

    async def commit(self, work: Any, moves: Any) -> Any:
        if self.ends == "crash before the commit":
            raise Crash
        outcome = await super().commit(work, moves)
        if self.ends == "crash after the commit":
            raise Crash
        return outcome


class Log:
    """The history as the records of a topic of commands, in an otherwise real world."""

    def __init__(self, world: "World", history: list[Asked]) -> None:
        self.name = f"commands-{uuid4()}"
        self.topic_id = uuid4()
        self.ids = [uuid4() for _ in range(4)]
        self.operations = [uuid4() for _ in range(31)]
        self.records: dict[TopicPartition, list[ConsumerRecord]] = {key: [] for key in self.keys}
        for one in history:
            key = self.keys[one.aggregate % PARTITIONS]
            self.records[key].append(self._record(world, key, len(self.records[key]), one))

    @property
    def keys(self) -> list[TopicPartition]:
        return [TopicPartition(self.name, number) for number in range(PARTITIONS)]

    def _record(self, world: "World", key: TopicPartition, offset: int, one: Asked) -> ConsumerRecord:
        data = msgspec.json.encode(one.command)
        subject, operation = self.ids[one.aggregate], self.operations[one.operation]
        value = write(
            Command(
                id=str(operation), source="/yeoul/web", type=NAMES[type(one.command)], subject=subject,
                time=START, operation=operation, data=msgspec.Raw(data), actor=one.actor.id,
                actorrole=one.actor.role.value, fingerprint=f"{one.aggregate} {data.decode()}",
            )
        )  # fmt: skip
        record_key = str(subject).encode()
        signature = sign(world.settings.command_key, b"resources", record_key, value)
        return ConsumerRecord(
            self.name, key.partition, offset, 0, 0, record_key, value, None, len(record_key), len(value),
            ((SIGNATURE, signature.encode()),),
        )  # fmt: skip


class World:
    def __init__(self, settings: Settings, database: Database, redis: Redis) -> None:
        self.settings = settings
        self.database = database
        self.progress = ProgressStore(database)
        self.redis = redis


class Owner:
    """A process that believes that it owns every partition."""

    def __init__(self, world: World, log: Log, life: int) -> None:
        self._world = world
        self._log = log
        self._life = life
        self._born()

    def _born(self) -> None:
        """A new process: nothing is known but what the database says."""
        world, group = self._world, "tests.histories"
        self.progress = Progress(group, {}, world.progress)
        broker = Broker(world.settings, "tests", [])
        publisher = Publisher(group, broker, "events", world.progress, Journal(world.database, "resources"))
        self.decisions = Fragile(
            NOUN, group, world.database, Cache(world.redis), self.progress, publisher, world.settings.command_key
        )
        letters = cast("Any", None)  # only replays ask for it
        self.delivery = Delivery(group, self.decisions, self.progress, letters, publisher.take_published)

    async def locate(self) -> None:
        """As Progress.locate, without the questions to the broker."""
        standings = await self._world.progress.standings("tests.histories", self._log.topic_id, range(PARTITIONS))
        for key in self._log.keys:
            standing = standings[key.partition]
            self.progress.owned[key] = Owned(
                COMMANDS_RESOURCES, self._log.topic_id, self._life, standing.next_offset, standing.sequence
            )

    async def take(self, sizes: tuple[int, ...], ends: str = "well") -> None:
        """One batch of where this owner believes to stand; after a mismatch or a crash it asks where it does."""
        if not self.progress.owned:
            await self.locate()
        consumer = Consumer()
        batch = Batch(cast("Any", consumer), 0)
        for key, size in zip(self._log.keys, sizes, strict=True):
            begin = self.progress.owned[key].next_offset
            records = self._log.records[key][begin : begin + size]
            if records:
                batch.spans[key] = Span(begin, begin + len(records))
                batch.records[key] = records
                batch.count += len(records)
        self.decisions.ends = ends
        try:
            await self.delivery.deliver(batch)
            await self.delivery.settled()
        except Crash:
            self._born()
        else:
            if consumer.rewound:
                await self.locate()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(settings: Settings, database: Database) -> AsyncIterator[World]:
    redis = Redis(settings)
    yield World(settings, database, redis)
    await redis.close()


def sequential(log: Log, history: list[Asked]) -> tuple[dict[UUID, Resource], dict[UUID, tuple[str, int]], list[Any]]:
    """States, (outcome, version) of each operation, and (operation, type of event, version), one after the other."""
    states: dict[UUID, Resource] = {}
    done: dict[UUID, tuple[str, int]] = {}
    events: list[Any] = []
    for one in history:
        id, operation = log.ids[one.aggregate], log.operations[one.operation]
        if operation in done:
            continue
        state = states.get(id)
        made = NOUN.decide(state, one.command, Context(one.actor, id, START))
        version = 0 if state is None else state.version
        if isinstance(made, Refusal):
            done[operation] = ("refused", version)
            continue
        for event in made:
            version += 1
            state = evolve(state, event, Occurrence(id, version, START))
            events.append((operation, NOUN.event_names[type(event)], id, version))
        assert state is not None
        states[id] = state
        done[operation] = ("succeeded", version)
    return states, done, events


def timeless(state: Resource) -> Resource:
    deleted = None if state.deleted_at is None else START
    return msgspec.structs.replace(state, created_at=START, updated_at=START, deleted_at=deleted)


async def play(world: World, history: list[Asked], schedule: list[Step]) -> None:
    # An operation belongs to one aggregate, and so to one partition: its id derives from the path.
    history = [
        Asked(one.aggregate, one.actor, one.command, one.operation - one.operation % 4 + one.aggregate)
        for one in history
        if one.operation < 28
    ]
    log = Log(world, history)
    life = await world.progress.life("tests.histories", log.topic_id)
    for key in log.keys:
        await world.progress.begin("tests.histories", "tests.histories", log.topic_id, key.partition, 0, publishes=True)
    owners = [Owner(world, log, life), Owner(world, log, life)]
    stands = await positions(world, log)
    for step in schedule:
        taking = [owners[step.owner].take(step.sizes, step.ends)]
        if step.meanwhile:
            taking.append(owners[1 - step.owner].take((step.meanwhile,) * PARTITIONS))
        await asyncio.gather(*taking)
        stood, stands = stands, await positions(world, log)
        assert all(stands[partition] >= at for partition, at in stood.items())
    ends = {key: len(log.records[key]) for key in log.keys}
    for _ in range(3):  # one may be a mismatch, which only asks where it stands
        await owners[0].take((1000,) * PARTITIONS)
    assert {key: owned.next_offset for key, owned in owners[0].progress.owned.items()} == ends

    states, done, events = sequential(log, history)
    found = await Resources(world.database, Cache(world.redis)).states(log.ids)
    assert {id: timeless(state) for id, state in found.items()} == {id: timeless(one) for id, one in states.items()}
    operations = await Operations(world.database).find(log.operations)
    assert {id: (one.outcome, one.version) for id, one in operations.items()} == done
    await journal_tells_the_same(world, log, life, found, events)


async def positions(world: World, log: Log) -> dict[int, int]:
    standings = await world.progress.standings("tests.histories", log.topic_id, range(PARTITIONS))
    return {partition: standing.next_offset for partition, standing in standings.items()}


async def journal_tells_the_same(
    world: World, log: Log, life: int, found: dict[UUID, Resource], events: list[Any]
) -> None:
    journal = Journal(world.database, "resources")
    again: dict[UUID, Resource] = {}
    told = []
    for key in log.keys:
        entries = await journal.after(key.partition, life, 0, 0, limit=1000)
        sequences = []
        for entry in entries:
            event = msgspec.json.decode(entry.event, type=Event)
            sequences.append(event.sequence)
            assert (event.subject, event.aggregateversion) == (entry.aggregate_id, entry.version)
            told.append((event.operation, event.type, event.subject, event.aggregateversion))
            happened = msgspec.json.decode(event.data, type=EVENTS[event.type])
            state = again.get(event.subject)
            assert event.aggregateversion == (0 if state is None else state.version) + 1
            at = Occurrence(event.subject, event.aggregateversion, event.time)
            again[event.subject] = evolve(state, happened, at)
        assert sequences == sorted(set(sequences))
    assert sorted(map(str, told)) == sorted(map(str, events))
    # To the microsecond: the table is what the journal says, and nothing else.
    assert again == found


checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]


@bounded(max_examples=60, deadline=None, suppress_health_check=checks)
@given(history=st.lists(asked, min_size=12, max_size=40), schedule=st.lists(steps, min_size=5, max_size=15))
async def test_a_history_ends_as_its_plain_fold(world: World, history: list[Asked], schedule: list[Step]) -> None:
    await play(world, history, schedule)


@pytest.mark.full
@bounded(max_examples=1500, deadline=None, suppress_health_check=checks)
@given(history=st.lists(asked, max_size=80), schedule=st.lists(steps, max_size=30))
async def test_many_histories_end_as_their_plain_fold(world: World, history: list[Asked], schedule: list[Step]) -> None:
    await play(world, history, schedule)


async def test_a_zombie_is_refused_as_a_whole_and_goes_on_from_where_it_stands(world: World) -> None:
    history = [Asked(0, ACTORS[0], CreateResource("note", "a"), 0), Asked(0, ACTORS[0], UpdateResource(title="b"), 4)]
    log = Log(world, history)
    life = await world.progress.life("tests.histories", log.topic_id)
    for key in log.keys:
        await world.progress.begin("tests.histories", "tests.histories", log.topic_id, key.partition, 0, publishes=True)
    first, second = Owner(world, log, life), Owner(world, log, life)
    await second.locate()
    await first.take((1, 0))
    await second.take((2, 0))
    assert second.progress.owned[log.keys[0]].next_offset == 1
    assert list(await Operations(world.database).find(log.operations)) == [log.operations[0]]
    await second.take((1, 0))
    (state,) = (await Resources(world.database, Cache(world.redis)).states(log.ids)).values()
    assert (state.title, state.version) == ("b", 2)
