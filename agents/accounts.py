"""Accounts: commands → table, journal and events. An address belongs to one account only, settled by claims.

A front keeps the account's key in PostgreSQL before it sends the command, and erasing an account is erasing its key. So
a command whose key is not there is read again: of an account that was erased, or that PostgreSQL forgot when it was
restored to an older state. Nobody could ever log in to it; it is refused, and does not keep its address.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from domain.accounts import COMMANDS, EVENT_NAMES, CreateAccount, decide, document, evolve
from domain.refusals import Code, Refusal
from stores.accounts import TABLE, claim, keyed, unclaim
from stores.aggregates import Operation
from streams.decisions import Decisions, Noun, Outcome, reopens
from streams.groups import CommandGroup
from streams.work import Work

NOUN = Noun(
    name="accounts",
    table=TABLE,
    commands=COMMANDS,
    event_names=EVENT_NAMES,
    decide=decide,
    evolve=evolve,
    document=document,
)

EMAIL_TAKEN = Refusal(Code.EMAIL_TAKEN)
ERASED = Refusal(Code.ACCOUNT_ERASED)


class AccountDecisions(Decisions):
    """Decisions on accounts, with the claims on addresses around them."""

    _claimed: list[str]

    def needs_transaction(self, work: Work) -> bool:
        """Claims are written before the decision."""
        return any(isinstance(message.command, CreateAccount) for part in work.parts for message in part.messages)

    async def before_decide(
        self, connection: Any, work: Work, done: Mapping[UUID, Operation]
    ) -> Mapping[UUID, Refusal]:
        """Those without a key, and the losers of an address, by operation."""
        new = [
            message
            for part in work.parts
            for message in part.messages
            if isinstance(message.command, CreateAccount)
            and (message.envelope.operation not in done or reopens(done[message.envelope.operation], message.envelope))
        ]
        known = await keyed(connection, [message.envelope.subject for message in new])
        wanted = [
            (message.command.email_index, message.envelope.subject)
            for message in new
            if message.envelope.subject in known
        ]
        winners, self._claimed = await claim(connection, wanted)
        return {
            message.envelope.operation: EMAIL_TAKEN if message.envelope.subject in known else ERASED
            for message in new
            if message.envelope.subject not in winners
        }

    async def after_decide(self, connection: Any, outcome: Outcome) -> None:
        """Claims of accounts that were refused for another reason are given up."""
        kept = {state.email_index for state in outcome.states.values()}
        await unclaim(connection, [index for index in self._claimed if index not in kept])
        self._claimed = []


GROUP = CommandGroup("accounts", NOUN, AccountDecisions)
