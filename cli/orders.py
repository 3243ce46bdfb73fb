"""Commands to an account in the name of the system: who has the settings of an installation may send them."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from embedded.errors import EmbeddedError

if TYPE_CHECKING:
    from config import Settings

PATIENCE_S = 30.0


class NotDone(EmbeddedError):
    """It was not done; the text says why."""


async def order(known: Settings, email: str, noun: str, kind: str, command: Any) -> None:
    """Returns when the command `kind` to the account of `email` is done. Raises NotDone, StoresAway, BrokerAway."""
    import msgspec

    import stores
    from domain.access import SYSTEM
    from domain.refusals import Code
    from domain.sentences import message
    from security import fields
    from streams import identity
    from streams.publish import Commands, Order, Pending

    async with stores.open(known) as opened, Commands.open(known, opened) as commands:
        account = await opened.accounts.by_email_index(fields.index(known.index_key, email))
        if account is None:
            raise NotDone(f"there is no account of {email}; it registers first, or: ./yeoul admin create {email}")
        operation = identity.new_operation()
        sent = Order(
            noun=noun,
            type=kind,
            aggregate_id=account.id,
            operation=operation,
            actor=SYSTEM,
            data=msgspec.json.encode(command),
            fingerprint=operation.hex,
            request_id=f"cli-{secrets.token_hex(8)}",
        )
        answer = await commands.submit(sent, wait=PATIENCE_S)
    if isinstance(answer, Pending):
        raise NotDone(f"not done within {PATIENCE_S:.0f} s; it will be when a worker runs (operation {operation})")
    if answer.refusal is not None and answer.refusal.code is Code.SECOND_FACTOR_OFF:
        raise NotDone(f"no second factor of {email} is on: there is nothing to turn off")
    if answer.refusal is not None:
        raise NotDone(message(answer.refusal.code, "en"))
    if answer.outcome != "succeeded":
        raise NotDone(f"it was not done: {answer.outcome} (operation {operation})")
