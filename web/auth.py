"""Registering and logging in. Personal fields are sealed, and passwords hashed, before anything leaves this process."""

import contextlib
from typing import Annotated
from uuid import UUID

import msgspec
import orjson
from aiohttp import web

from domain import accounts
from domain.access import Actor, Role
from domain.account_states import Purpose
from domain.refusals import Code
from security import fields
from stores import StoresAway
from streams import identity
from streams.publish import Answer, BrokerAway, Order, Pending
from web import account_views, headers, mail_orders, second_step, sessions, writes
from web.mail_orders import noted, verification_again
from web.parts import PARTS, Parts
from web.presenters import Reply, language_of
from web.refused import Refused, refused
from web.validation import Schema

Email = Annotated[
    str,
    msgspec.Meta(
        min_length=3,
        max_length=254,
        # \s alone is not the same in Python and in the ECMAScript of the documents: U+0085 and U+FEFF are named.
        pattern=r"^[^@\s\x00-\x1f\x7f-\x9f\ufeff]+@[^@\s\x00-\x1f\x7f-\x9f\ufeff]+\.[^@\s\x00-\x1f\x7f-\x9f\ufeff.]+\Z",
        extra={"like": "name@example.org"},
    ),
]
Password = Annotated[str, msgspec.Meta(min_length=8, max_length=128)]
Name = Annotated[str, msgspec.Meta(max_length=100)]
OneTimeCode = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
"""A code of a second factor, or a recovery code: one of another form is wrong, and is told so by nobody sooner."""
Phone = Annotated[str, msgspec.Meta(pattern=r"^\+?[0-9 ().-]{5,30}\Z", extra={"like": "+82 10 1234 5678"})]


class Registration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /auth/register`. The password's length is in characters."""

    email: Email
    password: Password
    name: Name = ""
    phone: Phone | None = None


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /auth/login`. No form is asked of the address; the limits only bound the work."""

    email: Annotated[str, msgspec.Meta(min_length=1, max_length=254)]
    password: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    code: OneTimeCode | None = None


REGISTRATION = Schema(Registration)
LOGIN = Schema(Login)
LONGEST_BODY = 131_072
"""Bytes; whoever asks here is nobody yet, and gets less of our time."""
NO_STORE = {"Cache-Control": "no-store"}
ACCEPTED = orjson.dumps({"status": "accepted"})


async def register(request: web.Request) -> Reply:
    """`POST /auth/register`: 201 with the account and a token, or 409; in private mode the same 202 for everybody."""
    parts = request.app[PARTS]
    new = (await writes.read_body(request, REGISTRATION, LONGEST_BODY)).value
    private = parts.settings.registration == "private"
    index = fields.index(parts.settings.index_key, new.email)
    # Spares the hash and the key of an account that can't come to be. The claim in the agent is what decides.
    holder = await parts.stores.accounts.by_email_index(index)
    if holder is not None and not private:
        raise refused(Code.EMAIL_TAKEN)
    order = await account_order(
        parts, new, Role.USER, writes.origin_of(request),
        language_of(request.headers.get("Accept-Language"), "") or None,
        None if holder is None else holder.id,
    )  # fmt: skip
    if private:
        # Nobody waits, and both cost the same work: how long the answer takes would tell what it is.
        await submit(parts, order if holder is None else noted(order), wait=0.0)
        return Reply(ACCEPTED, status=202, headers=NO_STORE)
    try:
        answer = writes.answered(await submit(parts, order, wait=headers.wait(request, parts.settings.answer_wait_s)))
    except writes.Unfinished:
        # The caller has no token to ask for the operation with; it logs in as soon as the account is there.
        return Reply(ACCEPTED, status=202, headers=NO_STORE)
    if parts.settings.email_verification == "required":
        return Reply(ACCEPTED, status=202, headers=NO_STORE)  # the mail that is on its way is what remains
    user = account_views.members(answer)
    user |= {"email": new.email.strip(), "name": new.name, "phone": new.phone, "pending_email": None}
    try:
        granted = await sessions.begin(
            parts, sessions.caller_of(request), order.aggregate_id, Role.USER, answer.version
        )
    except (BrokerAway, StoresAway, Refused):
        return Reply(ACCEPTED, status=202, headers=NO_STORE)  # the account is there: logging in is what remains
    return Reply(orjson.dumps({"user": user, **granted}), status=201, headers=NO_STORE)


async def login(request: web.Request) -> Reply:
    """`POST /auth/login`: tokens, or 401, which costs the same work for an unknown address as for a wrong password.

    Only who has the right password is told that a code is wanted, or that it is wrong (web/second_step.py).
    """
    parts = request.app[PARTS]
    given = (await writes.read_body(request, LOGIN, LONGEST_BODY)).value
    ready = parts.commands.ready()
    if ready != "ok":
        raise BrokerAway(ready)  # before the work: no session can begin
    index = fields.index(parts.settings.index_key, given.email)
    caller = sessions.caller_of(request)
    account = await parts.stores.accounts.by_email_index(index)
    async with parts.quotas.attempt(request, index, None if account is None else account.id):
        wrapped = await parts.stores.accounts.key(fields.NOBODY if account is None else account.id)
        right = await parts.passwords.verify(_hash_of(parts, account, wrapped), given.password)
        if account is None or not right or account.status is not accounts.AccountStatus.ACTIVE:
            raise refused(Code.INVALID_CREDENTIALS)
        await second_step.passed(parts, caller, account, wrapped, given.code)
    if parts.settings.email_verification == "required" and not account.email_verified:
        await verification_again(request, account.id)
        raise refused(Code.EMAIL_UNVERIFIED)
    granted = await sessions.begin(parts, caller, account.id, account.role, account.version)
    return Reply(orjson.dumps(granted), headers=NO_STORE)


def _hash_of(parts: Parts, account: accounts.Account | None, wrapped: bytes | None) -> str | None:
    """The hash of the account's password; None, for the same work, if there is no account or its key was erased."""
    if account is None or wrapped is None:
        parts.sealer.open_nothing()
        return None
    return parts.sealer.open(wrapped, account.id, "password", account.password_sealed)


async def jwks(request: web.Request) -> web.Response:
    """`GET /.well-known/jwks.json`: the public keys by which anybody can check our tokens."""
    return web.Response(
        body=orjson.dumps(request.app[PARTS].tokens.jwks()),
        content_type="application/json",
        headers={"Cache-Control": "public, max-age=300"},
    )


async def account_order(
    parts: Parts,
    new: Registration,
    role: Role,
    origin: writes.Origin,
    language: str | None = None,
    id: UUID | None = None,
) -> Order:
    """The command that makes an account, acting as the account itself, or as the system for any role but `user`.

    `language`: of mails to it. `id`: not a new one, but that of whoever has the address, and the key stays as it is.
    Raises StoresAway, TooBusy.
    """  # fmt: skip
    operation = identity.new_operation()
    account_id = id or identity.aggregate_id(operation)
    hashed = await parts.passwords.hash(new.password)
    wrapped = await parts.stores.accounts.put_key(account_id, parts.sealer.new_key(account_id))

    def seal(field: str, text: str) -> str:
        return parts.sealer.seal(wrapped, account_id, field, text)

    command = accounts.CreateAccount(
        email_sealed=seal("email", new.email.strip()),
        name_sealed=seal("name", new.name),
        email_index=fields.index(parts.settings.index_key, new.email),
        password_sealed=seal("password", hashed),
        phone_sealed=None if new.phone is None else seal("phone", new.phone),
        role=role,
        verification=mail_orders.new_token(parts, Purpose.VERIFY, account_id) if role is Role.USER else None,
        verified=role is not Role.USER,  # whoever runs this installation has named the address
        language=language,
    )
    actor = Actor(account_id, Role.USER if role is Role.USER else Role.ADMIN)
    return writes.order_of(
        origin, "accounts", "create_account", account_id, actor, msgspec.json.encode(command), operation=operation
    )


async def submit(parts: Parts, order: Order, *, wait: float) -> Answer | Pending:
    """Sends the command of `account_order`; leaves no key behind when the account is known not to come to be.

    Raises BrokerAway.
    """
    try:
        answer = await parts.commands.submit(order, wait=wait)
    except BrokerAway:
        await _forget(parts, order.aggregate_id)
        raise
    # One that failed keeps its key: an operator may have it tried again.
    if isinstance(answer, Answer) and answer.outcome == "refused":
        await _forget(parts, order.aggregate_id)
    return answer


async def _forget(parts: Parts, account_id: UUID) -> None:
    # A key without an account opens nothing and harms nobody: the answer does not wait for a database that is away.
    with contextlib.suppress(StoresAway):
        await parts.stores.accounts.drop_key(account_id)


def succeeded(answer: Answer | Pending) -> bool:
    """True if an account came to be."""
    return isinstance(answer, Answer) and answer.outcome == "succeeded"
