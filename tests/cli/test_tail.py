"""`tail` shows every record, whoever wrote it: colours, filters, and what strangers send."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import msgspec
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.record.util import calc_crc32c_py
from aiokafka.structs import ConsumerRecord

from cli import tail
from cli.describe import BLUE, BOLD, CYAN, DIM, END, GREEN, NO_TIME, RED, SHOWN_DATA, YELLOW, describe, matches
from config import Settings
from streams.envelope import sequence
from tests.contracts.harness import open_broker
from topics import EVENTS_RESOURCES, INGEST

Headers = list[tuple[str, bytes | None]]
NOON_MS = 1_767_268_800_000
LONG_AGO_MS = -(2**60)
DEEP = b"[" * 900 + b"]" * 900
EVENT = {
    "specversion": "1.0", "id": "1", "source": "/shop", "type": "order.created", "subject": "order-7",
    "data": {"amount": 3},
}  # fmt: skip


def record(value: bytes | None, *, headers: Headers | None = None, timestamp_ms: int = NOON_MS) -> ConsumerRecord:
    return ConsumerRecord(
        topic="yeoul.ingest", partition=2, offset=5, timestamp=timestamp_ms, timestamp_type=0, key=None, value=value,
        checksum=None, serialized_key_size=-1, serialized_value_size=len(value or b""), headers=headers or [],
    )  # fmt: skip


def event(**changes: object) -> ConsumerRecord:
    return record(msgspec.json.encode(EVENT | changes))


def test_a_line_names_time_type_subject_version_place_and_data() -> None:
    shown = describe(event(aggregateversion=4), colour=False)
    time, rest = shown.split(" ", 1)
    assert time.endswith(":00:00.000")
    assert rest == 'order.created order-7 v4 ingest/2@5 {"amount":3}'
    assert describe(event(), colour=False) == f'{time} order.created order-7 ingest/2@5 {{"amount":3}}'


@pytest.mark.parametrize(
    ("kind", "paint"),
    [
        ("order.created", GREEN), ("order.updated", YELLOW), ("order.deleted", RED), ("dead_letter.parked", RED),
        ("order.paid", BLUE),
    ],
)  # fmt: skip
def test_colours_tell_what_happened_and_nothing_else_differs(kind: str, paint: str) -> None:
    coloured = describe(event(type=kind), colour=True)
    assert f"{BOLD}{paint}{kind}{END} {CYAN}order-7{END} {DIM}ingest/2@5{END}" in coloured
    plain = coloured
    for code in (DIM, BOLD, END, GREEN, YELLOW, RED, BLUE, CYAN):
        plain = plain.replace(code, "")
    assert plain == describe(event(type=kind), colour=False)


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize(
    ("strange", "shown"),
    [
        (record(None), "? - ingest/2@5 null"),
        (record(b"\xff\xfe rubbish"), "? - ingest/2@5 \"<10 bytes that are no JSON>\""),
        (record(b"7"), "? - ingest/2@5 7"),
        (record(b'{"data":' + DEEP + b"}"), "? - ingest/2@5 <JSON that is nested too deeply to be shown>"),
        (record(b'{"type":' + DEEP + b"}"), "<JSON that is nested too deeply to be shown> - ingest/2@5 null"),
        (record(b"[" * 100_000), "<100000 bytes that are no JSON>"),
        (event(type=["a", 1], subject={"of": None}), '["a",1] {"of":null} ingest/2@5'),
        (event(subject="\x1b[2Jorder\r\n"), "�[2Jorder�� ingest/2@5"),
        (event(aggregateversion="\x1b[31m"), "order-7 v�[31m ingest/2@5"),
        (record(b"{}", headers=[("ce_type", b"\xff.paid"), ("ce_subject", None)]), "�.paid  ingest/2@5 {}"),
        (event(data="x" * 10_000), f'ingest/2@5 "{"x" * (SHOWN_DATA - 2)}…'),
    ],
)  # fmt: skip
def test_what_strangers_send_is_shown_as_far_as_it_can_be(strange: ConsumerRecord, shown: str, colour: bool) -> None:
    line = describe(strange, colour)
    for code in (DIM, BOLD, END, GREEN, YELLOW, RED, BLUE, CYAN) if colour else ():
        line = line.replace(code, "")
    assert shown in line
    assert line.isprintable()
    assert not matches(strange, ["nothing.*"], None)
    assert not matches(strange, None, ["nothing-*"])
    assert matches(strange, ["*"], ["*"])


@pytest.mark.parametrize("timestamp_ms", [-1, -(2**63), LONG_AGO_MS, 2**60, 2**63 - 1])
def test_a_time_that_is_none_is_not_shown(timestamp_ms: int) -> None:
    value = msgspec.json.encode(EVENT)
    assert describe(record(value, timestamp_ms=timestamp_ms), colour=False).startswith(f"{NO_TIME} order.created ")


@pytest.mark.parametrize(
    ("types", "subjects", "shown"),
    [
        (None, None, True),
        (["order.*"], None, True),
        (["order.created", "nothing"], ["order-7"], True),
        (["nothing", "*.created"], ["order-8", "order-?"], True),
        (["order.paid"], None, False),
        (None, ["order-8"], False),
        (["order.*"], ["order-8"], False),
        (["order"], None, False),
        (["ORDER.*"], None, False),
    ],
)
def test_filters_are_of_type_and_of_subject_in_both_modes(
    types: list[str] | None, subjects: list[str] | None, shown: bool
) -> None:
    assert matches(event(), types, subjects) is shown
    headers: Headers = [("ce_type", b"order.created"), ("ce_subject", b"order-7"), ("h", b"\xff")]
    assert matches(record(b"no JSON", headers=headers), types, subjects) is shown


# -- repeats ----------------------------------------------------------------------------------------------------------

MADE = {"type": "resource.created", "source": "/yeoul/resources"}


def sent(offset: int, partition: int = 0, topic: str = "yeoul.events.resources", **changes: object) -> ConsumerRecord:
    value = msgspec.json.encode(EVENT | MADE | {"sequence": sequence(1, offset, 0)} | changes)
    return replace(record(value), topic=topic, partition=partition)


def test_what_was_sent_again_is_known_in_its_partition_and_nothing_else() -> None:
    repeated = tail.Repeated("yeoul")
    again = [repeated.seen(sent(offset)) for offset in (1, 2, 1, 2, 3)]
    assert again == [False, False, True, True, False]
    assert not repeated.seen(sent(1, partition=1))
    assert not repeated.seen(sent(1, topic="yeoul.events.accounts", source="/yeoul/accounts"))
    for _ in range(2):
        assert not repeated.seen(sent(1, topic="yeoul.ingest"))  # anybody's, where `sequence` says nothing
        assert not repeated.seen(record(b"rubbish"))


def test_a_strangers_sequence_hides_nothing() -> None:
    repeated = tail.Repeated("yeoul")
    for strange in ({"sequence": "~"}, {"source": "/elsewhere", "sequence": sequence(9, 9, 9)}, {"id": 7}):
        assert not repeated.seen(sent(1, **strange))
    assert not repeated.seen(sent(1))


# -- on a broker -------------------------------------------------------------------------------------------------------

Tail = Callable[..., Awaitable[tuple[list[str], str]]]


@pytest_asyncio.fixture(loop_scope="session")
async def strange(own_settings: Settings) -> Settings:
    """An `ingest` that holds two good events, and between them what no program should choke on."""
    name = INGEST.full_name(own_settings.topic_prefix)
    good = msgspec.json.encode(EVENT | {"subject": "first"}), msgspec.json.encode(EVENT | {"subject": "last"})
    async with open_broker(own_settings) as broker:
        # As other people's topics are: a record has the time that its producer gives it. Made so, not altered later:
        # the broker tells of an altered setting before all its logs have it.
        await broker.make(name, INGEST.partitions)
    async with AIOKafkaProducer(bootstrap_servers=own_settings.kafka_url) as producer:
        await producer.send_and_wait(name, good[0], partition=0)
        await producer.send_and_wait(name, b'{"data":' + DEEP + b"}", partition=0)
        await producer.send_and_wait(name, msgspec.json.encode(EVENT), partition=0, timestamp_ms=LONG_AGO_MS)
        batch = producer.create_batch()
        for number in range(3):
            headers = [("name", b"x")] if number == 1 else []
            batch.append(timestamp=None, key=None, value=b'{"subject":"before"}', headers=headers)
        batch.close()
        raw = bytearray(batch._build())
        at = raw.index(b"name")
        raw[at : at + 4] = b"\xff\xfe\xfd\xfc"  # a header name that is no UTF-8: aiokafka raises at it
        raw[17:21] = calc_crc32c_py(memoryview(bytes(raw))[21:]).to_bytes(4, "big")
        batch._buffer = raw
        await (await producer.send_batch(batch, name, partition=0))
        await producer.send_and_wait(name, good[1], partition=0)
    return own_settings


@pytest.fixture
def tailed(strange: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tail:
    """Runs `tail` from the beginning in this process; the lines that it printed, and what it said beside them."""
    monkeypatch.setattr(tail, "settings", lambda *_needed: strange)

    async def run(*arguments: str) -> tuple[list[str], str]:
        parser = argparse.ArgumentParser()
        tail.arguments(parser)
        options = parser.parse_args(["--topic", "ingest", "--from-beginning", *arguments])
        async with asyncio.timeout(30):
            assert await tail._tail(options) == 0
        printed = capsys.readouterr()
        return printed.out.splitlines(), printed.err

    return run


async def test_one_stranger_ends_it_for_nobody(tailed: Tail) -> None:
    lines, said = await tailed("--count", "5")
    shown = [line.split(" ", 1)[1].split(" {")[0].split(" <")[0].split(" null")[0] for line in lines]
    assert shown == [
        "order.created first ingest/0@0", "? - ingest/0@1", "order.created order-7 ingest/0@2", "? before ingest/0@3",
        "order.created last ingest/0@6",
    ]  # fmt: skip
    assert lines[2].startswith(NO_TIME)
    assert said == "yeoul: ingest/0@4 to 5: Kafka's client can't take these bytes apart; passed by\n"


async def test_filters_let_through_what_they_name(tailed: Tail) -> None:
    lines, _ = await tailed("--subject", "la*", "--subject", "befor?", "--count", "2")
    assert [line.split()[2] for line in lines] == ["before", "last"]
    lines, _ = await tailed("--type", "order.*", "--subject", "last", "--count", "1")
    assert [line.split()[1:3] for line in lines] == [["order.created", "last"]]


async def test_colours_are_for_a_terminal_alone(tailed: Tail, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, _ = await tailed("--count", "1")
    assert "\x1b" not in "".join(plain)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    coloured, _ = await tailed("--count", "1")
    assert coloured[0].startswith(f"{DIM}following ")
    assert f"{BOLD}{GREEN}order.created{END} {CYAN}first{END}" in coloured[1]


async def test_values_are_printed_as_they_are(tailed: Tail) -> None:
    lines, _ = await tailed("--json", "--count", "2")
    assert lines == [msgspec.json.encode(EVENT | {"subject": "first"}).decode(), f'{{"data":{DEEP.decode()}}}']


async def test_each_event_is_shown_once_unless_its_repeats_are_wanted(
    own_settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = EVENTS_RESOURCES.full_name(own_settings.topic_prefix)
    async with open_broker(own_settings) as broker:
        await broker.make(name, EVENTS_RESOURCES.partitions)
    async with AIOKafkaProducer(bootstrap_servers=own_settings.kafka_url) as producer:
        for offset in (0, 1, 0, 1, 2):
            await producer.send_and_wait(name, sent(offset).value, partition=0)
    monkeypatch.setattr(tail, "settings", lambda *_needed: own_settings)
    parser = argparse.ArgumentParser()
    tail.arguments(parser)
    for wanted, shown in (["--count", "3"], [0, 1, 4]), (["--count", "5", "--repeats"], [0, 1, 2, 3, 4]):
        options = parser.parse_args(["--topic", EVENTS_RESOURCES.name, "--from-beginning", *wanted])
        async with asyncio.timeout(30):
            assert await tail._tail(options) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [int(line.split("/0@")[1].split()[0]) for line in lines] == shown
