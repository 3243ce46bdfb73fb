"""Commands that are parked: what no front sent, and what failed; told, found, and reopened by a replay."""

from typing import Any
from uuid import uuid4

import msgspec
import pytest

from stores.aggregates import Operations
from stores.dead_letters import NOT_PARKED, Letter, park
from streams.envelope import Command, write
from tests.contracts.harness import until
from tests.delivery.desk import Desk
from topics import COMMANDS_RESOURCES


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
    known = [
        (value.operation, value.actor, value.subject) if isinstance(value, Command) else (None, None, None)
        for value, _options in bad
    ]
    assert [(letter.operation, letter.actor, letter.subject) for letter in letters] == known
    codes = [letter.code for letter in letters]
    assert codes == [
        "unsigned", "unknown_command", "wrong_shape", "wrong_key",
        "unknown_role", "not_json", "wrong_shape", "tombstone",
    ]  # fmt: skip
    # A front waits for those that it signed; nobody hears of what anybody sent.
    for command in (unknown, wrong_data, wrong_key, foreign_role):
        assert (await desk.done(command)).outcome == "failed"
    assert await Operations(desk.connections.database).find([bad[0][0].operation]) == {}


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
    assert sorted(state.title for state in await desk.rows()) == ["after", "bad", "before"]
    # Two operators at once: it is sent twice, and the operation is known by then.
    assert await desk.replay(letter) == {letter.id: NOT_PARKED}
    for partition in range(COMMANDS_RESOURCES.partitions):
        last = desk.command("last")
        await desk.send(last, partition=partition)
        await desk.done(last)
    versions = [state.version for state in await desk.rows() if state.title == "bad"]
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
    (state,) = [state for state in await desk.rows() if state.id == made.subject]
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
