"""Accounts: commands → table, journal and events. An address belongs to one account only, settled by claims.

A front keeps the account's key in PostgreSQL before it sends the command, and erasing an account is erasing its key. So
a command whose key is not there is read again: of an account that was erased, or that PostgreSQL forgot when it was
restored to an older state. Nobody could ever log in to it; it is refused, and does not keep its address.

One active admin is always left, once there is one: whoever may take one away asks one after the other, across all
workers, and counts before it decides.
"""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from domain.account_mails import ConfirmEmailChange
from domain.accounts import COMMANDS, EVENT_NAMES, AccountStatus, CreateAccount, answer, decide, evolve, may_end_admin
from domain.refusals import Code, Refusal
from stores.accounts import TABLE, active_admins, claim, forget, keyed, release, unclaim
from stores.aggregates import Operation
from streams.decisions import Asked, Decisions, Noun
from streams.groups import CommandGroup
from streams.outcomes import Outcome, reopens
from streams.work import Work

NOUN = Noun(
    name="accounts",
    table=TABLE,
    commands=COMMANDS,
    event_names=EVENT_NAMES,
    decide=decide,
    evolve=evolve,
    document=answer,
)

EMAIL_TAKEN = Refusal(Code.EMAIL_TAKEN)
ERASED = Refusal(Code.ACCOUNT_ERASED)
LAST_ADMIN = Refusal(Code.LAST_ADMIN)
CLAIMING = (CreateAccount, ConfirmEmailChange)
"""Commands by which an account gets an address."""


class AccountDecisions(Decisions):
    """Decisions on accounts, with the claims on addresses and the count of admins around them."""

    _claimed: list[str]
    _moving: set[UUID]
    """Accounts that may get another address in this batch."""

    def needs_transaction(self, work: Work) -> bool:
        """Claims are written before the decision, and keys erased after it."""
        return any(
            isinstance(message.command, CLAIMING) or may_end_admin(message.command)
            for part in work.parts
            for message in part.messages
        )

    async def before_decide(
        self, connection: Any, work: Work, done: Mapping[UUID, Operation]
    ) -> Mapping[UUID, Refusal]:
        """Those that would end the last admin, those without a key, and the losers of an address, by operation."""
        messages = [message for part in work.parts for message in part.messages]
        asked = [message for message in messages if _counts(message, done)]
        refused = await self._last_admins(connection, [one for one in asked if may_end_admin(one.command)])
        new = [message for message in asked if isinstance(message.command, CLAIMING)]
        self._moving = {message.envelope.subject for message in new if isinstance(message.command, ConfirmEmailChange)}
        known = await keyed(connection, [message.envelope.subject for message in new])
        wanted = [
            (message.command.email_index, message.envelope.subject)
            for message in new
            if message.envelope.subject in known
        ]
        winners, self._claimed = await claim(connection, wanted)
        return refused | {
            message.envelope.operation: EMAIL_TAKEN if message.envelope.subject in known else ERASED
            for message in new
            if (message.command.email_index, message.envelope.subject) not in winners
        }

    async def _last_admins(self, connection: Any, ending: Iterable[Asked]) -> dict[UUID, Refusal]:
        """Those of a batch after which no active admin might be left.

        One that is refused for another reason counts as done, and one that is made an admin in the same batch does not
        count yet: at worst somebody is told to make another admin who has done so this moment.
        """
        refused = {}
        left: set[UUID] | None = None
        for message in ending:
            if left is None:
                left = await active_admins(connection)
            if left == {message.envelope.subject}:
                refused[message.envelope.operation] = LAST_ADMIN
            else:
                left.discard(message.envelope.subject)
        return refused

    async def after_write(self, connection: Any, outcome: Outcome) -> None:
        """Claims of what was refused, and on former addresses, are given up; keys of erased ones are destroyed."""
        kept = {state.email_index for state in outcome.states.values()}
        await unclaim(connection, [index for index in self._claimed if index not in kept])
        moved = [(id, state.email_index) for id, state in outcome.states.items() if id in self._moving]
        await release(connection, [(id, index) for id, index in moved if index is not None])
        self._claimed, self._moving = [], set()
        await forget(connection, [id for id, state in outcome.states.items() if state.status is AccountStatus.ERASED])


def _counts(message: Asked, done: Mapping[UUID, Operation]) -> bool:
    """True if it is decided, and not answered as it was before."""
    before = done.get(message.envelope.operation)
    return before is None or reopens(before, message.envelope)


GROUP = CommandGroup("accounts", NOUN, AccountDecisions)
