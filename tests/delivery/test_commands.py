"""Commands through their whole group: what no front sent is parked; what failed is told, and reopened by a replay."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord
from prometheus_client import REGISTRY

from agents.resources import NOUN
from config import Settings
from domain.resources import CreateResource, Resource
from security.signatures import sign
from stores import migrations
from stores.aggregates import Operation, Operations
from stores.cache import Cache
from stores.dead_letters import NOT_PARKED, Letter, Parked, park
from stores.resources import Resources
from streams.admin import ensure_topics
from streams.envelope import SIGNATURE, Command, Event, write
from streams.groups import CommandGroup, Connections
from streams.publisher import Publisher
from streams.replay import replay
from streams.runtime import Running
from tests.contracts.harness import Broker, until
from tests.stores.given import letters as letters_of
from topics import COMMANDS_RESOURCES, EVENTS_RESOURCES

OWNER = UUID(int=0xA)


class Desk:
    """The group of resources at work, with a decision that fails for titles in `poison`."""

    def __init__(self, settings: Settings, connections: Connections, broker: Broker) -> None:
        self.settings = settings
        self.connections = connections
        self.poison: set[str] = set()
        self.idle: set[str] = set()
        """Titles for which nothing has to happen."""
        self._broker = broker
        self.topic = COMMANDS_RESOURCES.full_name(settings.topic_prefix)
        self.group = f"{settings.topic_prefix}.resources"
        self.running = Running(
            connections, CommandGroup("resources", msgspec.structs.replace(NOUN, decide=self._decide))
        )

    def _decide(self, state: Any, command: Any, context: Any) -> Any:
        if getattr(command, "title", None) in self.poison:
            raise RuntimeError(f"{command.title} is poison")
        if isinstance(command, CreateResource) and command.title in self.idle:
            return ()
        return NOUN.decide(state, command, context)

    def command(self, title: str, **changes: Any) -> Command:
        operation = uuid4()
        data = msgspec.json.encode({"kind": "note", "title": title, "visibility": "public"})
        made = Command(
            id=str(operation), source="/yeoul/web", type="create_resource", subject=uuid4(), time=datetime.now(UTC),
            operation=operation, data=msgspec.Raw(data), actor=OWNER, actorrole="user", fingerprint="print",
        )  # fmt: skip
        return msgspec.structs.replace(made, **changes)

    async def send(
        self, value: Command | bytes | None, *, key: bytes | None = None, signed: bool = True, partition: int = 0
    ) -> None:
        if isinstance(value, Command):
            key = str(value.subject).encode() if key is None else key
            value = write(value)
        headers = []
        if signed:
            signature = sign(self.settings.command_key, b"resources", key or b"", value or b"")
            headers = [(SIGNATURE, signature.encode())]
        await self._broker.producer.send_and_wait(self.topic, value, key, partition=partition, headers=headers)

    async def done(self, command: Command) -> Operation:
        async def found() -> Operation | None:
            operations = await Operations(self.connections.database).find([command.operation])
            return operations.get(command.operation)

        operation = await until(found)
        assert isinstance(operation, Operation)
        return operation

    async def letters(self, count: int) -> list[Parked]:
        async def there() -> list[Parked] | None:
            found = await letters_of(self.connections.dead_letters, group=self.group)
            return found if len(found) == count else None

        letters: list[Parked] = await until(there)
        return letters

    async def replay(self, *letters: Parked) -> dict[int, str]:
        """As the command line sends them again."""
        store = self.connections.dead_letters
        return await replay(self.settings, store, await store.named([letter.id for letter in letters]))

    async def published(self, count: int, partition: int = 0) -> list[Event]:
        """The first events of a partition of the events' topic."""
        name = EVENTS_RESOURCES.full_name(self.settings.topic_prefix)
        consumer = AIOKafkaConsumer(bootstrap_servers=self.settings.kafka_url, auto_offset_reset="earliest")
        await consumer.start()
        try:
            consumer.assign([TopicPartition(name, partition)])
            found: list[ConsumerRecord] = []

            async def there() -> bool:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found.extend(records)
                return len(found) >= count

            await until(there)
            return [msgspec.json.decode(record.value, type=Event) for record in found]
        finally:
            await consumer.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def desk(own_settings: Settings, broker: Broker) -> AsyncIterator[Desk]:
    await migrations.apply(own_settings.postgres_url)
    await ensure_topics(own_settings)
    connections = Connections(own_settings, "tests")
    await connections.broker.start()
    desk = Desk(own_settings, connections, broker)
    desk.running.start()
    yield desk
    await desk.running.stop()
    await connections.close()


async def test_a_command_becomes_a_row_an_operation_and_an_event(desk: Desk) -> None:
    commands = [desk.command(f"title {number}") for number in range(20)]
    for command in commands:
        await desk.send(command)
    for command in [commands[3], commands[7]]:
        await desk.send(command)  # repeats
    last = desk.command("last")
    await desk.send(last)
    await desk.done(last)
    assert {(await desk.done(command)).outcome for command in commands} == {"succeeded"}
    events = await desk.published(21)
    assert [event.operation for event in events] == [command.operation for command in [*commands, last]]
    assert [event.sequence for event in events] == sorted({event.sequence for event in events})
    states = await rows(desk)
    assert sorted(state.title for state in states) == sorted([*[f"title {number}" for number in range(20)], "last"])


async def rows(desk: Desk) -> list[Resource]:
    found = await desk.connections.database.fetch("SELECT id FROM resources")
    states = await Resources(desk.connections.database, Cache(desk.connections.redis)).states(
        [row["id"] for row in found]
    )
    return list(states.values())


async def test_where_nothing_had_to_happen_to_what_never_was_the_command_has_succeeded(desk: Desk) -> None:
    desk.idle.add("nothing")
    command = desk.command("nothing")
    await desk.send(command)
    operation = await desk.done(command)
    assert (operation.outcome, operation.version, operation.answer) == ("succeeded", 0, b"")
    assert await letters_of(desk.connections.dead_letters, group=desk.group) == []
    assert await rows(desk) == []


async def test_what_no_front_sent_or_nobody_understands_is_parked_and_its_neighbours_pass(desk: Desk) -> None:
    unknown, wrong_data = desk.command("x", type="burn_resource"), desk.command("", data=msgspec.Raw(b'{"n": 1}'))
    wrong_key, foreign_role = desk.command("y"), desk.command("z", actorrole="emperor")
    neighbours = [desk.command(f"neighbour {number}") for number in range(9)]
    bad: list[tuple[Any, dict[str, Any]]] = [
        (desk.command("unsigned"), {"signed": False}),
        (unknown, {}),
        (wrong_data, {}),
        (wrong_key, {"key": b"another"}),
        (foreign_role, {}),
        (b"\xff\xfe\x00", {"key": b"\xff"}),
        (b'{"another": "shape"}', {"key": b"k"}),
        (None, {"key": b"k"}),
    ]
    for neighbour, (value, options) in zip(neighbours, bad, strict=False):
        await desk.send(neighbour)
        await desk.send(value, **options)
    await desk.send(neighbours[-1])
    for neighbour in neighbours:
        assert (await desk.done(neighbour)).outcome == "succeeded"
    letters = await desk.letters(8)
    known = [value.operation if isinstance(value, Command) else None for value, _options in bad]
    assert [letter.operation for letter in letters] == known
    codes = [letter.code for letter in letters]
    assert codes == [
        "unsigned", "unknown_command", "wrong_shape", "wrong_key",
        "unknown_role", "not_json", "wrong_shape", "tombstone",
    ]  # fmt: skip
    # A front waits for those that it signed; nobody hears of what anybody sent.
    for command in (unknown, wrong_data, wrong_key, foreign_role):
        assert (await desk.done(command)).outcome == "failed"
    assert await Operations(desk.connections.database).find([bad[0][0].operation]) == {}


async def test_a_signature_is_of_this_key_and_this_value(desk: Desk) -> None:
    command = desk.command("a")
    value, key = write(command), str(command.subject).encode()
    for parts in ((b"accounts", key, value), (b"resources", b"other", value), (b"resources", key, value + b" ")):
        signature = sign(desk.settings.command_key, *parts).encode()
        await desk._broker.producer.send_and_wait(desk.topic, value, key, headers=[(SIGNATURE, signature)])
    await desk._broker.producer.send_and_wait(desk.topic, value, key, headers=[(SIGNATURE, b"\xff")])
    assert {letter.code for letter in await desk.letters(4)} == {"unsigned"}
    assert await rows(desk) == []


async def test_a_failed_operation_is_reopened_by_replaying_its_command(desk: Desk) -> None:
    desk.poison = {"bad"}
    before, bad, after = desk.command("before"), desk.command("bad"), desk.command("after")
    for command in (before, bad, after):
        await desk.send(command)
    outcomes = [(await desk.done(command)).outcome for command in (before, bad, after)]
    assert outcomes == ["succeeded", "failed", "succeeded"]
    (letter,) = await desk.letters(1)
    assert (letter.code, letter.value, letter.attempts) == ("handler_failed", write(bad), 3)
    desk.poison = set()
    assert await desk.replay(letter) == {}

    async def succeeded() -> bool:
        return (await desk.done(bad)).outcome == "succeeded"

    await until(succeeded)
    assert sorted(state.title for state in await rows(desk)) == ["after", "bad", "before"]
    # Two operators at once: it is sent twice, and the operation is known by then.
    assert await desk.replay(letter) == {letter.id: NOT_PARKED}
    for partition in range(COMMANDS_RESOURCES.partitions):
        last = desk.command("last")
        await desk.send(last, partition=partition)
        await desk.done(last)
    versions = [state.version for state in await rows(desk) if state.title == "bad"]
    assert versions == [1]
    row = await desk.connections.database.fetchrow(
        "SELECT count(*) AS events FROM journal WHERE aggregate_id = $1", bad.subject
    )
    assert row["events"] == 1


async def test_what_was_parked_and_done_meanwhile_is_not_done_again_days_later(desk: Desk) -> None:
    made = desk.command("made")
    await desk.send(made)
    assert (await desk.done(made)).outcome == "succeeded"

    def change(title: str) -> Command:
        data = msgspec.json.encode({"title": title})
        return desk.command("", type="update_resource", subject=made.subject, data=msgspec.Raw(data))

    first, second = change("first"), change("second")
    desk.poison = {"first"}
    await desk.send(first)
    assert (await desk.done(first)).outcome == "failed"
    (letter,) = await desk.letters(1)
    desk.poison = set()
    await desk.send(first)  # by its caller, under the same key
    await desk.send(second)
    assert (await desk.done(second)).version == 3
    database = desk.connections.database
    await database.execute("UPDATE operations SET created_at = now() - interval '3 days'")
    await Operations(database).forget()
    assert await desk.replay(letter) == {}
    for partition in range(COMMANDS_RESOURCES.partitions):
        last = desk.command("last")
        await desk.send(last, partition=partition)
        await desk.done(last)
    (state,) = [state for state in await rows(desk) if state.id == made.subject]
    assert (state.title, state.version) == ("second", 3)


@pytest.mark.parametrize("by", ["the client", "the broker"])
async def test_what_kafka_does_not_take_is_left_and_the_others_are_sent(desk: Desk, by: str) -> None:
    """It was sent compressed, and is larger than a producer may send."""
    desk.poison = {"first", "last"}
    large, name = b"x" * (9 << 20), desk.topic
    letter = Letter(
        group=desk.group, topic=name, topic_id=uuid4(), partition=0, offset=0, key=b"k", value=large, headers=(),
        produced_at=None, code="unsigned", error="", handler="h", attempts=1,
    )  # fmt: skip
    if by == "the broker":
        # Without key and value aiokafka looks at no size.
        letter = msgspec.structs.replace(letter, key=None, value=None, headers=(("h", large),))
    first, last = desk.command("first"), desk.command("last")
    await desk.send(first)
    await desk.done(first)
    async with desk.connections.database.connection() as connection:
        await park(connection, [letter])
    await desk.send(last)
    await desk.done(last)
    letters = await desk.letters(3)
    desk.poison = set()
    left = await desk.replay(*letters)
    assert list(left) == [letters[1].id]
    assert "MessageSizeTooLargeError" in left[letters[1].id]
    for command in (first, last):

        async def succeeded(command: Command = command) -> bool:
            return (await desk.done(command)).outcome == "succeeded"

        await until(succeeded)
    assert [one.id for one in await desk.letters(1)] == list(left)


async def test_what_was_parked_is_found_by_its_operation_and_request(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.poison = {"bad", "worse"}
    asked, unasked = desk.command("bad", requestid="req-7"), desk.command("worse")
    await desk.send(asked)
    await desk.done(asked)
    await desk.send(unasked)
    await desk.done(unasked)

    def told() -> list[dict[str, str]]:
        return [line.fields for line in caplog.records if str(line.msg).startswith("parked ")]  # type: ignore[attr-defined]

    await until(lambda: len(told()) == 2)
    assert told() == [
        {"operation": str(asked.operation), "request": "req-7"},
        {"operation": str(unasked.operation)},
    ]


async def test_a_command_of_nothing_but_strange_headers_is_sent_again_as_it_was(desk: Desk) -> None:
    headers = [("a\0b", b"\xff"), ("empty", None)]
    batch = desk._broker.producer.create_batch()
    batch.append(key=None, value=None, timestamp=None, headers=headers)
    await (await desk._broker.producer.send_batch(batch, desk.topic, partition=1))
    (letter,) = await desk.letters(1)
    assert (letter.code, letter.headers) == ("unsigned", tuple(headers))
    assert await desk.replay(letter) == {}
    (again,) = await desk.letters(1)  # still unsigned: a row of its own
    assert (again.key, again.value, again.headers) == (None, None, tuple(headers))
    assert again.id != letter.id


async def test_a_failure_behind_a_commit_leaves_no_gap_in_the_events(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect of ours, which only a fake can have."""
    tries = 0
    put = Cache.put_and_publish

    async def fail_once(*arguments: Any, **named: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ZeroDivisionError("behind the commit")
        return await put(*arguments, **named)

    monkeypatch.setattr(Cache, "put_and_publish", fail_once)
    commands = [desk.command(f"title {number}") for number in range(4)]
    for command in commands:
        await desk.send(command)
        await desk.done(command)
    events = await desk.published(4)
    assert [event.operation for event in events] == [command.operation for command in commands]
    assert caplog.text.count("ZeroDivisionError: behind the commit") == 1


async def test_events_that_no_owner_confirmed_are_published_at_the_next_assignment(desk: Desk) -> None:
    commands = [desk.command(f"title {number}") for number in range(5)]
    for command in commands:
        await desk.send(command)
    await desk.published(5)
    await desk.running.stop()
    standing = await desk.connections.database.fetchrow(
        "SELECT next_offset, published_offset FROM progress WHERE consumer_group = $1 AND partition = 0", desk.group
    )
    assert (standing["next_offset"], standing["published_offset"]) == (5, 5)
    # As after a kill between commit and publish: the row says that two events are not there.
    await desk.connections.database.execute(
        "UPDATE progress SET published_offset = 3 WHERE consumer_group = $1 AND partition = 0", desk.group
    )
    desk.running = Running(desk.connections, desk.running.group)
    desk.running.start()
    events = await desk.published(7)
    assert [event.id for event in events[5:]] == [event.id for event in events[3:5]]
    assert [event.sequence for event in events[5:]] == [event.sequence for event in events[3:5]]


async def test_without_a_topic_for_their_events_commands_are_carried_out(desk: Desk) -> None:
    await until(lambda: desk.running.state() == "ok")
    name = EVENTS_RESOURCES.full_name(desk.settings.topic_prefix)
    await desk._broker.admin.delete_topics([name])

    async def gone() -> bool:
        (found,) = await desk._broker.admin.describe_topics([name])
        return bool(found["error_code"])

    await until(gone)
    commands = [desk.command(f"title {number}") for number in range(3)]
    for command in commands:
        await desk.send(command)
        assert (await desk.done(command)).outcome == "succeeded"
    await until(lambda: "the events of 1 partitions wait to be published" in desk.running.state())
    await ensure_topics(desk.settings)
    events = await desk.published(3)
    assert [event.operation for event in events] == [command.operation for command in commands]
    await until(lambda: desk.running.state() == "ok")


async def test_a_publisher_that_ends_starts_its_group_anew(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.send(desk.command("before"))
    await desk.published(1)
    original = Publisher._send
    broken = [True]

    async def send(publisher: Publisher, partition: int, records: list[tuple[bytes, bytes]]) -> None:
        if broken.pop() if broken else False:
            raise RuntimeError("a defect that nobody thought of")
        await original(publisher, partition, records)

    monkeypatch.setattr(Publisher, "_send", send)
    await desk.send(desk.command("struck"))
    events = await desk.published(2)
    assert [event.sequence for event in events] == sorted({event.sequence for event in events})
    assert REGISTRY.get_sample_value("yeoul_group_restarts_total", {"group": desk.group}) == 1.0
    await desk.send(desk.command("after"))
    await desk.published(3)


async def test_a_publisher_that_finds_no_journal_waits_for_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.send(desk.command("before"))
    await desk.published(1)
    original = Publisher._send
    refused = asyncio.Event()

    async def send(publisher: Publisher, partition: int, records: list[tuple[bytes, bytes]]) -> None:
        if not refused.is_set():
            refused.set()
            await desk.connections.database.execute("ALTER TABLE journal RENAME TO journal_of_later")
            raise KafkaError("the producer met an error")
        await original(publisher, partition, records)

    monkeypatch.setattr(Publisher, "_send", send)
    await desk.send(desk.command("struck"))
    try:
        await until(lambda: desk.running._publisher is not None and desk.running._publisher.backing_off)
    finally:
        await desk.connections.database.execute("ALTER TABLE journal_of_later RENAME TO journal")
    events = await desk.published(2)
    assert [event.sequence for event in events] == sorted({event.sequence for event in events})
    assert not REGISTRY.get_sample_value("yeoul_group_restarts_total", {"group": desk.group})
