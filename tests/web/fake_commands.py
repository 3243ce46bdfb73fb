"""The way of commands, in memory: decided at once, by the same `decide`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from domain import accounts, api_keys, kinds, resources, second_factors, sessions
from domain.access import Actor, Role
from domain.account_mails import ConfirmEmailChange
from domain.aggregates import Context, fold
from domain.refusals import Code, Refusal
from streams.publish import Answer, Order, Pending

if TYPE_CHECKING:
    from tests.web.fakes import FakeStores


@dataclass
class FakeCommands:
    """Applies commands at once, as the agents would."""

    stores: FakeStores
    submitted: list[Order] = field(default_factory=list)
    done: dict[UUID, tuple[Order, Answer]] = field(default_factory=dict)
    raises: Exception | None = None
    slow: bool = False
    state: str = "ok"

    def ready(self) -> str:
        return self.state

    async def submit(self, order: Order, *, wait: float) -> Answer | Pending:
        if self.raises is not None:
            raise self.raises
        self.submitted.append(order)
        if order.operation in self.done:
            first, answer = self.done[order.operation]
            if first.fingerprint != order.fingerprint:
                return Answer(order.operation, "refused", False, b"", 0, Refusal(Code.KEY_REUSED))
            return msgspec.structs.replace(answer, replayed=True)
        answer = self.apply(order)
        self.done[order.operation] = (order, answer)
        return Pending(order.operation) if self.slow or wait == 0 else answer

    async def find(self, operation: UUID, actor: Actor) -> Answer | Pending | None:
        if self.raises is not None:
            raise self.raises
        found = self.done.get(operation)
        if found is None or (found[0].actor.id != actor.id and actor.role is not Role.ADMIN):
            return None
        return Pending(operation) if self.slow else found[1]

    def apply(self, order: Order) -> Answer:
        nouns = {
            "resources": resources, "accounts": accounts, "kinds": kinds, "sessions": sessions, "api_keys": api_keys,
            "second_factors": second_factors,
        }  # fmt: skip
        noun: Any = nouns[order.noun]
        states: dict[UUID, Any] = getattr(self.stores, order.noun).states
        command = msgspec.json.decode(order.data, type=noun.COMMANDS[order.type])
        context = Context(order.actor, order.aggregate_id, datetime.now(UTC))
        state: Any = states.get(order.aggregate_id)
        events = noun.decide(state, command, context)
        if isinstance(events, Refusal):
            return Answer(order.operation, "refused", False, b"", 0, events)
        if noun is accounts and isinstance(command, accounts.CreateAccount | ConfirmEmailChange):
            for id, other in states.items():
                if id != order.aggregate_id and other.email_index == command.email_index:
                    return Answer(order.operation, "refused", False, b"", 0, Refusal(Code.EMAIL_TAKEN))
        state = fold(noun.evolve, state, events, context)
        states[order.aggregate_id] = state
        if noun is accounts and state.status is accounts.AccountStatus.ERASED:
            self.stores.accounts.keys.pop(order.aggregate_id, None)
        gone = getattr(state, "deleted_at", None) is not None
        return Answer(order.operation, "succeeded", False, b"" if gone else noun.document(state), state.version)
