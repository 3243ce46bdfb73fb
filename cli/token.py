"""`token`: an access token for a person, whose account is made if need be. Local environment only."""

from __future__ import annotations

import argparse

from cli.connection import settings
from embedded.errors import EmbeddedError

HELP = "print an access token for EMAIL; makes the account if need be (local only)"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("email", metavar="EMAIL")
    parser.add_argument("--role", choices=("user", "admin"), default="user", help="of an account that is made now")


def run(options: argparse.Namespace) -> int:
    """Prints the token alone on a line."""
    found = settings("kafka", "postgres", "redis", keys=True)
    if found.environment != "local":
        raise EmbeddedError(
            f"Tokens are only given away like this in the local environment; this one is {found.environment}"
        )
    from web.accounts import token_for

    print(token_for(found, options.email, options.role))
    return 0
