"""Events of accounts → commands that end their sessions and API keys: who had those is not who the account knows now.

Which ones are too old is told by the version of the account that they were begun by, not by clocks.
"""

from collections.abc import Sequence
from uuid import UUID

import msgspec
from aiokafka.structs import ConsumerRecord

import topics
from domain import api_keys, second_factors, sessions
from domain.access import SCOPES, Role
from domain.api_keys import RevokeApiKeys
from domain.second_factors import ResetSecondFactor
from domain.sessions import RevokeSessions
from streams.consequences import Cause, Commanding, read_cause
from streams.groups import ReaderGroup
from streams.orders import Order

NAME = "revocations"
REASONS = {
    "account.password_changed": "password_changed",
    "account.email_changed": "email_changed",
    "account.disabled": "disabled",
    "account.role_changed": "role_changed",
    "account.erased": "erased",
}
"""Events of accounts that end sessions and keys, and why those say they ended."""
PERSONAL = ("account.password_changed", "account.email_changed")
"""Those that keys know nothing of: who changes the password says whether they end, too."""


class _Data(msgspec.Struct, frozen=True):
    """What of an event's data counts. `end_api_keys`: of a password; `role`: of a role."""

    kept_session: UUID | None = None
    end_api_keys: bool = False
    role: Role = Role.USER


class _Change(msgspec.Struct, frozen=True):
    """What of an event counts; the names are those that the pipeline asks for."""

    id: str
    source: str
    sequence: str
    orders: tuple[Order, ...]


_data = msgspec.json.Decoder(_Data)


class Revocations(Commanding):
    """Sends what follows for the sessions and the keys."""

    name = "sessions.revocations"
    by = NAME

    def decode(self, record: ConsumerRecord) -> _Change | None:
        """See streams.work.Handler."""
        event = read_cause(record)
        if event.type not in REASONS:
            return None
        data = event.said(_data)
        orders = [self._of_sessions(event, data)]
        if event.type not in PERSONAL or data.end_api_keys:
            orders.append(self._of_keys(event, data))
        if event.type == "account.erased":
            orders.append(self._of_second_factor(event))
        return _Change(event.id, event.source, event.sequence, tuple(orders))

    def _of_sessions(self, event: Cause, data: _Data) -> Order:
        reason = sessions.Reason(REASONS[event.type])
        command = RevokeSessions(reason, data.kept_session, event.aggregateversion)
        encoded = msgspec.json.encode(command)
        return self.consequences.order("sessions", "revoke_sessions", event.subject, encoded, of=event)

    def _of_keys(self, event: Cause, data: _Data) -> Order:
        # Another role leaves the keys that do nothing but what it may do.
        kept = SCOPES[data.role] if event.type == "account.role_changed" else ()
        command = RevokeApiKeys(api_keys.Reason(REASONS[event.type]), event.aggregateversion, kept)
        encoded = msgspec.json.encode(command)
        return self.consequences.order("api_keys", "revoke_api_keys", event.subject, encoded, of=event)

    def _of_second_factor(self, event: Cause) -> Order:
        encoded = msgspec.json.encode(ResetSecondFactor(second_factors.Reason.ERASED))
        return self.consequences.order("second_factors", "reset_second_factor", event.subject, encoded, of=event)

    async def follow(self, messages: Sequence[_Change]) -> None:
        """See Follower.follow."""
        await self.consequences.send([order for message in messages for order in message.orders])


# Small batches: all of one is acknowledged within a request's time.
GROUP = ReaderGroup(NAME, (topics.EVENTS_ACCOUNTS,), Revocations, max_records=500, gather_s=0.0)
