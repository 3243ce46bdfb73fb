"""Mails from end to end: a worker, a front, and a mail server that takes, refuses and is away."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import msgspec
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition

from cli.orders import order
from config import Settings
from domain.access import Role
from domain.mail_texts import Kind
from domain.second_factors import ResetSecondFactor
from security import totp
from tests.flows.clients import PASSWORD, Caller
from tests.flows.harness import System, system, until
from tests.flows.mail_server import EN, Server

pytestmark = pytest.mark.asyncio(loop_scope="session")

OTHER_PASSWORD = "another of these"
GROUPS = ("accounts", "sessions", "revocations", "mail")


@pytest_asyncio.fixture(loop_scope="session")
async def server() -> AsyncIterator[Server]:
    server = Server()
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def installation(own_settings: Settings, server: Server, tmp_path: Any) -> AsyncIterator[System]:
    url = f"smtp://127.0.0.1:{server.port}"
    async with system(msgspec.structs.replace(own_settings, smtp_url=url), tmp_path) as running:
        yield running


async def written(settings: Settings, *names: str) -> bytes:
    """Everything that stands in these topics."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_url, enable_auto_commit=False)
    await consumer.start()
    try:
        places = [TopicPartition(f"{settings.topic_prefix}.{name}", part) for name in names for part in range(4)]
        consumer.assign(places)
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(places)
        found = []
        while any([await consumer.position(place) < ends[place] for place in places]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += [record.value for record in records]
        return b"\n".join(found)
    finally:
        await consumer.stop()


async def login(guest: Caller, email: str, password: str = PASSWORD) -> Caller | None:
    status, data = await guest.ask("POST", "/auth/login", {"email": email, "password": password})
    return Caller(guest.url, data["access_token"]) if status == 200 else None


async def test_an_account_is_verified_its_password_forgotten_and_its_address_changed(
    installation: System, server: Server
) -> None:
    guest = Caller(await installation.serve(*GROUPS))
    mina = await guest.register("mina@example.com")
    token = await server.token("mina@example.com", Kind.VERIFY)
    assert (await guest.ask("POST", "/auth/verify-email", {"token": token}))[0] == 204
    assert (await mina.ask("GET", "/users/me"))[1]["email_verified"] is True
    tokens = [token]

    # A forgotten password: nobody else gets a mail, the token is good once, and every session ends.
    for address in ("mina@example.com", "nobody@example.com"):
        assert await guest.ask("POST", "/auth/forgot-password", {"email": address}) == (202, {"status": "accepted"})
    token = await server.token("mina@example.com", Kind.RESET)
    answers = await asyncio.gather(
        *(guest.ask("POST", "/auth/reset-password", {"token": token, "password": OTHER_PASSWORD}) for _ in range(4))
    )
    assert sorted(answers, key=str) == [(204, None), *[(403, "MAIL_TOKEN_INVALID")] * 3]
    tokens.append(token)
    assert await login(guest, "mina@example.com") is None

    async def ended() -> bool:
        return (await mina.ask("GET", "/users/me")) == (401, "SESSION_ENDED")

    await until(ended, 30, "a reset ends the sessions")
    here, there = [await login(guest, "mina@example.com", OTHER_PASSWORD) for _ in range(2)]
    assert here is not None
    assert there is not None

    # Another address: the new one confirms, the old one is told, and the session that asked goes on.
    change = {"password": OTHER_PASSWORD, "email": "new@example.com"}
    assert (await here.ask("PUT", "/users/me/email", change))[0] == 202
    token = await server.token("new@example.com", Kind.CHANGE)
    assert (await guest.ask("POST", "/auth/confirm-email", {"token": token}))[0] == 204
    tokens.append(token)

    async def told() -> bool:
        ends = (await there.ask("GET", "/users/me")) == (401, "SESSION_ENDED")
        return ends and server.to("mina@example.com")[-1] == EN[Kind.EMAIL_CHANGED]

    await until(told, 30, "the old address is told, and the other session ends")
    assert (await here.ask("GET", "/users/me"))[1]["email"] == "new@example.com"
    assert await login(guest, "mina@example.com", OTHER_PASSWORD) is None
    assert server.to("mina@example.com") == [
        EN[kind] for kind in (Kind.VERIFY, Kind.RESET, Kind.PASSWORD_CHANGED, Kind.EMAIL_CHANGED)
    ]
    assert server.to("nobody@example.com") == []
    # The address that was given up is anybody's.
    jun = await guest.register("mina@example.com")

    # Neither topics nor tables hold a token, and no event an address.
    await installation.until_published()
    said = await written(installation.settings, "commands.accounts", "events.accounts")
    assert b"reset_requested" in said
    assert not any(token.encode() in said or b"example.com" in said for token in tokens)
    rows = await installation.stores.database.fetch("SELECT mailing::text AS text FROM accounts")
    assert not any(token in row["text"] for token in tokens for row in rows)

    # What was sent is exported, and erased with the account.
    exported = await here.export()
    assert [mail["kind"] for mail in exported["mails"]] == [
        "verify", "reset", "password_changed", "change", "email_changed",
    ]  # fmt: skip
    assert (await here.ask("DELETE", "/users/me", {"password": OTHER_PASSWORD}))[0] == 204
    stores = installation.stores
    assert await stores.mails.of(UUID(exported["account"]["id"])) == []
    told_of = await stores.database.fetch(
        "SELECT event FROM journal WHERE noun = 'accounts' AND aggregate_id = $1", UUID(exported["account"]["id"])
    )
    index = "0" * 64
    indexes = [
        event["data"]["email_index"] for row in told_of if "email_index" in (event := json.loads(row["event"]))["data"]
    ]
    assert set(indexes) == {index}
    claims = await stores.database.fetch("SELECT account_id FROM account_claims")
    assert [str(row["account_id"]) for row in claims] == [jun.id]


async def test_of_two_who_confirm_one_address_at_once_one_has_it(installation: System, server: Server) -> None:
    guest = Caller(await installation.serve(*GROUPS))
    callers = [await guest.register(f"{name}@example.com") for name in ("mina", "jun")]
    tokens = []
    for number, caller in enumerate(callers, start=1):
        change = {"password": PASSWORD, "email": "one@example.com"}
        assert (await caller.ask("PUT", "/users/me/email", change))[0] == 202
        tokens.append(await server.token("one@example.com", Kind.CHANGE, number))
    answers = await asyncio.gather(
        *(guest.ask("POST", "/auth/confirm-email", {"token": token}) for token in tokens),
        guest.ask("POST", "/auth/register", {"email": "one@example.com", "password": OTHER_PASSWORD}),
    )
    assert sum(status < 300 for status, _ in answers) == 1
    assert {code for status, code in answers if status >= 400} == {"EMAIL_TAKEN"}
    emails = [row["email_index"] for row in await installation.stores.database.fetch("SELECT * FROM accounts")]
    claims = [row["email_index"] for row in await installation.stores.database.fetch("SELECT * FROM account_claims")]
    assert sorted(emails) == sorted(claims)


async def test_a_server_that_is_away_is_waited_for_and_one_that_refuses_leaves_a_dead_letter(
    installation: System, server: Server
) -> None:
    guest = Caller(await installation.serve(*GROUPS))
    await server.stop()
    await guest.register("mina@example.com")
    worker = installation._processes[0]

    async def waiting() -> bool:
        return "mail waits" in worker.log.read_text()

    await until(waiting, 30, "the worker says that it waits")
    await worker.ready()  # it does everything else
    await server.start()
    await server.token("mina@example.com", Kind.VERIFY)

    server.refuses = "jun@example.com"
    await guest.register("jun@example.com")
    database = installation.stores.database

    async def parked() -> Any:
        return await database.fetch("SELECT id, code, error, attempts FROM dead_letters WHERE state = 'parked'")

    (letter,) = await until(parked, 30, "a dead letter")
    assert (letter["code"], letter["attempts"]) == ("handler_failed", 3)
    assert "550 5.1.1" in letter["error"]
    assert "jun@" not in letter["error"]
    await guest.register("han@example.com")
    await server.token("han@example.com", Kind.VERIFY)  # the others pass

    server.refuses = ""
    await database.execute("UPDATE dead_letters SET state = 'requested' WHERE id = $1", letter["id"])
    await server.token("jun@example.com", Kind.VERIFY)
    assert "jun@" not in worker.log.read_text()

    # However often the batch was tried, with those before it in it.
    assert [len(server.to(f"{name}@example.com")) for name in ("mina", "jun", "han")] == [1] * 3
    ids = [mail["Message-ID"] for mail in server.mails]
    assert len(set(ids)) == len(ids)


async def test_whose_second_factor_changes_is_told_and_told_no_secret(installation: System, server: Server) -> None:
    guest = Caller(await installation.serve(*GROUPS, "second_factors"))
    mina = await guest.register("mina@example.com")
    path = "/users/me/second-factor"
    secrets: list[str] = []

    async def told(*kinds: Kind) -> None:
        subjects = [EN[kind] for kind in kinds]

        async def last() -> bool:
            got = [subject for subject in server.to("mina@example.com") if subject != EN[Kind.VERIFY]]
            return got[-len(subjects) :] == subjects

        await until(last, 30, f"mails of {kinds}, after {len(server.mails)}")

    def used() -> list[str]:
        return [str(mail.get_content()) for mail in server.mails if mail["Subject"] == EN[Kind.RECOVERY_CODE_USED]]

    async def enable() -> list[str]:
        status, shown = await mina.ask("POST", path, {"password": PASSWORD})
        assert status == 201
        secrets.append(shown["secret"])
        code = totp.code_of(shown["secret"], int(time.time()) // totp.STEP_S)
        status, shown = await mina.ask("POST", f"{path}/confirm", {"code": code})
        assert status == 200
        codes: list[str] = shown["recovery_codes"]
        secrets.extend(codes)
        return codes

    first, second, *_ = await enable()
    await told(Kind.SECOND_FACTOR_ON)
    login = {"email": "mina@example.com", "password": PASSWORD, "code": first}
    assert (await guest.ask("POST", "/auth/login", login))[0] == 200
    await told(Kind.SECOND_FACTOR_ON, Kind.RECOVERY_CODE_USED)
    assert "left: 9." in used()[-1]
    assert (await mina.ask("DELETE", path, {"code": second}))[0] == 204
    await told(Kind.RECOVERY_CODE_USED, Kind.RECOVERY_CODE_USED, Kind.SECOND_FACTOR_OFF)
    assert "left:" not in used()[-1]  # they have ended with it

    await enable()
    admin = Caller(guest.url, await installation.token("admin@example.com", Role.ADMIN))
    assert (await admin.ask("DELETE", f"/users/{mina.id}/second-factor"))[0] == 204
    await told(Kind.SECOND_FACTOR_ON, Kind.SECOND_FACTOR_RESET)
    await enable()
    settings = installation.settings
    await order(settings, "mina@example.com", "second_factors", "reset_second_factor", ResetSecondFactor())
    await told(Kind.SECOND_FACTOR_RESET, Kind.SECOND_FACTOR_ON, Kind.SECOND_FACTOR_RESET)

    texts = [f"{mail['Subject']}{mail.get_content()}" for mail in server.mails]
    assert [secret for secret in secrets for text in texts if secret in text] == []

    async def noted() -> bool:
        kinds = [mail["kind"] for mail in (await mina.export())["mails"]]
        counts = [kinds.count(f"second_factor_{what}") for what in ("on", "off", "reset")]
        return [*counts, kinds.count("recovery_code_used")] == [3, 1, 2, 2]

    await until(noted, 30, "the export shows each of them")
