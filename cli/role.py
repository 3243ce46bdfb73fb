"""`role`: gives an account another role. Who has the settings of an installation may; its first admin is made so."""

from __future__ import annotations

import argparse
import asyncio

from cli.connection import settings
from cli.orders import order

HELP = "make the account of EMAIL an admin, or a user again; in every environment"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("email", metavar="EMAIL")
    parser.add_argument("role", choices=("admin", "user"))


def run(options: argparse.Namespace) -> int:
    """Returns when it is done. Raises NotDone, StoresAway, BrokerAway."""
    known = settings("kafka", "postgres", "redis", keys=True)
    from domain.access import Role
    from domain.accounts import ChangeRole

    asyncio.run(order(known, options.email, "accounts", "change_role", ChangeRole(Role(options.role))))
    print(f"{options.email}: {options.role}")
    return 0
