"""How accounts are shown: what anybody may know of them, and their personal fields, opened with the account's key."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import orjson
from msgspec import UNSET, UnsetType

from domain.access import Actor, Role
from domain.accounts import Account, Personal, document, personal
from streams.publish import Answer
from web.parts import Parts


class _Sealed(msgspec.Struct):
    """Whether something sealed stands in an answer: only in that to a command for an account."""

    sealed: Personal | UnsetType = UNSET


_sealed = msgspec.json.Decoder(_Sealed).decode


def opened(parts: Parts, account: Account, wrapped: bytes | None) -> bytes:
    """The JSON of an account with its personal fields, null without its key. Raises SealBroken."""
    return document(account)[:-1] + b"," + orjson.dumps(_open(parts, account.id, personal(account), wrapped))[1:]


def members(answer: Answer) -> dict[str, Any]:
    """What anybody may know of an account, from the answer to a command."""
    shown: dict[str, Any] = orjson.loads(answer.document)
    shown.pop("sealed", None)
    return shown


def answered(parts: Parts, answer: Answer, wrapped: bytes) -> bytes | None:
    """The JSON of an account as it was when the command was carried out; None of a worker that kept nothing sealed.

    Raises SealBroken.
    """
    sealed = _sealed(answer.document).sealed
    return None if sealed is UNSET else _opened(parts, answer, sealed, wrapped)


async def result(parts: Parts, actor: Actor, answer: Answer) -> bytes:
    """What an operation that succeeded is shown with: its object, or JSON's null if that is gone.

    Personal fields are shown to whose they are and to admins, until the account is erased.
    Raises StoresAway, SealBroken.
    """
    if not answer.document:
        return b"null"
    sealed = _sealed(answer.document).sealed
    if sealed is UNSET:
        return answer.document
    account = UUID(members(answer)["id"])
    # Who asked for the operation as an admin may be none any more.
    may_see = actor.role is Role.ADMIN or actor.id == account
    return _opened(parts, answer, sealed, await parts.stores.accounts.key(account) if may_see else None)


def _opened(parts: Parts, answer: Answer, sealed: Personal, wrapped: bytes | None) -> bytes:
    shown = members(answer)
    return orjson.dumps(shown | _open(parts, UUID(shown["id"]), sealed, wrapped))


def _open(parts: Parts, account: UUID, sealed: Personal, wrapped: bytes | None) -> dict[str, str | None]:
    def open_(field: str, text: str | None) -> str | None:
        if wrapped is None or text is None:
            return None
        return parts.sealer.open(wrapped, account, field, text)

    waits = sealed.pending_until is not None and sealed.pending_until > datetime.now(UTC)
    return {
        "email": open_("email", sealed.email),
        "name": open_("name", sealed.name),
        "phone": open_("phone", sealed.phone),
        "pending_email": open_("email", sealed.pending_email if waits else None),
    }
