"""Events of accounts and of their second factors → mails to their owners.

event → what is still true of the account → the mail server takes the mail → it is noted → the position moves

No topic and no table holds a token: it is made here, of the nonce that the event tells, for the mail alone. One whose
token was used or replaced meanwhile is not sent. Each that was sent is noted before the next, so a batch that is read
again sends none twice; a crash between the two sends one again, with the same Message-ID. A mail server that is away is
waited for, as a store is; a mail that it refuses becomes a dead letter; and no address gets more than MOST of a kind in
a day, whoever asks for them.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic
from uuid import UUID

import msgspec
from aiokafka.structs import ConsumerRecord

import topics
from domain.account_mails import LIFETIMES, MOST_A_DAY, Token
from domain.account_states import AccountStatus, Purpose
from domain.mail_texts import Kind, render
from domain.second_factors import Reason
from providers.mail import Mail, MailAway, MailDeferred, Message, Unsendable
from providers.smtp import Smtp
from security import fields
from security.fields import Sealer
from security.mail_tokens import MailToken
from stores.accounts import Accounts
from stores.mails import Mails
from streams.consequences import read_cause
from streams.groups import Connections, ReaderGroup
from streams.readers import Follower
from streams.work import MailServerAway
from telemetry import metrics

log = logging.getLogger("yeoul.agents.mail")

NAME = "mail"
KINDS: Mapping[str, Kind] = {
    "account.created": Kind.VERIFY,
    "account.verification_requested": Kind.VERIFY,
    "account.reset_requested": Kind.RESET,
    "account.email_change_requested": Kind.CHANGE,
    "account.email_changed": Kind.EMAIL_CHANGED,
    "account.password_changed": Kind.PASSWORD_CHANGED,
    "account.registration_tried": Kind.REGISTRATION_TRIED,
    "second_factor.enabled": Kind.SECOND_FACTOR_ON,
    "second_factor.removed": Kind.SECOND_FACTOR_OFF,
    "second_factor.recovery_code_used": Kind.RECOVERY_CODE_USED,
}
"""Events that a mail tells of."""
MOST = MOST_A_DAY
"""Mails of one kind to one address within a day."""
NEWS = timedelta(days=1)
"""How long something is worth telling. A group begins a topic at its oldest event: nothing older than this is told."""
PATIENCE_S = 300.0
"""How long a mail that the server does not take now is tried, seconds; others wait behind it."""


class _Data(msgspec.Struct, frozen=True):
    token: Token | None = None
    verification: Token | None = None
    expires_at: datetime | None = None
    email_sealed: str | None = None
    was_sealed: str | None = None
    reason: str = ""
    was_on: bool = True
    left: int | None = None


class Due(msgspec.Struct, frozen=True):
    """A mail that follows from an event. `sealed`: the address, where it is not the one that the account has.

    `left`: how many recovery codes are, where one was used and that is known.
    """

    id: str
    source: str
    sequence: str
    account: UUID
    kind: Kind
    until: datetime
    token: Token | None
    sealed: str | None
    left: int | None = None


_data = msgspec.json.Decoder(_Data)


class Posting(Follower):
    """Sends them. `mail`: who delivers; None where no server is named, and then nothing is sent."""

    name = NAME

    def __init__(self, connections: Connections, group: str, mail: Mail | None = None) -> None:
        super().__init__(connections.database, group)
        settings = self._settings = connections.settings
        self._accounts = Accounts(connections.database)
        self._mails = Mails(connections.database)
        self._sealer = Sealer(*settings.sealing_keys)
        self._mail = mail
        if mail is None and settings.smtp_url:
            self._mail = Smtp(settings.smtp_url, settings.mail_from)
        if self._mail is None:
            log.warning("mail is off: nobody gets any until YEOUL_SMTP_URL names a server (docs/operators.md)")
        self._deferred: dict[str, float] = {}

    def decode(self, record: ConsumerRecord) -> Due | None:
        """See streams.work.Handler."""
        event = read_cause(record)
        kind = KINDS.get(event.type)
        if kind is None:
            return None
        data = event.said(_data)
        token = data.verification if event.type == "account.created" else data.token
        if kind in (Kind.VERIFY, Kind.RESET, Kind.CHANGE) and token is None:
            return None  # an account that was made without asking for a verification
        if event.type == "second_factor.removed":
            if data.reason == Reason.ERASED.value or not data.was_on:
                return None  # there is nobody to tell, or nothing was turned off
            kind = Kind.SECOND_FACTOR_RESET if data.reason == Reason.RESET.value else kind
        sealed = {Kind.CHANGE: data.email_sealed, Kind.EMAIL_CHANGED: data.was_sealed}.get(kind)
        until = data.expires_at or event.time + NEWS
        return Due(event.id, event.source, event.sequence, event.subject, kind, until, token, sealed, data.left)

    async def follow(self, messages: Sequence[Due]) -> None:
        """See Follower.follow. Raises what `_send` does."""
        try:
            for due in messages:
                outcome = "off" if self._mail is None else await self._send(self._mail, due)
                metrics.MAILS.labels(due.kind.value, outcome).inc()
        finally:
            if self._mail is not None:
                await self._mail.rest()

    async def _send(self, mail: Mail, due: Due) -> str:
        """What came of it, as the metric calls it. Raises StoresAway, MailRefused, SealBroken."""
        if due.until < datetime.now(UTC):
            return "outdated"
        if await self._mails.was_sent(due.id):
            return "repeat"
        account = await self._accounts.get(due.account)
        wrapped = await self._accounts.key(due.account)
        if account is None or wrapped is None or account.status is AccountStatus.ERASED:
            return "gone"
        settings, token, hours = self._settings, "", 0
        if due.token is not None:
            purpose = Purpose(due.kind.value)
            ticket = account.mailing.ticket(purpose)
            if ticket is None or ticket.hash != due.token.hash:
                return "outdated"
            key, environment = settings.command_key, settings.environment
            made = MailToken.made(key, environment, purpose.value, account.id, due.token.nonce)
            if made.hash(environment, purpose.value) != ticket.hash:
                return "outdated"  # asked for under another key: nobody could use it
            token, hours = made.text, int(LIFETIMES[purpose].total_seconds() // 3600)
        address = self._sealer.open(wrapped, account.id, "email", due.sealed or account.email_sealed)
        recipient = fields.index(settings.index_key, address)
        if await self._mails.to(recipient, due.kind.value) >= MOST:
            return "bounded"
        language = account.language or settings.language
        subject, text = render(
            due.kind, language, token=token, public_url=settings.public_url, hours=hours, left=due.left
        )
        try:
            await mail.send(Message(due.id, address, subject, text, language))
        except MailAway as error:
            raise MailServerAway(str(error)) from None
        except MailDeferred as error:
            if monotonic() - self._deferred.setdefault(due.id, monotonic()) < PATIENCE_S:
                raise MailServerAway(str(error)) from None
            raise
        except Unsendable:
            return "unsendable"
        self._deferred.pop(due.id, None)
        await self._mails.note(due.id, account.id, recipient, due.kind.value)
        return "sent"


# Small batches: all of one is taken by the mail server within the time after which a group counts as stuck.
GROUP = ReaderGroup(NAME, (topics.EVENTS_ACCOUNTS, topics.EVENTS_SECOND_FACTORS), Posting, max_records=10, gather_s=0.0)
