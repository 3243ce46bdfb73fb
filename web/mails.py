"""What goes by mail, over HTTP: a forgotten password, verification, another address.

A token is shown in the body of a POST, never in a URL. What anybody may ask is answered before the worker knows, in the
same words and by the same steps for every address: whether there is an account is seen in the mailbox alone.
"""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from aiohttp import web

from domain import account_mails
from domain.account_mails import (
    ConfirmEmailChange,
    RequestEmailChange,
    RequestReset,
    RequestVerification,
    ResetPassword,
    VerifyEmail,
)
from domain.account_states import Account, Purpose, Ticket
from domain.refusals import Code
from domain.versions import Expected
from security import fields
from security.mail_tokens import LONGEST, MailToken
from streams import identity
from web import headers, mail_orders, sessions, users, writes
from web.auth import ACCEPTED, LONGEST_BODY, NO_STORE, Email, Password
from web.mail_orders import new_token
from web.parts import PARTS, Parts
from web.presenters import Reply
from web.refused import Refused, refused
from web.validation import Schema

Shown = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST)]
AGAIN_S = str(int(account_mails.HOUR.total_seconds()))


class Forgotten(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /auth/forgot-password`. No form is asked of the address."""

    email: Annotated[str, msgspec.Meta(min_length=1, max_length=254)]


class Reset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /auth/reset-password`: the token of the mail, and the new password."""

    token: Shown
    password: Password


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /auth/verify-email` and `POST /auth/confirm-email`: the token of the mail."""

    token: Shown


class NewEmail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `PUT /users/me/email`."""

    password: users.Present
    email: Email


FORGOTTEN, RESET, PROOF, NEW_EMAIL = Schema(Forgotten), Schema(Reset), Schema(Proof), Schema(NewEmail)


async def forgot_password(request: web.Request) -> Reply:
    """`POST /auth/forgot-password`: the same 202 for every address; the mail goes to those that have an account."""
    parts = request.app[PARTS]
    given = (await writes.read_body(request, FORGOTTEN, LONGEST_BODY)).value
    account = await parts.stores.accounts.by_email_index(fields.index(parts.settings.index_key, given.email))
    # Without an account it is asked for one that does not exist: the same work, and the same time.
    id = identity.uuid7() if account is None else account.id
    command = RequestReset(new_token(parts, Purpose.RESET, id))
    await mail_orders.submit(request, id, "request_reset", command, wait=0.0)
    return Reply(ACCEPTED, status=202, headers=NO_STORE)


async def reset_password(request: web.Request) -> Reply:
    """`POST /auth/reset-password`: 204; every session ends. The token of the mail is used up."""
    parts = request.app[PARTS]
    given = (await writes.read_body(request, RESET, LONGEST_BODY)).value
    account, _ticket, shown = await _shown(parts, Purpose.RESET, given.token)
    wrapped = await parts.stores.accounts.key(account.id)
    if wrapped is None:
        raise refused(Code.MAIL_TOKEN_INVALID)
    hashed = await parts.passwords.hash(given.password)
    command = ResetPassword(shown, parts.sealer.seal(wrapped, account.id, "password", hashed))
    return await _answer(request, account.id, "reset_password", command)


async def verify_email(request: web.Request) -> Reply:
    """`POST /auth/verify-email`: 204; the address is the owner's."""
    given = (await writes.read_body(request, PROOF, LONGEST_BODY)).value
    account, _ticket, shown = await _shown(request.app[PARTS], Purpose.VERIFY, given.token)
    return await _answer(request, account.id, "verify_email", VerifyEmail(shown))


async def confirm_email(request: web.Request) -> Reply:
    """`POST /auth/confirm-email`: 204; the account has the address that the mail went to."""
    given = (await writes.read_body(request, PROOF, LONGEST_BODY)).value
    account, ticket, shown = await _shown(request.app[PARTS], Purpose.CHANGE, given.token)
    command = ConfirmEmailChange(shown, ticket.email_index or "")
    return await _answer(request, account.id, "confirm_email_change", command)


async def resend_verification(request: web.Request) -> Reply:
    """`POST /auth/resend-verification`: 202; another mail to the caller, whose address is not verified yet."""
    parts = request.app[PARTS]
    account = await users.own(request)
    command = RequestVerification(new_token(parts, Purpose.VERIFY, account.id))
    return await _requested(request, account.id, "request_verification", command)


async def change_email(request: web.Request) -> Reply:
    """`PUT /users/me/email`: 202; the password is asked for, and a mail goes to the new address, which confirms it."""
    _key, expected, parsed = await users.asked(request, NEW_EMAIL)
    parts, given = request.app[PARTS], parsed.value
    account = await users.own(request)
    wrapped = await users.check_password(request, account, given.password)
    index = fields.index(parts.settings.index_key, given.email)
    if parts.settings.registration != "private":
        holder = await parts.stores.accounts.by_email_index(index)
        if holder is not None and holder.id != account.id:
            raise refused(Code.EMAIL_TAKEN)
    command = RequestEmailChange(
        email_sealed=parts.sealer.seal(wrapped, account.id, "email", given.email.strip()),
        email_index=index,
        checked_sealed=account.password_sealed,
        token=new_token(parts, Purpose.CHANGE, account.id),
        kept_session=sessions.current(request),
        expected_version=expected,
    )
    return await _requested(request, account.id, "request_email_change", command, matching=expected)


async def _requested(request: web.Request, account: UUID, kind: str, command: Any, matching: Expected = None) -> Reply:
    """202: the owner asked for a mail. Without the caller's key: its token is another one each time anyway."""
    try:
        await users.submit(request, account, kind, command, matching=matching)
    except writes.Unfinished:
        pass  # it comes as soon as the worker does
    except Refused as no:
        if no.refusal.code is not Code.TOO_MANY_REQUESTS:
            raise
        raise Refused(no.refusal, {"Retry-After": AGAIN_S}) from None
    return Reply(ACCEPTED, status=202, headers=NO_STORE)


async def _shown(parts: Parts, purpose: Purpose, text: str) -> tuple[Account, Ticket, str]:
    """Whose token it is, what it is good for, and its hash. Raises Refused, StoresAway.

    Asked before any work is done: who has no token causes none, neither here nor in Kafka.
    """
    token = MailToken.read(text)
    if token is None:
        raise refused(Code.MAIL_TOKEN_INVALID)
    shown = token.hash(parts.settings.environment, purpose.value)
    account = await parts.stores.accounts.get(token.account)
    ticket = account_mails.accepts(account, purpose, shown, datetime.now(UTC))
    if account is None or ticket is None:
        raise refused(Code.MAIL_TOKEN_INVALID)
    return account, ticket, shown


async def _answer(request: web.Request, account: UUID, kind: str, command: Any) -> Reply:
    """204, or 202 where the worker takes its time: whoever shows a token can't ask for the operation."""
    wait = headers.wait(request, request.app[PARTS].settings.answer_wait_s)
    try:
        writes.answered(await mail_orders.submit(request, account, kind, command, wait=wait))
    except writes.Unfinished:
        return Reply(ACCEPTED, status=202, headers=NO_STORE)
    return Reply(status=204, headers=NO_STORE)
