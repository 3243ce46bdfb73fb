"""Commands through their whole group: rows, operations and events, and what follows a commit."""

import asyncio
from typing import Any

import pytest
from aiokafka.errors import KafkaError
from prometheus_client import REGISTRY

from security.signatures import sign
from stores.cache import Cache
from streams.admin import ensure_topics
from streams.envelope import SIGNATURE, write
from streams.publisher import Publisher
from streams.runtime import Running
from tests.contracts.harness import until
from tests.delivery.desk import Desk
from tests.stores.given import letters as letters_of
from topics import EVENTS_RESOURCES


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
    states = await desk.rows()
    assert sorted(state.title for state in states) == sorted([*[f"title {number}" for number in range(20)], "last"])


async def test_where_nothing_had_to_happen_to_what_never_was_the_command_has_succeeded(desk: Desk) -> None:
    desk.idle.add("nothing")
    command = desk.command("nothing")
    await desk.send(command)
    operation = await desk.done(command)
    assert (operation.outcome, operation.version, operation.answer) == ("succeeded", 0, b"")
    assert await letters_of(desk.connections.dead_letters, group=desk.group) == []
    assert await desk.rows() == []


async def test_a_signature_is_of_this_key_and_this_value(desk: Desk) -> None:
    command = desk.command("a")
    value, key = write(command), str(command.subject).encode()
    for parts in ((b"accounts", key, value), (b"resources", b"other", value), (b"resources", key, value + b" ")):
        signature = sign(desk.settings.command_key, *parts).encode()
        await desk._broker.producer.send_and_wait(desk.topic, value, key, headers=[(SIGNATURE, signature)])
    await desk._broker.producer.send_and_wait(desk.topic, value, key, headers=[(SIGNATURE, b"\xff")])
    assert {letter.code for letter in await desk.letters(4)} == {"unsigned"}
    assert await desk.rows() == []


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
    await until(lambda: desk._broker.gone(name))
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
