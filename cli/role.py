"""`role`: gives an account another role. Who has the settings of an installation may; its first admin is made so."""

from __future__ import annotations

import argparse
import asyncio
import secrets
from typing import TYPE_CHECKING

from cli.connection import settings
from embedded.errors import EmbeddedError

if TYPE_CHECKING:
    from config import Settings

HELP = "make the account of EMAIL an admin, or a user again; in every environment"
PATIENCE_S = 30.0


class NoRole(EmbeddedError):
    """The role was not changed; the text says why."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("email", metavar="EMAIL")
    parser.add_argument("role", choices=("admin", "user"))


def run(options: argparse.Namespace) -> int:
    """Returns when it is done. Raises `NoRole`, StoresAway, BrokerAway."""
    asyncio.run(_change(settings("kafka", "postgres", "redis", keys=True), options.email, options.role))
    print(f"{options.email}: {options.role}")
    return 0


async def _change(known: Settings, email: str, role: str) -> None:
    import msgspec

    import stores
    from domain.access import SYSTEM, Role
    from domain.accounts import ChangeRole
    from domain.refusals import message
    from security import fields
    from streams import identity
    from streams.publish import Commands, Order, Pending

    async with stores.open(known) as opened, Commands.open(known, opened) as commands:
        account = await opened.accounts.by_email_index(fields.index(known.index_key, email))
        if account is None:
            raise NoRole(f"there is no account of {email}; it registers first, or: ./yeoul admin create {email}")
        operation = identity.new_operation()
        order = Order(
            noun="accounts",
            type="change_role",
            aggregate_id=account.id,
            operation=operation,
            actor=SYSTEM,
            data=msgspec.json.encode(ChangeRole(Role(role))),
            fingerprint=operation.hex,
            request_id=f"role-{secrets.token_hex(8)}",
        )
        answer = await commands.submit(order, wait=PATIENCE_S)
    if isinstance(answer, Pending):
        raise NoRole(f"not done within {PATIENCE_S:.0f} s; it will be when a worker runs (operation {operation})")
    if answer.refusal is not None:
        raise NoRole(message(answer.refusal.code, "en"))
    if answer.outcome != "succeeded":
        raise NoRole(f"the role was not changed: {answer.outcome} (operation {operation})")
