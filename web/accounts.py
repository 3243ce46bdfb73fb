"""A token for the command line: the account is made, if need be, by the same way as any other write."""

import asyncio
import secrets
from uuid import UUID

import stores
from config import Settings
from domain.access import Role
from domain.refusals import explain
from security import fields
from streams.publish import Commands
from web import app, auth, sessions
from web.parts import Parts
from web.refused import Refused

PATIENCE_S = 30.0
NEW = 1
"""The version of an account that was made now."""
DEVICE = "./yeoul token"
"""What the list of sessions shows."""


class NoToken(Exception):
    """No token can be given; the text says why."""


def token_for(settings: Settings, email: str, role: str = "user") -> str:
    """An access token for `email`, whose account is made with `role` (`user` or `admin`) if there is none.

    For the local environment only: elsewhere people log in. Raises NoToken, StoresAway, BrokerAway, TooBusy.
    """
    if settings.environment != "local":
        raise NoToken(
            f"tokens are given out by this command in the local environment only, not in {settings.environment}"
        )
    return asyncio.run(_token_for(settings, email, Role(role)))


async def _token_for(settings: Settings, email: str, role: Role) -> str:
    async with stores.open(settings) as opened, Commands.open(settings, opened) as commands:
        parts = app.parts_of(settings, commands, opened)
        try:
            return await _token(parts, email, role)
        finally:
            parts.passwords.close()


async def _token(parts: Parts, email: str, role: Role) -> str:
    index = fields.index(parts.settings.index_key, email)
    account = await parts.stores.accounts.by_email_index(index)
    if account is None:
        # Nobody knows this password, this command least of all; the account is used by tokens.
        try:
            new = auth.REGISTRATION.value({"email": email, "password": secrets.token_urlsafe(24)})
        except Refused as no:
            wrong = "; ".join(f"{detail.field} {explain(detail, 'en')}" for detail in no.refusal.details)
            raise NoToken(f"no account can be made: {wrong}") from None
        order = await auth.account_order(parts, new, role, "token-" + secrets.token_hex(8))
        answer = await auth.submit(parts, order, wait=PATIENCE_S)
        if not auth.succeeded(answer):
            # Somebody may have been quicker; else no worker is at work.
            account = await parts.stores.accounts.by_email_index(index)
            if account is None:
                raise NoToken(f"the account was not made within {PATIENCE_S:.0f} s; is a worker running?")
        else:
            return await _session(parts, order.aggregate_id, role, NEW)
    if role is Role.ADMIN and account.role is not Role.ADMIN:
        raise NoToken(f"{email} is an account with the role {account.role}; choose another address for an admin")
    return await _session(parts, account.id, account.role, account.version)


async def _session(parts: Parts, account: UUID, role: Role, version: int) -> str:
    """The access token of a new session, as a login has one: it is listed, and can be ended."""
    caller = sessions.Caller(DEVICE, "local", PATIENCE_S, "token-" + secrets.token_hex(8))
    try:
        granted = await sessions.begin(parts, caller, account, role, version)
    except Refused as no:
        raise NoToken(
            f"no session was begun ({no.refusal.code}) within {PATIENCE_S:.0f} s; is a worker running?"
        ) from None
    return str(granted["access_token"])
