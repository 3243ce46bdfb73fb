"""Which mails go out, to whom and how often: the handler over a real database, and a mailbox in memory."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
import pytest_asyncio
from aiokafka.structs import ConsumerRecord

import topics
from agents import mail
from agents.mail import Due, Posting
from config import Settings
from domain.access import Role
from domain.account_mails import Token
from domain.account_states import Account, AccountStatus, Mailing, Purpose, Ticket
from domain.mail_texts import SUBJECTS, Kind
from providers.mail import MailAway, MailDeferred, MailRefused, Message, Unsendable
from security.fields import Sealer
from security.mail_tokens import MailToken, new_nonce
from stores import migrations
from stores.accounts import TABLE
from stores.mails import Mails
from streams.envelope import Unreadable
from streams.groups import Connections
from streams.work import MailServerAway, waits_for
from telemetry import metrics
from tests.stores.given import keep

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Mailbox:
    """A mail server that is asked, and what it says instead of taking a mail."""

    def __init__(self) -> None:
        self.taken: list[Message] = []
        self.says: Exception | None = None
        self.rests = 0

    async def send(self, message: Message) -> None:
        if self.says is not None:
            raise self.says
        self.taken.append(message)

    async def rest(self) -> None:
        self.rests += 1


class Office:
    """The handler, its mailbox, and accounts that have something under way."""

    def __init__(self, connections: Connections) -> None:
        self.connections = connections
        self.settings = connections.settings
        self.mailbox = Mailbox()
        self.posting = Posting(connections, "tests", self.mailbox)
        self.mails = Mails(connections.database)
        self._sealer = Sealer(*self.settings.sealing_keys)

    async def account(self, email: str, language: str | None = None, *, asks: Purpose | None = None) -> Due:
        """A new account, and the mail that is due to it."""
        id, now, nonce = uuid4(), datetime.now(UTC), new_nonce()
        wrapped = self._sealer.new_key(id)
        token: Token | None = None
        tickets: tuple[Ticket, ...] = ()
        if asks is not None:
            made = MailToken.made(self.settings.command_key, self.settings.environment, asks.value, id, nonce)
            token = Token(nonce, made.hash(self.settings.environment, asks.value))
            tickets = (Ticket(asks, token.hash, now + timedelta(hours=1)),)
        state = Account(
            id, self._sealer.seal(wrapped, id, "email", email), "s", None, id.hex * 2, "s", Role.USER,
            AccountStatus.ACTIVE, 1, now, now, language=language, mailing=Mailing(tickets),
        )  # fmt: skip
        database = self.connections.database
        await keep(database, TABLE, state)
        await database.execute("INSERT INTO account_keys VALUES ($1, $2)", id, wrapped)
        kind = Kind.PASSWORD_CHANGED if asks is None else Kind(asks.value)
        return Due(f"{id}.0", "/yeoul/accounts", "", id, kind, now + timedelta(hours=1), token, None)

    async def send(self, *due: Due) -> None:
        await self.posting.follow(due)

    def count(self, kind: Kind, outcome: str) -> float:
        return float(metrics.MAILS.labels(kind.value, outcome)._value.get())


@pytest_asyncio.fixture(loop_scope="session")
async def office(settings: Settings) -> AsyncIterator[Office]:
    await migrations.apply(settings.postgres_url)
    connections = Connections(settings, "tests")
    yield Office(connections)
    await connections.close()


async def test_a_mail_is_in_the_language_of_its_owner_and_its_token_is_good(office: Office) -> None:
    due = await office.account("han@example.org", "ko", asks=Purpose.RESET)
    other = await office.account("mina@example.org")
    await office.send(due, other)
    first, second = office.mailbox.taken
    assert (first.id, first.to, first.subject, first.language) == (
        due.id, "han@example.org", SUBJECTS["ko"][Kind.RESET], "ko",
    )  # fmt: skip
    assert (second.to, second.subject) == ("mina@example.org", SUBJECTS["en"][Kind.PASSWORD_CHANGED])
    (text,) = [line for line in first.text.splitlines() if line.startswith("m1.")]
    token = MailToken.read(text)
    assert token is not None
    assert due.token is not None
    assert token.hash(office.settings.environment, "reset") == due.token.hash
    assert office.mailbox.rests == 1


async def test_a_mail_that_was_sent_is_not_sent_again(office: Office) -> None:
    due = await office.account("han@example.org", asks=Purpose.VERIFY)
    await office.send(due, due)
    await office.send(due)
    assert len(office.mailbox.taken) == 1


async def test_what_stops_in_the_middle_sends_the_rest_and_nothing_twice(office: Office) -> None:
    due = [await office.account(f"n{number}@example.org", asks=Purpose.VERIFY) for number in range(3)]
    take = office.mailbox.send

    async def third_fails(message: Message) -> None:
        office.mailbox.says = MailAway("gone") if len(office.mailbox.taken) == 2 else None
        await take(message)

    office.mailbox.send = third_fails  # type: ignore[method-assign]
    with pytest.raises(MailServerAway) as raised:
        await office.send(*due)
    assert waits_for(raised.value) == "the mail server"
    office.mailbox.send = take  # type: ignore[method-assign]
    office.mailbox.says = None
    await office.send(*due)
    assert sorted(message.to for message in office.mailbox.taken) == [f"n{number}@example.org" for number in range(3)]


@pytest.mark.parametrize("why", ["replaced", "used", "late", "erased"])
async def test_what_is_not_true_any_more_is_not_told(office: Office, why: str) -> None:
    due = await office.account("han@example.org", asks=Purpose.RESET)
    database = office.connections.database
    if why == "late":
        due = msgspec.structs.replace(due, until=datetime.now(UTC) - timedelta(seconds=1))
    elif why == "erased":
        await database.execute("DELETE FROM account_keys WHERE account_id = $1", due.account)
    elif why == "replaced":
        assert due.token is not None
        due = msgspec.structs.replace(due, token=Token(due.token.nonce, "f" * 64))
    else:
        await database.execute("UPDATE accounts SET mailing = '{}' WHERE id = $1", due.account)
    await office.send(due)
    assert office.mailbox.taken == []


async def test_no_address_gets_more_than_so_many_of_a_kind_whoever_asks(office: Office) -> None:
    to = f"victim-{uuid4().hex}@example.org"
    for _ in range(mail.MOST + 3):
        await office.send(await office.account(to.upper(), asks=Purpose.VERIFY))
    assert len(office.mailbox.taken) == mail.MOST
    # What strangers cause keeps nobody from the mail that is asked for.
    await office.send(await office.account(to, asks=Purpose.RESET))
    assert len(office.mailbox.taken) == mail.MOST + 1


async def test_a_mail_that_is_not_taken_now_is_tried_for_a_while(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    due = await office.account("han@example.org", asks=Purpose.RESET)
    office.mailbox.says = MailDeferred("450")
    for _ in range(2):
        with pytest.raises(MailServerAway):
            await office.send(due)
    monkeypatch.setattr(mail, "PATIENCE_S", 0.0)
    with pytest.raises(MailDeferred):
        await office.send(due)


async def test_a_refusal_blames_its_mail_and_no_address_at_all_blames_nobody(office: Office) -> None:
    due = await office.account("han@example.org", asks=Purpose.RESET)
    office.mailbox.says = MailRefused("550")
    with pytest.raises(MailRefused) as raised:
        await office.send(due)
    assert waits_for(raised.value) is None
    before = office.count(Kind.RESET, "unsendable")
    office.mailbox.says = Unsendable("no address")
    await office.send(due)  # else anybody could fill the dead letters by registering
    assert office.count(Kind.RESET, "unsendable") == before + 1


async def test_where_no_server_is_named_nothing_is_sent_and_that_is_said(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    connections = office.connections
    connections.settings = msgspec.structs.replace(connections.settings, smtp_url="")
    posting = Posting(connections, "tests")
    assert any("mail is off" in record.getMessage() for record in caplog.records)
    before = office.count(Kind.RESET, "off")
    await posting.follow([await office.account("han@example.org", asks=Purpose.RESET)])
    assert office.count(Kind.RESET, "off") == before + 1


NEW_YEAR, SOMEBODY = datetime(2026, 1, 1, tzinfo=UTC), UUID(int=1)


def record(kind: str, data: Any, time: datetime = NEW_YEAR, account: UUID = SOMEBODY) -> ConsumerRecord:
    event = {
        "specversion": "1.0", "id": f"{account}.1", "source": "/yeoul/accounts", "type": kind, "subject": str(account),
        "time": time, "sequence": "0", "aggregateversion": 1, "data": data,
    }  # fmt: skip
    value = msgspec.json.encode(event)
    return ConsumerRecord("t", 0, 0, 0, 0, b"", value, None, 0, len(value), [])


async def test_events_that_no_mail_tells_of_are_passed_by(office: Office) -> None:
    token = {"nonce": "0" * 64, "hash": "1" * 64}
    posting = office.posting
    assert posting.decode(record("account.role_changed", {"role": "admin"})) is None
    assert posting.decode(record("account.created", {"email_sealed": "x", "verification": None})) is None
    made = posting.decode(record("account.created", {"verification": token, "expires_at": "2026-01-02T00:00:00Z"}))
    assert made is not None
    assert (made.kind, made.sealed, made.until) == (Kind.VERIFY, None, datetime(2026, 1, 2, tzinfo=UTC))
    changed = posting.decode(record("account.email_changed", {"email_sealed": "new", "was_sealed": "old"}))
    assert changed is not None
    assert (changed.kind, changed.sealed) == (Kind.EMAIL_CHANGED, "old")
    with pytest.raises(Unreadable):
        posting.decode(record("account.reset_requested", {"token": {"nonce": 1}}))


@pytest.mark.parametrize(
    ("happened", "data", "kind", "left"),
    [
        ("enabled", {"step": 5, "recovery": ["0" * 64] * 10}, Kind.SECOND_FACTOR_ON, None),
        ("removed", {"reason": "removed", "was_on": True}, Kind.SECOND_FACTOR_OFF, None),
        ("removed", {"reason": "reset", "was_on": True}, Kind.SECOND_FACTOR_RESET, None),
        ("removed", {"reason": "reset"}, Kind.SECOND_FACTOR_RESET, None),  # of an older version
        ("removed", {"reason": "reset", "was_on": False}, None, None),
        ("removed", {"reason": "erased", "was_on": True}, None, None),
        ("recovery_code_used", {"recovery": "0" * 64, "left": 9}, Kind.RECOVERY_CODE_USED, 9),
        ("recovery_code_used", {"recovery": "0" * 64, "left": None}, Kind.RECOVERY_CODE_USED, None),
        ("recovery_code_used", {"recovery": "0" * 64}, Kind.RECOVERY_CODE_USED, None),
        ("begun", {"secret_sealed": "x", "until": "2026-01-01T00:30:00Z"}, None, None),
        ("code_used", {"step": 5}, None, None),
        ("recovery_codes_renewed", {"recovery": ["0" * 64] * 10}, None, None),
    ],
)
async def test_what_is_told_of_a_second_factor(
    office: Office, happened: str, data: Any, kind: Kind | None, left: int | None
) -> None:
    due = office.posting.decode(record(f"second_factor.{happened}", data))
    assert (due and due.kind, due and due.left) == (kind, left)
    assert due is None or (due.token, due.sealed) == (None, None)


async def test_a_topic_that_is_followed_since_an_upgrade_sends_nobody_old_news(office: Office) -> None:
    """A group begins a topic at its oldest event, which is a week old."""
    account = (await office.account("han@example.org")).account
    data, now = {"step": 5, "recovery": []}, datetime.now(UTC)
    outdated = office.count(Kind.SECOND_FACTOR_ON, "outdated")
    for ago, sent in ((timedelta(days=1, seconds=1), 0), (timedelta(hours=23), 1)):
        due = office.posting.decode(record("second_factor.enabled", data, now - ago, account))
        assert due is not None
        await office.send(due)
        assert len(office.mailbox.taken) == sent
    assert office.count(Kind.SECOND_FACTOR_ON, "outdated") == outdated + 1
    assert topics.EVENTS_SECOND_FACTORS in mail.GROUP.topics


async def test_a_mail_of_a_used_recovery_code_says_how_many_are_left(office: Office) -> None:
    account = (await office.account("han@example.org", "ko")).account
    used = {"recovery": "ab" * 32, "left": 3}
    due = office.posting.decode(record("second_factor.recovery_code_used", used, datetime.now(UTC), account))
    assert due is not None
    await office.send(due)
    (message,) = office.mailbox.taken
    assert (message.to, message.subject) == ("han@example.org", SUBJECTS["ko"][Kind.RECOVERY_CODE_USED])
    assert "남은 복구 코드: 3개" in message.text
    assert "abab" not in message.text
