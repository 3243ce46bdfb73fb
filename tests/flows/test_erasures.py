"""What an erasure of an account reaches: at once, by the groups that follow it, and by the sweep."""

from uuid import UUID, uuid4

import msgspec
import pytest

from agents import erasures
from security import fields
from stores.dead_letters import ERASED, Letter, park
from streams.groups import Connections
from tests.flows.clients import PASSWORD, Caller, address_of, admin_of
from tests.flows.harness import System, until
from topics import COMMANDS_ACCOUNTS, COMMANDS_RESOURCES, EVENTS_RESOURCES, INGEST

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def swept(installation: System) -> None:
    """Once, as each worker does it now and then."""
    connections = Connections(installation.settings, "tests")
    await connections.broker.start()
    try:
        sweeper = erasures.Sweeper(connections)
        await sweeper.accounts()
        await sweeper.resources()
    finally:
        await connections.close()


async def test_an_erasure_reaches_row_journal_key_address_resources_cache_and_search(served: System) -> None:
    guest = Caller(served.url)
    email = address_of("mina")
    mina = await guest.register(email, name="Mina of the rapids", phone="+82 10 1234 5678")
    jun, admin = await guest.register(address_of("jun")), await admin_of(served, guest)
    index = fields.index(served.settings.index_key, email)
    ids = []
    for n in range(8):
        note = {
            "kind": "note", "title": f"weir {n}", "body": "the weir", "tags": ["weir"], "attributes": {"weir": [n]},
            "visibility": "public" if n % 2 else "private", "status": "weir",
        }  # fmt: skip
        status, made = await mina.ask("POST", "/resources", note)
        assert status == 201
        ids.append(made["id"])
        assert (await mina.ask("GET", f"/resources/{made['id']}"))[0] == 200  # and so it is cached
    _, others = await jun.ask("POST", "/resources", {"kind": "note", "title": "of another", "visibility": "public"})
    assert (await mina.ask("PATCH", "/users/me", {"name": "Mina again"}))[0] == 200
    assert (await guest.ask("POST", "/auth/login", {"email": email, "password": PASSWORD}))[0] == 200
    assert (await mina.ask("PATCH", f"/resources/{ids[1]}", {"title": "another weir"}))[0] == 200
    assert (await mina.ask("DELETE", f"/resources/{ids[0]}"))[0] == 204
    assert len((await admin.ask("GET", "/resources?q=weir"))[1]) == 7
    assert ids[0] in {one["id"] for one in (await admin.ask("GET", "/resources?deleted=true&limit=100"))[1]}

    whole = await mina.export()
    assert (whole["account"]["name"], whole["account"]["phone"]) == ("Mina again", "+82 10 1234 5678")
    assert [event["type"] for event in whole["account_history"]] == ["account.created", "account.updated"]
    assert [one["id"] for one in whole["resources"]] == sorted(ids)
    assert {len(one["history"]) for one in whole["resources"] if one["id"] not in ids[:2]} == {1}
    deleted = next(one for one in whole["resources"] if one["id"] == ids[0])
    assert [event["type"] for event in deleted["history"]] == ["resource.created", "resource.deleted"]

    stores = served.stores
    with stores.redis.use() as client:
        assert await client.exists(f"{stores.redis.prefix}:familiar:{mina.id}")
    key = await stores.accounts.key(UUID(mina.id))
    assert key is not None
    assert (await mina.ask("DELETE", "/users/me", {"password": PASSWORD}))[0] == 204
    # What others see of it goes by itself, from the cache too.

    async def gone() -> bool:
        rows = await stores.database.fetch(
            "SELECT id FROM resources WHERE title <> '' AND owner_id = ANY($1)", [mina.id, jun.id]
        )
        return [str(row["id"]) for row in rows] == [others["id"]]

    await until(gone, 30, "the resources of an erased account are erased")
    await served.until_published()  # and what follows a commit was done, the cache first of all
    assert {(await admin.ask("GET", f"/resources/{id}"))[0] for id in ids} == {404}
    assert (await jun.ask("GET", f"/resources/{others['id']}"))[0] == 200
    owned = "SELECT * FROM resources WHERE owner_id = $1"
    rows = await stores.database.fetch(owned, UUID(mina.id))
    assert len(rows) == 8
    assert all(row["deleted_at"] is not None for row in rows)
    await swept(served)
    told = await stores.database.fetch(
        "SELECT event, version FROM journal WHERE noun = 'resources' AND aggregate_id = ANY($1)", ids
    )
    assert len(told) == 8 + 1 + 8 + 8  # created, one updated, deleted, erased
    assert "weir" not in repr([*rows, *told])
    # Nothing is found of it, nothing listed, and nothing comes back.
    assert (await admin.ask("GET", "/resources?q=weir"))[1] == []
    assert (await admin.ask("GET", "/resources?filter[tags][contains]=weir"))[1] == []
    listed = (await admin.ask("GET", "/resources?deleted=true&limit=100"))[1]
    assert not {one["id"] for one in listed} & set(ids)
    assert await admin.ask("POST", f"/resources/{ids[0]}/restore") == (410, "RESTORE_EXPIRED")
    status, history = await admin.ask("GET", f"/resources/{ids[1]}/history")
    assert [(one["type"], set(one["data"])) for one in history] == [
        (f"resource.{what}", {"kind", "visibility", "owner_id"}) for what in ("created", "updated", "deleted", "erased")
    ]  # fmt: skip
    with served.stores.redis.use() as client:
        assert not await client.exists(f"{served.stores.redis.prefix}:familiar:{mina.id}")

    row = await stores.accounts.get(UUID(mina.id))
    assert row is not None
    assert (row.email_sealed, row.name_sealed, row.phone_sealed, row.password_sealed, row.email_index) == (
        "", "", None, "", None,
    )  # fmt: skip
    assert await stores.accounts.key(UUID(mina.id)) is None
    claims = await stores.database.fetch(
        "SELECT account_id FROM account_claims WHERE account_id = ANY($1) OR email_index = $2",
        [mina.id, jun.id, admin.id], index,
    )  # fmt: skip
    assert {str(row["account_id"]) for row in claims} == {jun.id, admin.id}
    # What the journal has of it is sealed by a key that is nowhere any more, and names no address.
    told = await stores.database.fetch(
        "SELECT event FROM journal WHERE noun = 'accounts' AND aggregate_id = $1 ORDER BY version", UUID(mina.id)
    )
    assert [msgspec.json.decode(row["event"])["type"] for row in told] == [
        "account.created", "account.updated", "account.erased",
    ]  # fmt: skip
    assert not any(index in row["event"] for row in told)
    everything = await stores.database.fetch(
        "SELECT account_id FROM account_keys WHERE wrapped = $1 OR account_id = $2", key, UUID(mina.id)
    )
    assert everything == []
    operations = await stores.database.fetch("SELECT encode(answer, 'escape') AS answer FROM operations")
    assert not any("Mina " in row["answer"] or index in row["answer"] for row in operations)


async def test_what_an_erased_account_had_under_way_is_erased_later(writing: System) -> None:
    guest = Caller(writing.url)
    mina = await guest.register(address_of("mina"))
    assert (await mina.ask("DELETE", "/users/me", {"password": PASSWORD}))[0] == 204
    # Nothing says that the token is no longer good: as a command that was in Kafka before the erasure.
    note = {"kind": "note", "title": "later words", "visibility": "public"}
    status, late = await mina.ask("POST", "/resources", note)
    assert status == 201
    await swept(writing)

    async def gone() -> bool:
        return (await guest.ask("GET", f"/resources/{late['id']}"))[0] == 404

    await until(gone, 30, "what came later is erased")
    await swept(writing)
    for query in ("SELECT * FROM resources WHERE id = $1", "SELECT * FROM journal WHERE aggregate_id = $1"):
        rows = await writing.stores.database.fetch(query, UUID(late["id"]))
        assert rows
        assert "later words" not in repr(rows)


async def test_an_erasure_reaches_commands_in_dead_letters_and_an_account_erased_long_ago(writing: System) -> None:
    guest, stores, prefix = Caller(writing.url), writing.stores, writing.settings.topic_prefix
    mina, jun = await guest.register(address_of("mina")), await guest.register(address_of("jun"))
    note = {"kind": "note", "title": "their words", "visibility": "public"}
    hers, his = [(await one.ask("POST", "/resources", note))[1]["id"] for one in (mina, jun)]

    def letter(
        offset: int, actor: str | None, subject: str | None = None, topic: str = COMMANDS_RESOURCES.name
    ) -> Letter:
        return Letter(
            group="erased", topic=f"{prefix}.{topic}", topic_id=uuid4(), partition=0, offset=offset, key=b"k",
            value=b"their words", headers=(("h", b"their words"),), produced_at=1, code="handler_failed",
            error="their words", handler="h", attempts=3, operation=uuid4(), actor=UUID(actor) if actor else None,
            subject=UUID(subject) if subject else uuid4(),
        )  # fmt: skip

    reached = [letter(0, mina.id), letter(1, mina.id), letter(2, jun.id, hers)]
    others = [
        letter(3, jun.id), letter(4, jun.id, his), letter(5, mina.id, topic=COMMANDS_ACCOUNTS.name),
        letter(6, None, topic=INGEST.name), letter(7, mina.id),
    ]  # fmt: skip
    async with stores.database.connection() as connection:
        await park(connection, [*reached, *others])
    query = "SELECT * FROM dead_letters WHERE consumer_group = 'erased' ORDER BY \"offset\""
    ids = [row["id"] for row in await stores.database.fetch(query)]
    assert await stores.dead_letters.settle(ids[1], "replayed")
    assert await stores.dead_letters.settle(ids[7], "requested")  # its group is about to take it, and then it may go
    await swept(writing)
    assert all(row["value"] == b"their words" for row in await stores.database.fetch(query))

    assert (await mina.ask("DELETE", "/users/me", {"password": PASSWORD}))[0] == 204
    # No worker was there to follow, for days.
    await stores.database.execute(
        "UPDATE accounts SET updated_at = updated_at - interval '40 days' WHERE id = $1", UUID(mina.id)
    )
    await swept(writing)

    async def gone() -> bool:
        return (await guest.ask("GET", f"/resources/{hers}"))[0] == 404

    await until(gone, 30, "what was left behind is erased")
    await swept(writing)
    rows = await stores.database.fetch(query)
    assert [row["state"] for row in rows] == ["dropped", "replayed", "dropped", *["parked"] * 4, "requested"]
    assert [(row["value"], row["headers"], row["error"]) for row in rows[:3]] == [(None, "[]", ERASED)] * 3
    assert all(row["settled_at"] for row in rows[:3])
    assert [row["value"] for row in rows[3:]] == [b"their words"] * 5
    assert (await stores.dead_letters.get(ids[0])).value is None  # type: ignore[union-attr]
    told = await stores.database.fetch("SELECT event FROM journal WHERE aggregate_id = $1", UUID(hers))
    assert told
    assert "their words" not in repr(told)
    await stores.database.execute("DELETE FROM dead_letters WHERE consumer_group = 'erased'")


async def test_an_erasure_reaches_parked_events_whenever_they_were_parked(writing: System) -> None:
    guest, stores, prefix = Caller(writing.url), writing.stores, writing.settings.topic_prefix
    mina, jun = await guest.register(address_of("mina")), await guest.register(address_of("jun"))
    note = {"kind": "note", "title": "their words", "body": "their words", "attributes": {"their words": 1}}
    hers, his = [(await one.ask("POST", "/resources", note))[1]["id"] for one in (mina, jun)]

    async def event(id: str) -> bytes:
        row = await stores.database.fetchrow("SELECT event::text FROM journal WHERE aggregate_id = $1", UUID(id))
        return bytes(row["event"].encode())

    async def parked(*events: tuple[str | None, bytes]) -> None:
        letters = [
            Letter(
                group="behind", topic=EVENTS_RESOURCES.full_name(prefix), topic_id=uuid4(), partition=0, offset=0,
                key=b"k", value=value, headers=(), produced_at=1, code="handler_failed", error="their words",
                handler="h", attempts=3, subject=UUID(id) if id else None,
            )
            for id, value in events
        ]  # fmt: skip
        async with stores.database.connection() as connection:
            await park(connection, letters)

    rubbish = b"\xff their words"
    told = await event(hers)
    await parked((hers, told), (his, await event(his)), (hers, rubbish), (hers, b'"their words"'), (None, rubbish))
    before = await stores.database.fetch("SELECT * FROM dead_letters WHERE consumer_group = 'behind' ORDER BY id")
    await swept(writing)
    assert (await mina.ask("DELETE", "/users/me", {"password": PASSWORD}))[0] == 204

    async def erased() -> list[UUID]:
        # No reader of accounts runs: the sweep itself has it erased.
        await swept(writing)
        return [
            row["id"]
            for row in await stores.database.fetch(
                "SELECT id FROM resources WHERE id = $1 AND journal_emptied_at IS NOT NULL", UUID(hers)
            )
        ]

    await until(erased, 30, "nothing is left of the resource")
    # A reader that was far behind comes by.
    await parked((hers, told))
    await swept(writing)
    first, *others, late = await stores.database.fetch(
        "SELECT * FROM dead_letters WHERE consumer_group = 'behind' ORDER BY id"
    )
    was = msgspec.json.decode(told)
    for row in (first, late):
        assert "their words" not in repr(row)
        left = {name: was["data"][name] for name in ("kind", "visibility", "owner_id")}
        assert msgspec.json.decode(row["value"]) == was | {"data": left}
        assert (row["state"], row["settled_at"], row["error"]) == ("parked", None, ERASED)
    for row, there in zip(others, before[1:], strict=True):
        assert dict(row) | {"subject": None} == dict(there) | {"subject": None}
    assert await erased()
    await stores.database.execute("DELETE FROM dead_letters WHERE consumer_group = 'behind'")


async def test_a_worker_that_missed_an_erasure_follows_it_later_and_once(writing: System) -> None:
    guest = Caller(writing.url)
    mina = await guest.register(address_of("mina"))
    ids = [(await mina.ask("POST", "/resources", {"kind": "note", "title": str(n)}))[1]["id"] for n in range(30)]
    assert (await mina.ask("DELETE", "/users/me", {"password": PASSWORD}))[0] == 204
    for _ in range(2):
        reader = writing.worker("erasures")
        await reader.start()

        async def gone() -> bool:
            rows = await writing.stores.database.fetch(
                "SELECT id FROM resources WHERE title <> '' AND owner_id = $1", UUID(mina.id)
            )
            return not rows

        await until(gone, 30, "the resources are erased")
        await reader.stop()
        # Read once more from the beginning: the commands are known by their operations.
        await writing.stores.database.execute(
            "UPDATE progress SET next_offset = 0, sequence = '' WHERE consumer_group LIKE '%.erasures'"
        )
    await writing.until_published()
    events, _ = await writing.events()
    # Beside them, what another test's erased account had, if it came first.
    for kind in ("resource.deleted", "resource.erased"):
        ended = [event["subject"] for event in events if event["type"] == kind and event["subject"] in ids]
        assert sorted(ended) == sorted(ids), kind
