"""`admin`: makes the account of an admin, and lets in one who has lost the app and every recovery code.

Who has the settings of an installation may; in every environment.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import sys

from cli.connection import settings
from cli.orders import order
from embedded.errors import EmbeddedError

HELP = "make the account of an admin, or turn off a second factor that was lost; in every environment"


class NoPassword(EmbeddedError):
    """There is no password to take; the text says why."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """One action, and whom it is for. A password is never an argument: others see those."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    words = "make an account with the role admin; the password is asked for, or is the first line of the input"
    create = actions.add_parser("create", help=words, description=words, allow_abbrev=False)
    create.add_argument("email", metavar="EMAIL")
    create.add_argument("--name", default="", help="how the admin is called")
    words = "turn off the second factor of whoever has lost the app and every recovery code"
    reset = actions.add_parser("reset-second-factor", help=words, description=words, allow_abbrev=False)
    reset.add_argument("email", metavar="EMAIL")


def run(options: argparse.Namespace) -> int:
    """Returns when it is done. Raises `NoPassword`, NotMade, NotDone, StoresAway, BrokerAway."""
    known = settings("kafka", "postgres", "redis", keys=True)
    if options.action == "reset-second-factor":
        from domain.second_factors import ResetSecondFactor

        asyncio.run(order(known, options.email, "second_factors", "reset_second_factor", ResetSecondFactor()))
        print(f"{options.email}: no second factor")
        return 0
    password = _asked() if sys.stdin.isatty() else _read()
    from web.accounts import create_admin

    create_admin(known, options.email, password, options.name)
    print(f"{options.email}: admin")
    return 0


def _asked() -> str:
    try:
        password = getpass.getpass("Password: ")
        if getpass.getpass("The same again: ") != password:
            raise NoPassword("the two passwords differ; nothing was made")
    except EOFError:
        raise NoPassword("no password was given; nothing was made") from None
    return password


def _read() -> str:
    try:
        password = sys.stdin.readline().rstrip("\r\n")
    except UnicodeDecodeError:
        raise NoPassword("the password on the input is not UTF-8; nothing was made") from None
    if not password:
        raise NoPassword("no password was given: type it when asked, or put it on the first line of the input")
    return password
