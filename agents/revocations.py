"""Events of accounts → commands that end their sessions: whoever logged in before is not who the account knows now.

Which sessions are too old is told by the version of the account that their login saw, not by clocks.
"""

from collections.abc import Sequence
from uuid import UUID

import msgspec
from aiokafka.structs import ConsumerRecord

import topics
from domain.sessions import Reason, RevokeSessions
from streams.consequences import Follower, read_cause
from streams.envelope import Unreadable
from streams.groups import ReaderGroup
from streams.orders import Order

NAME = "revocations"
REASONS = {
    "account.password_changed": Reason.PASSWORD_CHANGED,
    "account.email_changed": Reason.EMAIL_CHANGED,
    "account.disabled": Reason.DISABLED,
    "account.role_changed": Reason.ROLE_CHANGED,
    "account.erased": Reason.ERASED,
}
"""Events of accounts that end sessions, and why those say they ended."""


class _Kept(msgspec.Struct, frozen=True):
    kept_session: UUID | None = None


class _Change(msgspec.Struct, frozen=True):
    """What of an event counts; the names are those that the pipeline asks for."""

    id: str
    source: str
    sequence: str
    order: Order


_kept = msgspec.json.Decoder(_Kept)


class Revocations(Follower):
    """Sends what follows for the sessions."""

    name = "sessions.revocations"
    by = NAME

    def decode(self, record: ConsumerRecord) -> _Change | None:
        """See streams.work.Handler."""
        event = read_cause(record)
        reason = REASONS.get(event.type)
        if reason is None:
            return None
        try:
            kept = _kept.decode(event.data).kept_session
        except msgspec.MsgspecError as error:
            raise Unreadable("wrong_shape", str(error)) from None
        command = msgspec.json.encode(RevokeSessions(reason, kept, event.aggregateversion))
        order = self.consequences.order("sessions", "revoke_sessions", event.subject, command, of=event)
        return _Change(event.id, event.source, event.sequence, order)

    async def follow(self, messages: Sequence[_Change]) -> None:
        """See Follower.follow."""
        await self.consequences.send([message.order for message in messages])


# Small batches: all of one is acknowledged within a request's time.
GROUP = ReaderGroup(NAME, (topics.EVENTS_ACCOUNTS,), Revocations, max_records=500, gather_s=0.0)
