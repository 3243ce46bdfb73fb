"""Commands that end in a mail: what they carry of its token, and how they are sent in nobody's name."""

from typing import Any
from uuid import UUID

import msgspec
from aiohttp import web

from domain.access import GUEST, Actor, Role
from domain.account_mails import NoteRegistration, RequestVerification, Token
from domain.account_states import Purpose
from security.mail_tokens import MailToken, new_nonce
from streams.publish import Answer, Order, Pending
from web import writes
from web.parts import PARTS, Parts


def new_token(parts: Parts, purpose: Purpose, account: UUID) -> Token:
    """A new token for an account, as commands tell it: without the token."""
    settings, nonce = parts.settings, new_nonce()
    token = MailToken.made(settings.command_key, settings.environment, purpose.value, account, nonce)
    return Token(nonce, token.hash(settings.environment, purpose.value))


async def submit(
    request: web.Request, account: UUID, kind: str, command: Any, *, wait: float, actor: Actor = GUEST
) -> Answer | Pending:
    """Sends a command about an account that asks for no role. Raises BrokerAway."""
    order = writes.order_of(writes.origin_of(request), "accounts", kind, account, actor, msgspec.json.encode(command))
    return await request.app[PARTS].commands.submit(order, wait=wait)


async def verification_again(request: web.Request, account: UUID) -> None:
    """Another mail to somebody who knows the password, and may not log in before the address is verified."""
    command = RequestVerification(new_token(request.app[PARTS], Purpose.VERIFY, account))
    await submit(request, account, "request_verification", command, wait=0.0, actor=Actor(account, Role.USER))


def noted(registration: Order) -> Order:
    """In place of the command of a registration with a taken address: the owner, whose account it names, is told."""
    return msgspec.structs.replace(
        registration, type="note_registration", actor=GUEST, data=msgspec.json.encode(NoteRegistration())
    )
