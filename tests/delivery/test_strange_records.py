"""Records that no client of good manners sends: parked as they came, shown, given back; the neighbours pass."""

import asyncio
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord

import topics
from streams.admin import ensure_topics
from tests.cli.harness import yeoul
from tests.contracts.harness import until
from tests.delivery.conftest import MakeScene
from tests.delivery.harness import Scene, event

STRANGE = (("a\0b", b"\xff\x00"), ("", None), ("여울", b""), ("\\x00", b"x"))
LONG_AGO = -(10**15)


def binary(**attributes: bytes | None) -> list[tuple[str, bytes | None]]:
    """Headers of a CloudEvent in binary mode."""
    given = {"specversion": b"1.0", "id": b"1", "source": b"/tests", "type": b"noted"} | attributes
    return [(f"ce_{name}", value) for name, value in given.items()]


async def settled(scene: Scene, count: int, state: str) -> bool:
    return len(await scene.letters(state)) == count


async def test_strange_headers_and_times_are_parked_shown_and_given_back(
    scene: MakeScene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, process_environ: dict[str, str]
) -> None:
    monkeypatch.setattr("streams.runtime.REPLAY_EVERY_S", 0.05)
    notes = await scene()
    notes.plan.poison = {"bad"}
    seen: list[ConsumerRecord] = []

    async def look(parts: object) -> None:
        seen.extend(record for part in parts for record in part.records)  # type: ignore[attr-defined]

    notes.plan.gate = look
    await notes.note("before")
    await notes.send(b"unreadable", event("bad"), headers=STRANGE, timestamp_ms=LONG_AGO)
    await notes.note("after")
    async with notes:
        await notes.reaches(4)
        assert await notes.notes() == ["before", "after"]
        letters = await notes.letters()
        assert [(letter.offset, letter.code) for letter in letters] == [(1, "not_json"), (2, "handler_failed")]
        assert {(letter.headers, letter.produced_at) for letter in letters} == {(STRANGE, LONG_AGO)}
        environ = process_environ | notes.connections.settings.environ()
        shown = await asyncio.to_thread(yeoul, tmp_path, environ, "dead-letters", "show", str(letters[1].id))
        assert shown.code == 0, shown.err
        printed = [line for line in shown.out.splitlines() if line.startswith(("header", "time"))]
        assert printed == [
            f"timestamp  {LONG_AGO}",
            r"header     a\x00b: \xff\x00",
            "header     : none",
            "header     여울: ",
            r"header     \x00: x",
        ]
        notes.plan.poison = set()
        del seen[:]
        assert await notes.connections.dead_letters.settle(letters[1].id, "requested")
        await until(lambda: settled(notes, 1, "replayed"))
    (again,) = seen
    assert (again.headers, again.timestamp, again.key, again.value) == (STRANGE, LONG_AGO, b"key", event("bad"))
    assert (again.topic, again.partition, again.offset) == (notes.name, 0, 2)


@pytest.mark.parametrize("attribute", ["specversion", "id", "subject", "of_their_own"])
async def test_an_attribute_without_a_value_is_a_dead_letter(scene: MakeScene, attribute: str) -> None:
    notes = await scene()
    await notes.note("before")
    await notes.send(b"{}", headers=binary(**{attribute: None}))
    await notes.send(b"{}", headers=binary(id=b"after"))
    async with notes:
        await notes.reaches(3)
    assert [(letter.offset, letter.code) for letter in await notes.letters()] == [(1, "not_a_cloudevent")]
    assert await notes.notes() == ["before", "after"]


async def test_a_failure_may_say_of_itself_what_it_likes(scene: MakeScene) -> None:
    notes = await scene()
    await ensure_topics(notes.connections.settings)
    await notes.connections.broker.start()  # copies are sent, too
    notes.plan.poison = {"bad"}
    notes.plan.error = "{} \0 \ud800"
    await notes.note("a", "bad", "b")
    async with notes:
        await notes.reaches(3)
        assert await notes.notes() == ["a", "b"]
        (letter,) = await notes.letters()
        assert letter.error == r"ValueError: bad \x00 \ud800"
        copy = await _copy_for(notes)
    assert (copy["data"]["error"], copy["data"]["offset"]) == (letter.error, 1)


async def _copy_for(notes: Scene) -> dict[str, dict[str, object]]:
    name = topics.DEAD_LETTERS.full_name(notes.connections.settings.topic_prefix)
    consumer = AIOKafkaConsumer(
        name, bootstrap_servers=notes.connections.settings.kafka_url, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        async with asyncio.timeout(20):
            async for record in consumer:
                if record.key == notes.group.encode():
                    found: dict[str, dict[str, object]] = orjson.loads(record.value)
                    return found
    finally:
        await consumer.stop()
    raise AssertionError


async def test_a_record_at_which_decoding_has_a_defect_is_parked(scene: MakeScene) -> None:
    notes = await scene()
    notes.plan.startling = {"x"}
    await notes.note("a", "x", "b")
    async with notes:
        await notes.reaches(3)
    (letter,) = await notes.letters()
    assert (letter.offset, letter.code, letter.error) == (1, "handler_failed", "ZeroDivisionError: x")
    assert await notes.notes() == ["a", "b"]
