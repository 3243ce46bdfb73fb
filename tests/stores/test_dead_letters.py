"""Whatever Kafka's client hands over can be parked, and comes back as it was."""

import os
from typing import Any
from uuid import UUID

import msgspec
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import HealthCheck, given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from stores.belongings import CONTENTS
from stores.dead_letters import ERASED, MOST_BYTES, DeadLetters, Letter, park
from stores.postgres import Database
from tests.stores.given import letters as parked_letters

TOPIC_ID = UUID(int=1)
BYTES = st.none() | st.binary(max_size=50)
# What stands in a record batch is UTF-8: any character, NUL too, but no half of a surrogate pair.
NAMES = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(["\0", "a\0b", "\\u0000", "\\"])
TIMES = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([-(10**15), -1, 0, 1_700_000_000_123, 10**15])
RECORDS = st.lists(
    st.tuples(BYTES, BYTES, st.lists(st.tuples(NAMES, BYTES), max_size=4), TIMES), min_size=1, max_size=5
)
# What an exception says of itself is any text at all.
ERRORS = st.text(st.characters(), max_size=50) | st.sampled_from(["\0", "\ud800", "a \0 in it"])

letters = st.builds(
    Letter, group=st.just("g"), topic=st.just("t"), topic_id=st.just(TOPIC_ID), partition=st.just(0),
    offset=st.integers(0, 2**63 - 1), key=BYTES, value=BYTES, headers=st.just(()), produced_at=st.none(),
    code=st.just("handler_failed"), error=ERRORS, handler=st.just("h"), attempts=st.just(3),
)  # fmt: skip


def handed_over(key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]], timestamp: int) -> Any:
    """The record as Kafka's client takes it out of a record batch."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    builder.append(0, timestamp, key, value, headers)
    (record,) = DefaultRecordBatch(bytes(builder.build()))
    return record


@given(RECORDS, letters)
@bounded(suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_record_comes_back_as_it_was(database: Database, given: list[Any], letter: Letter) -> None:
    records = [handed_over(*one) for one in given]
    parked = [
        msgspec.structs.replace(
            letter, offset=number, key=record.key, value=record.value, headers=tuple(record.headers),
            produced_at=record.timestamp,
        )
        for number, record in enumerate(records)
    ]  # fmt: skip
    try:
        async with database.connection() as connection:
            await park(connection, parked)
        found = await parked_letters(DeadLetters(database), group="g")
    finally:
        await database.execute("DELETE FROM dead_letters WHERE consumer_group = 'g'")
    assert [(one.key, one.value, list(one.headers), one.produced_at) for one in found] == [
        (key, value, headers, timestamp) for key, value, headers, timestamp in given
    ]
    assert all("\0" not in one.error for one in found)


async def test_a_text_that_can_be_stored_is_stored_to_the_letter(database: Database) -> None:
    letter = Letter(
        group="plain", topic="t", topic_id=TOPIC_ID, partition=0, offset=0, key=None, value=None, headers=(),
        produced_at=None, code="not_json", error="wie geht's? 여울 \\x00", handler="h", attempts=1,
    )  # fmt: skip
    async with database.connection() as connection:
        await park(connection, [letter])
    (found,) = await parked_letters(DeadLetters(database), group="plain")
    assert (found.error, found.produced_at, found.headers) == (letter.error, None, ())


async def test_rows_of_an_older_version_are_read(database: Database) -> None:
    """It wrote the time as such, and no header without a value."""
    await database.execute(
        """INSERT INTO dead_letters (consumer_group, topic, topic_id, partition, "offset", headers, produced_at, code,
               error, handler, attempts)
           VALUES ('older', 't', $1, 0, 0, '[["name", "6869"]]', '2026-01-01T00:00:00.123Z', 'c', 'e', 'h', 1)""",
        TOPIC_ID,
    )
    (found,) = await parked_letters(DeadLetters(database), group="older")
    assert (found.headers, found.produced_at) == ((("name", b"hi"),), 1_767_225_600_123)


async def test_letters_are_read_in_pieces_of_so_many_bytes(database: Database) -> None:
    """However small they are in the table: what is all alike takes hardly any place there."""
    size = 5 << 20
    letter = Letter(
        group="large", topic="t", topic_id=TOPIC_ID, partition=0, offset=0, key=None, value=None, headers=(),
        produced_at=None, code="not_json", error="", handler="h", attempts=1,
    )  # fmt: skip
    shapes: list[dict[str, Any]] = [
        {"value": b"x" * size}, {"value": os.urandom(size)}, {"key": b"x" * size}, {"value": b"x" * size},
        {"headers": (("h", b"x" * (size // 2)),)}, {"value": os.urandom(MOST_BYTES + 1)}, {"value": b"small"}, {},
    ]  # fmt: skip
    async with database.connection() as connection:
        await park(
            connection,
            [msgspec.structs.replace(letter, offset=offset, **shape) for offset, shape in enumerate(shapes)],
        )
    store = DeadLetters(database)
    ids = [one.id for one in await store.listed(group="large", state=None, topic=None, limit=100, after=0)]
    expected = [ids[:3], ids[3:5], ids[5:6], ids[6:]]
    for piece in expected:
        found = await store.first(ids)
        assert [one.id for one in found] == piece
        ids = ids[len(piece) :]
    assert await store.first(ids) == []
    await database.execute("UPDATE dead_letters SET state = 'requested' WHERE consumer_group = 'large'")
    after = 0
    for piece in expected:
        found = await store.requested("large", ["t"], [0], after)
        assert [one.id for one in found] == piece
        after = piece[-1]
    assert await store.requested("large", ["t"], [0], after) == []


async def test_an_event_loses_members_of_its_data_and_what_is_none_is_left_as_it_came(database: Database) -> None:
    topic, subject = "y.events.resources", UUID(int=7)
    full: dict[str, Any] = {
        "title": "words",
        "body": "words",
        "tags": ["words"],
        "attributes": {"words": 1},
        "status": "words",
    }
    kept: dict[str, Any] = {"kind": "note", "owner_id": str(subject), "words": {"title": "within"}}
    event: dict[str, Any] = {"id": "1", "source": "/yeoul/resources", "subject": str(subject)}
    emptied: list[dict[str, Any]] = [
        event | {"data": full | kept},
        event | {"data": {"title": "여울"}},
        {"data": {"tags": None}},
    ]
    others: list[bytes | None] = [
        None, b"", b"\xff", b'{"data": {"title": "\xff"}}', b"[]", b"1", b'"title"', b"{}", b"null",
        b'{ "data": "title" }', b'{"data": ["title"]}', b'{"data": null}', b'{ "data": {"kind": "note"} }',
        b'{"data": {"title": "\\u0000"}}', b'{"data": {"title": 1e999999}}', b'{"data": {"title": ' + b"[" * 100_000,
    ]  # fmt: skip
    values = [*map(msgspec.json.encode, emptied), *others]
    letter = Letter(
        group="events", topic=topic, topic_id=TOPIC_ID, partition=0, offset=0, key=b"k", value=None,
        headers=(("h", b"1"),), produced_at=None, code="handler_failed", error="words", handler="h", attempts=3,
        subject=subject,
    )  # fmt: skip
    apart = {"subject": UUID(int=8)}, {"subject": None}, {"topic": "y.ingest"}
    parked = [msgspec.structs.replace(letter, offset=n, value=value) for n, value in enumerate(values)]
    parked += [
        msgspec.structs.replace(letter, offset=n, value=values[0], **change)  # type: ignore[arg-type]
        for n, change in enumerate(apart, start=len(values))
    ]
    async with database.connection() as connection:
        await park(connection, parked)
    for state, offset in (("requested", 1), ("replayed", 2)):
        await database.execute(
            """UPDATE dead_letters SET state = $1 WHERE consumer_group = 'events' AND "offset" = $2""", state, offset
        )
    await DeadLetters(database).empty_events(topic, [subject], CONTENTS)
    rows = await database.fetch("""SELECT * FROM dead_letters WHERE consumer_group = 'events' ORDER BY "offset" """)
    for row, was, data in zip(rows, emptied, (kept, {}, {}), strict=False):
        assert msgspec.json.decode(row["value"]) == was | {"data": data}
        assert (row["error"], row["code"], row["headers"]) == (ERASED, "handler_failed", '[["h","31"]]')
    assert [row["state"] for row in rows] == ["parked", "requested", "replayed", *["parked"] * (len(rows) - 3)]
    assert all(row["settled_at"] is None for row in rows)
    assert [(row["value"], row["error"]) for row in rows[3:]] == [(one.value, "words") for one in parked[3:]]
