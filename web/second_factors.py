"""The second factor of one's own account over HTTP: begun, confirmed, seen, turned off; and reset by admins.

What is shown once, the secret and the recovery codes, is waited for, whatever the caller prefers; no Idempotency-Key
is taken where it is shown, for nothing of it could be told again.
"""

import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from aiohttp import web

from domain.accounts import Account
from domain.refusals import Code, Problem
from domain.second_factors import (
    PENDING_KEPT,
    RECOVERY_CODES,
    BeginSecondFactor,
    ConfirmSecondFactor,
    Proof,
    RemoveSecondFactor,
    RenewRecoveryCodes,
    ResetSecondFactor,
    SecondFactor,
)
from security import totp
from streams.publish import Answer
from web import headers, users, writes
from web.auth import LONGEST_BODY, NO_STORE, OneTimeCode
from web.parts import PARTS, Parts
from web.paths import object_id
from web.presenters import Reply
from web.refused import invalid, refused
from web.second_step import SECRET, proof_of
from web.users import Present
from web.validation import Schema


class Beginning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /users/me/second-factor`."""

    password: Present


class FirstCode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /users/me/second-factor/confirm`."""

    code: OneTimeCode


class Proving(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who asks is the owner: by the password, by a code, or by both."""

    password: Present | msgspec.UnsetType = msgspec.UNSET
    code: OneTimeCode | msgspec.UnsetType = msgspec.UNSET


BEGINNING, FIRST_CODE, PROVING = Schema(Beginning), Schema(FirstCode), Schema(Proving)
_encode = msgspec.json.Encoder().encode


async def read(request: web.Request) -> Reply:
    """`GET /users/me/second-factor`: whether a login asks for a code, and how many recovery codes are left."""
    parts = request.app[PARTS]
    account = await users.own(request)
    return Reply(_encode(shown(await parts.stores.second_factors.get(account.id))), headers=NO_STORE)


async def begin(request: web.Request) -> Reply:
    """`POST /users/me/second-factor`: 201 with a secret, shown this once, which counts from its first code on."""
    parts = request.app[PARTS]
    given = (await writes.read_body(request, BEGINNING, LONGEST_BODY)).value
    account = await users.own(request)
    wrapped = await users.check_password(request, account, given.password)
    secret = totp.new_secret()
    await _submit(
        request, account.id, "begin_second_factor",
        BeginSecondFactor(parts.sealer.seal(wrapped, account.id, SECRET, secret)),
    )  # fmt: skip
    email = parts.sealer.open(wrapped, account.id, "email", account.email_sealed)
    shown = {"secret": secret, "uri": totp.uri(secret, email), "expires_in": int(PENDING_KEPT.total_seconds())}
    return Reply(_encode(shown), status=201, headers=NO_STORE)


async def confirm(request: web.Request) -> Reply:
    """`POST /users/me/second-factor/confirm`: 200 with the recovery codes, shown this once; logins ask from now on."""
    parts = request.app[PARTS]
    given = (await writes.read_body(request, FIRST_CODE, LONGEST_BODY)).value
    account = await users.own(request)
    factor = await parts.stores.second_factors.get(account.id)
    if factor is not None and factor.on:
        raise refused(Code.SECOND_FACTOR_ON)
    sealed = None if factor is None else factor.pending(datetime.now(UTC))
    if sealed is None:
        raise refused(Code.SECOND_FACTOR_OFF)
    wrapped = await users.key_of(parts, account.id)
    secret = parts.sealer.open(wrapped, account.id, SECRET, sealed)
    codes, hashed = _recovery_codes(parts, account.id)
    async with parts.quotas.attempt(request, account.email_index or "", account.id):
        step = totp.step_of(secret, given.code, time.time())
        if step is None:
            raise refused(Code.WRONG_CODE)
        await _submit(request, account.id, "confirm_second_factor", ConfirmSecondFactor(sealed, step, hashed))
    return Reply(_encode({"recovery_codes": codes}), headers=NO_STORE)


async def renew(request: web.Request) -> Reply:
    """`POST /users/me/second-factor/recovery-codes`: 200 with others, shown this once; the old ones are over."""
    account, given = await _proving(request)
    codes, hashed = _recovery_codes(request.app[PARTS], account.id)
    await _prove(request, account, given, "renew_recovery_codes", lambda proof: RenewRecoveryCodes(hashed, proof))
    return Reply(_encode({"recovery_codes": codes}), headers=NO_STORE)


async def remove(request: web.Request) -> Reply:
    """`DELETE /users/me/second-factor`: 204; no login asks for a code any more. Sessions go on."""
    account, given = await _proving(request)
    await _prove(request, account, given, "remove_second_factor", RemoveSecondFactor)
    return Reply(status=204, headers=NO_STORE)


async def reset(request: web.Request) -> Reply:
    """`DELETE /users/{id}/second-factor`: 204; an admin helps somebody who has lost the app and every recovery code."""
    key = headers.idempotency_key(request)
    account = await users.found(request.app[PARTS], object_id(request))
    answer = await writes.submit(
        request, noun="second_factors", command="reset_second_factor", data=_encode(ResetSecondFactor()), key=key,
        aggregate_id=account.id,
    )  # fmt: skip
    return Reply(status=204, headers=writes.reply_headers(answer))


def shown(factor: SecondFactor | None) -> dict[str, Any]:
    """What its owner sees of it, and an export; nothing of its secrets."""
    on, now = factor is not None and factor.on, datetime.now(UTC)
    pending = factor is not None and factor.pending(now) is not None
    return {
        "status": "on" if on else "pending" if pending else "off",
        "enabled_at": None if factor is None else factor.enabled_at,
        "recovery_codes_left": 0 if factor is None else len(factor.recovery),
    }


def _recovery_codes(parts: Parts, account: UUID) -> tuple[list[str], tuple[str, ...]]:
    """New recovery codes, and their hashes."""
    codes = [totp.recovery_code() for _ in range(RECOVERY_CODES)]
    return codes, tuple(totp.recovery_hash(code, account, parts.settings.environment) for code in codes)


async def _proving(request: web.Request) -> tuple[Account, Proving]:
    given = (await writes.read_body(request, PROVING, LONGEST_BODY)).value
    if given.password is msgspec.UNSET and given.code is msgspec.UNSET:
        raise invalid("password", Problem.REQUIRED_OR, "code")
    return await users.own(request), given


async def _prove(request: web.Request, account: Account, given: Proving, name: str, command: Any) -> None:
    """Has `command`, made of the proof if there is one, carried out if all that is given is right. Raises Refused."""
    parts = request.app[PARTS]
    if given.password is msgspec.UNSET:
        wrapped = await users.key_of(parts, account.id)
    else:
        wrapped = await users.check_password(request, account, given.password)
    factor = await parts.stores.second_factors.get(account.id)
    if factor is None or not factor.on:
        raise refused(Code.SECOND_FACTOR_OFF)
    if given.code is msgspec.UNSET:
        await _submit(request, account.id, name, command(None))
        return
    async with parts.quotas.attempt(request, account.email_index or "", account.id):
        proof: Proof = proof_of(parts, wrapped, factor, given.code)
        await _submit(request, account.id, name, command(proof))


async def _submit(request: web.Request, account: UUID, name: str, command: Any) -> Answer:
    return await writes.submit(
        request, noun="second_factors", command=name, data=_encode(command), key=None, aggregate_id=account,
        awaited=True,
    )  # fmt: skip
