"""The database is brought up to date once, however often and however many at a time ask for it."""

import asyncio
import shutil
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from config import Settings
from stores import StoresUnfit, migrations

NAMES = sorted(path.stem for path in migrations._FOLDER.glob("[0-9]*.sql"))


async def tables(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {row["tablename"] for row in rows}
    finally:
        await connection.close()


async def test_from_empty_then_nothing_more(own_settings: Settings) -> None:
    assert await tables(own_settings.postgres_url) == set()
    assert await migrations.apply(own_settings.postgres_url) == NAMES
    assert {"progress", "journal", "operations", "resources", "accounts", "migrations"} <= await tables(
        own_settings.postgres_url
    )
    assert await migrations.apply(own_settings.postgres_url) == []


async def test_several_starts_at_once_apply_each_file_once(own_settings: Settings) -> None:
    applied = await asyncio.gather(*(migrations.apply(own_settings.postgres_url) for _ in range(4)))
    assert sorted(name for names in applied for name in names) == NAMES


async def test_a_version_before_the_newest_goes_on_writing(
    own_settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Until its last worker is replaced. What it wrote before is kept too."""
    for name in ("0001_spine", "0002_event_counts"):
        shutil.copy(migrations._FOLDER / f"{name}.sql", tmp_path)
    with monkeypatch.context() as old:
        old.setattr(migrations, "_FOLDER", tmp_path)
        await migrations.apply(own_settings.postgres_url)
    connection = await asyncpg.connect(own_settings.postgres_url)
    insert = """INSERT INTO resources (id, kind, title, body, tags, attributes, visibility, status, owner_id, version,
                    created_at, updated_at)
                SELECT gen_random_uuid(), 'note', 't', '', tags, attributes, 'public', 'open', gen_random_uuid(), 1,
                    now(), now() FROM unnest($1::jsonb[], $2::jsonb[]) AS w(tags, attributes)"""
    try:
        await connection.execute(insert, ['["a"]'], ['{"n": 1.0}'])
        await migrations.apply(own_settings.postgres_url)
        await connection.execute(insert, ['["a"]'], ['{"n": 1.0}'])
        rows = await connection.fetch("SELECT tags::text, attributes::text FROM resources")
        assert [tuple(row) for row in rows] == [('["a"]', '{"n": 1.0}')] * 2
    finally:
        await connection.close()


async def test_dead_letters_get_what_their_commands_name(
    own_settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in NAMES[: NAMES.index("0016_operations_of_dead_letters")]:
        shutil.copy(migrations._FOLDER / f"{name}.sql", tmp_path)
    with monkeypatch.context() as old:
        old.setattr(migrations, "_FOLDER", tmp_path)
        await migrations.apply(own_settings.postgres_url)
    operation, actor, subject = uuid4(), uuid4(), uuid4()
    good = f'{{"operation":"{operation}","actor":"{actor}","subject":"{subject}"}}'.encode()
    deep = b'{"operation":' + b"[" * 100_000
    letters = [
        ("y.commands.resources", value)
        for value in (good, None, b"", b"\xff", b"[]", b"1", b'{"operation":1}', b'{"operation":"\\u0000"}', deep, good)
    ]
    connection = await asyncpg.connect(own_settings.postgres_url)
    try:
        await connection.executemany(
            """INSERT INTO dead_letters (consumer_group, topic, topic_id, partition, "offset", value, headers, code,
                   error, handler, attempts)
               VALUES ('g', $1, gen_random_uuid(), 0, 0, $2, '[]', 'c', '', 'h', 1)""",
            [*letters, ("y.events.resources", good)],
        )
        await migrations.apply(own_settings.postgres_url)
        rows = await connection.fetch("SELECT operation, actor, subject FROM dead_letters ORDER BY id")
    finally:
        await connection.close()
    known, unknown = (operation, actor, subject), (None, None, None)
    assert [tuple(row) for row in rows] == [known, *[unknown] * 8, known, (None, None, subject)]


async def test_parked_events_get_what_they_are_about_and_are_looked_for_where_an_erasure_was(
    own_settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in NAMES[: NAMES.index("0018_whose_words_parked_events_hold")]:
        shutil.copy(migrations._FOLDER / f"{name}.sql", tmp_path)
    with monkeypatch.context() as old:
        old.setattr(migrations, "_FOLDER", tmp_path)
        await migrations.apply(own_settings.postgres_url)
    erased, swept = uuid4(), uuid4()
    good = f'{{"subject":"{erased}","data":{{"title":"t"}}}}'.encode()
    deep = b'{"subject":' + b"[" * 100_000
    values = (good, None, b"", b"\xff", b"[]", b"1", b'{"subject":1}', b'{"subject":"\\u0000"}', deep)
    connection = await asyncpg.connect(own_settings.postgres_url)
    try:
        await connection.execute(
            """INSERT INTO resources (id, kind, title, body, tags, attributes, visibility, status, owner_id, version,
                   created_at, updated_at, deleted_at, journal_emptied_at)
               SELECT id, 'note', '', '', '[]', '{}', 'public', '', id, 1, now(), now(), now(), now()
               FROM unnest($1::uuid[]) AS id""",
            [erased, swept],
        )
        await connection.executemany(
            """INSERT INTO dead_letters (consumer_group, topic, topic_id, partition, "offset", value, headers, code,
                   error, handler, attempts)
               VALUES ('g', $1, gen_random_uuid(), 0, 0, $2, '[]', 'c', '', 'h', 1)""",
            [*(("y.events.resources", value) for value in values), ("y.events.accounts", good), ("y.ingest", good)],
        )
        await migrations.apply(own_settings.postgres_url)
        rows = await connection.fetch("SELECT subject, value FROM dead_letters ORDER BY id")
        left = await connection.fetch("SELECT id FROM resources WHERE journal_emptied_at IS NULL")
    finally:
        await connection.close()
    assert [row["subject"] for row in rows] == [erased, *[None] * 8, erased, None]
    assert [row["value"] for row in rows] == [*values, good, good]
    assert [row["id"] for row in left] == [erased]


async def test_a_file_that_fails_leaves_nothing_and_is_tried_again(
    own_settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    good = tmp_path / "0001_good.sql"
    bad = tmp_path / "0002_bad.sql"
    good.write_text("CREATE TABLE good (id int)")
    bad.write_text("CREATE TABLE half (id int); SELECT nothing_of_the_kind()")
    monkeypatch.setattr(migrations, "_FOLDER", tmp_path)
    with pytest.raises(StoresUnfit, match="does not exist; HINT: "):
        await migrations.apply(own_settings.postgres_url)
    assert await tables(own_settings.postgres_url) == {"good", "migrations"}
    bad.write_text("CREATE TABLE whole (id int)")
    assert await migrations.apply(own_settings.postgres_url) == ["0002_bad"]
    assert await tables(own_settings.postgres_url) == {"good", "whole", "migrations"}
