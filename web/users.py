"""One's own account over HTTP: read, update, another password, erase; and what changes of accounts share."""

from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from domain.accounts import Account, AccountStatus, ChangePassword, EraseAccount, UpdateAccount
from domain.refusals import Code
from domain.versions import Expected
from streams.publish import Answer
from web import account_views, headers, sessions, writes
from web.auth import LONGEST_BODY, NO_STORE, Name, Password, Phone
from web.parts import ACTOR, PARTS, Parts
from web.presenters import Reply
from web.refused import Wrong, refused
from web.validation import Parsed, Schema, T

Present = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
"""A password that is compared: no form is asked of it, the limits only bound the work."""


class Language(StrEnum):
    """The languages in which mails are written."""

    EN = "en"
    KO = "ko"


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `PATCH /users/me`: what is left out stays as it is; a phone or a language of null is taken away."""

    name: Name | UnsetType = UNSET
    phone: Phone | UnsetType | None = UNSET
    language: Language | UnsetType | None = UNSET


class NewPassword(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `PUT /users/me/password`."""

    current_password: Present
    new_password: Password
    revoke_api_keys: bool = False


class Farewell(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `DELETE /users/me`."""

    password: Present


PROFILE, NEW_PASSWORD, FAREWELL = Schema(Profile), Schema(NewPassword), Schema(Farewell)

_encode = msgspec.json.Encoder().encode


async def me(request: web.Request) -> Reply:
    """`GET /users/me`: the account, or 304 if the caller has this version."""
    parts = request.app[PARTS]
    account = await own(request)
    if headers.none_match(request, account.version):
        return Reply(status=304, version=account.version)
    return await reply_of(parts, account)


async def update(request: web.Request) -> Reply:
    """`PATCH /users/me`: name and phone, sealed before they leave this process, and the language of mails."""
    key, expected, parsed = await asked(request, PROFILE)
    parts = request.app[PARTS]
    account = await own(request)
    wrapped = await key_of(parts, account.id)

    def seal(field: str, text: str) -> str:
        return parts.sealer.seal(wrapped, account.id, field, text)

    new = parsed.value
    command = UpdateAccount(
        name_sealed=UNSET if new.name is UNSET else seal("name", new.name),
        phone_sealed=seal("phone", new.phone) if isinstance(new.phone, str) else new.phone,
        language=new.language.value if isinstance(new.language, Language) else new.language,
        expected_version=expected,
    )
    answer = await submit(
        request, account.id, "update_account", command, key=key, matching=expected, canonical=parsed.canonical
    )
    return await changed(parts, account.id, answer)


async def change_password(request: web.Request) -> Reply:
    """`PUT /users/me/password`: 204; the present password is asked for. Other sessions end, API keys if told so."""
    _key, expected, parsed = await asked(request, NEW_PASSWORD)
    parts = request.app[PARTS]
    account = await own(request)
    wrapped = await check_password(request, account, parsed.value.current_password)
    hashed = await parts.passwords.hash(parsed.value.new_password)
    command = ChangePassword(
        password_sealed=parts.sealer.seal(wrapped, account.id, "password", hashed),
        checked_sealed=account.password_sealed,
        kept_session=sessions.current(request),
        end_api_keys=parsed.value.revoke_api_keys,
        expected_version=expected,
    )
    # Without the caller's key: a second try would be asked for the password that is no longer the present one.
    answer = await submit(request, account.id, "change_password", command, matching=expected)
    return Reply(status=204, version=answer.version, headers=writes.reply_headers(answer, **NO_STORE))


async def erase(request: web.Request) -> Reply:
    """`DELETE /users/me`: 204; the password is asked for. Nothing of the account can be read from then on."""
    key, expected, parsed = await asked(request, FAREWELL)
    parts = request.app[PARTS]
    account = await found(parts, request[ACTOR].id)
    # An erased one has no password to ask for: this is a repeat, which the worker knows by its key, or refuses.
    if account.status is not AccountStatus.ERASED:
        await check_password(request, account, parsed.value.password)
    answer = await submit(request, account.id, "erase_account", EraseAccount(expected), key=key, matching=expected)
    return Reply(status=204, headers=writes.reply_headers(answer, **NO_STORE))


# What changes of accounts share, here and in web/admin_users.py


async def asked(request: web.Request, schema: Schema[T]) -> tuple[str | None, Expected, Parsed[T]]:
    """Idempotency-Key, If-Match and the body of a change, all that is wrong named at once. Raises Refused."""
    wrong = Wrong()
    parsed = None
    key, expected = writes.preconditions(request, wrong)
    with wrong:
        parsed = await writes.read_body(request, schema, LONGEST_BODY)
    wrong.refuse()
    assert parsed is not None
    return key, expected, parsed


async def submit(
    request: web.Request, account: UUID, command: str, data: Any, *, key: str | None = None,
    matching: Expected = None, canonical: bytes = b"",
) -> Answer:  # fmt: skip
    """The answer to a command for `account` that succeeded. Raises Refused, Unfinished.

    `canonical` is the body, unless there is a password in it: not even a keyed hash of one is stored.
    """
    return await writes.submit(
        request, noun="accounts", command=command, data=_encode(data), key=key, canonical=canonical,
        aggregate_id=account, matching=matching, personal=True,
    )  # fmt: skip


async def changed(parts: Parts, id: UUID, answer: Answer) -> Reply:
    """The account after a change; a retry gets the same again. Raises Refused once it is erased, SealBroken."""
    wrapped = await key_of(parts, id)
    shown, version = account_views.answered(parts, answer, wrapped), answer.version
    if shown is None:  # carried out by a worker that kept no personal fields with its answers
        account = await found(parts, id)
        shown, version = account_views.opened(parts, account, wrapped), account.version
    return Reply(shown, version=version, headers=writes.reply_headers(answer, **NO_STORE))


async def found(parts: Parts, id: UUID | None) -> Account:
    """The account with that id, also an erased one. Raises Refused, StoresAway."""
    account = None if id is None else await parts.stores.accounts.get(id)
    if account is None:
        raise refused(Code.NOT_FOUND)
    return account


async def own(request: web.Request) -> Account:
    """The caller's account. Raises Refused: 410 once it is erased, 404 if there never was one."""
    account = await found(request.app[PARTS], request[ACTOR].id)
    if account.status is AccountStatus.ERASED:
        raise refused(Code.ACCOUNT_ERASED)
    return account


async def key_of(parts: Parts, account: UUID) -> bytes:
    """The account's wrapped key. Raises Refused if it was erased meanwhile, StoresAway."""
    wrapped = await parts.stores.accounts.key(account)
    if wrapped is None:
        raise refused(Code.ACCOUNT_ERASED)
    return wrapped


async def check_password(request: web.Request, account: Account, password: str) -> bytes:
    """The account's wrapped key, if the password is right. Raises Refused, TooBusy.

    To the limits it is a try to log in.
    """
    parts = request.app[PARTS]
    wrapped = await key_of(parts, account.id)
    hashed = parts.sealer.open(wrapped, account.id, "password", account.password_sealed)
    async with parts.quotas.attempt(request, account.email_index or "", account.id):
        if not await parts.passwords.verify(hashed, password):
            raise refused(Code.WRONG_PASSWORD)
    return wrapped


async def reply_of(parts: Parts, account: Account) -> Reply:
    """The account with its personal fields opened. Raises Refused, SealBroken."""
    wrapped = await key_of(parts, account.id)
    return Reply(account_views.opened(parts, account, wrapped), version=account.version, headers=NO_STORE)
