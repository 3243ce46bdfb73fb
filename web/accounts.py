"""Tokens and admins for the command line: accounts are made by the same way as any other write."""

import asyncio
import secrets
from uuid import UUID

import msgspec

import stores
from config import Settings
from domain.access import Role
from domain.accounts import AccountStatus
from domain.refusals import Code, Detail, Problem
from domain.sentences import explain
from security import fields
from security.passwords import SHORTEST_OF_ADMINS, weakness
from streams.publish import Commands, Pending
from web import app, auth, sessions
from web.parts import Parts
from web.refused import Refused
from web.writes import Origin

PATIENCE_S = 30.0
NEW = 1
"""The version of an account that was made now."""
DEVICE = "./yeoul token"
"""What the list of sessions shows."""


class NoToken(Exception):
    """No token can be given; the text says why."""


class NotMade(Exception):
    """The account was not made; the text says why."""


def create_admin(settings: Settings, email: str, password: str, name: str = "") -> None:
    """Makes an account with the role `admin`. Raises NotMade, StoresAway, BrokerAway, TooBusy."""
    asyncio.run(_create_admin(settings, email, password, name))


async def _create_admin(settings: Settings, email: str, password: str, name: str) -> None:
    async with stores.open(settings) as opened, Commands.open(settings, opened) as commands:
        parts = app.parts_of(settings, commands, opened)
        try:
            await _admin(parts, email, password, name)
        finally:
            parts.passwords.close()


async def _admin(parts: Parts, email: str, password: str, name: str) -> None:
    try:
        new = auth.REGISTRATION.value({"email": email, "password": password, "name": name})
    except Refused as no:
        raise NotMade(f"no account can be made: {_wrong(no)}") from None
    weak = weakness(password, email)
    if weak is not None:
        raise NotMade(f"this password is too weak for an admin: {weak}. Take a longer one, such as four random words")
    taken = NotMade(f"there is an account of {email} already; to make it an admin: ./yeoul role {email} admin")
    if await parts.stores.accounts.by_email_index(fields.index(parts.settings.index_key, email)) is not None:
        raise taken
    order = await auth.account_order(parts, new, Role.ADMIN, Origin("admin-" + secrets.token_hex(8)))
    answer = await auth.submit(parts, order, wait=PATIENCE_S)
    if isinstance(answer, Pending):
        raise NotMade(
            f"not done within {PATIENCE_S:.0f} s; it will be when a worker runs (operation {order.operation})"
        )
    if answer.refusal is not None and answer.refusal.code is Code.EMAIL_TAKEN:
        raise taken
    if not auth.succeeded(answer):
        raise NotMade(f"the account was not made: {answer.outcome} (operation {order.operation})")


def _wrong(no: Refused) -> str:
    return "; ".join(f"{detail.field} {explain(_of_admins(detail), 'en')}" for detail in no.refusal.details)


def _of_admins(detail: Detail) -> Detail:
    """What is wrong, with the bound that holds for admins: nobody is to mend a password twice."""
    if (detail.field, detail.problem) == ("password", Problem.TOO_SHORT):
        return msgspec.structs.replace(detail, allowed=str(SHORTEST_OF_ADMINS))
    return detail


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
            raise NoToken(f"no account can be made: {_wrong(no)}") from None
        order = await auth.account_order(parts, new, role, Origin("token-" + secrets.token_hex(8)))
        answer = await auth.submit(parts, order, wait=PATIENCE_S)
        if not auth.succeeded(answer):
            # Somebody may have been quicker; else no worker is at work.
            account = await parts.stores.accounts.by_email_index(index)
            if account is None:
                raise NoToken(f"the account was not made within {PATIENCE_S:.0f} s; is a worker running?")
        else:
            return await _session(parts, order.aggregate_id, role, NEW)
    if account.status is not AccountStatus.ACTIVE:
        back = "; another admin can enable it" if account.status is AccountStatus.DISABLED else ""
        raise NoToken(f"the account of {email} is {account.status.value}{back}")
    if role is Role.ADMIN and account.role is not Role.ADMIN:
        raise NoToken(
            f"{email} is an account with the role {account.role}; choose another address for an admin, or make it one:"
            f" ./yeoul role {email} admin"
        )
    return await _session(parts, account.id, account.role, account.version)


async def _session(parts: Parts, account: UUID, role: Role, version: int) -> str:
    """The access token of a new session, as a login has one: it is listed, and can be ended."""
    caller = sessions.Caller(DEVICE, "local", PATIENCE_S, Origin("token-" + secrets.token_hex(8)))
    try:
        granted = await sessions.begin(parts, caller, account, role, version)
    except Refused as no:
        raise NoToken(
            f"no session was begun ({no.refusal.code}) within {PATIENCE_S:.0f} s; is a worker running?"
        ) from None
    return str(granted["access_token"])
