"""Accounts over HTTP, for admins: list, search, another role, disable and enable, erase."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec
from aiohttp import web

from domain.access import Role
from domain.accounts import Account, AccountStatus, ChangeRole, DisableAccount, EnableAccount, EraseAccount
from domain.refusals import Code, Problem
from domain.text import problem
from domain.versions import Expected
from security import fields
from stores.accounts import AccountQuery
from web import account_views, headers, queries, users, writes
from web.auth import NO_STORE
from web.parts import PARTS, Parts
from web.paths import object_id
from web.presenters import Reply
from web.refused import Wrong, invalid, refused
from web.validation import Schema


class Given(StrEnum):
    """The roles that an account may have; a guest is whoever has none."""

    ADMIN = Role.ADMIN.value
    USER = Role.USER.value


class Use(StrEnum):
    """The states between which an admin moves an account."""

    ACTIVE = AccountStatus.ACTIVE.value
    DISABLED = AccountStatus.DISABLED.value


class NewRole(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `PUT /users/{id}/role`."""

    role: Given


class NewStatus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `PUT /users/{id}/status`."""

    status: Use


NEW_ROLE, NEW_STATUS = Schema(NewRole), Schema(NewStatus)
DEFAULT_LIMIT, MOST = 20, 100
LONGEST_EMAIL = 254
PARAMETERS = frozenset({"limit", "cursor", "filter[email]", "filter[status]", "filter[role]"})
_CURSOR = b"cursor of users"


async def listing(request: web.Request) -> Reply:
    """`GET /users`: newest first, page by page; one account by its exact address, others by status and role."""
    parts = request.app[PARTS]
    wrong = Wrong()
    asked = queries.asked(request, wrong, PARAMETERS)
    limit, index, marked = DEFAULT_LIMIT, None, None
    with wrong:
        limit = queries.limit(asked.get("limit"), DEFAULT_LIMIT, MOST)
    with wrong:
        index = _index(parts, asked.get("filter[email]"))
    status, role = (_choice(asked, wrong, name, kind) for name, kind in (("status", Use), ("role", Given)))
    with wrong:
        marked = queries.marked(asked.get("cursor"), parts.settings.cursor_key, _CURSOR)
    wrong.refuse()
    bound = [index, status, role]
    if marked is not None and marked[0] != bound:
        raise invalid("cursor", Problem.ANOTHER_LIST)
    after = None if marked is None else (datetime.fromisoformat(marked[1]), UUID(marked[2]))
    page = await parts.stores.accounts.page(
        AccountQuery(limit=limit + 1, email_index=index, status=status, role=role, after=after)
    )
    cursor = None
    if len(page) > limit:
        page = page[:limit]
        place = [bound, page[-1].created_at.isoformat(), str(page[-1].id)]
        cursor = queries.cursor(parts.settings.cursor_key, _CURSOR, place)
    wrapped = await parts.stores.accounts.keys_of([account.id for account in page]) if page else {}
    items = [account_views.opened(parts, account, wrapped.get(account.id)) for account in page]
    return Reply(items=items, cursor=cursor, headers=NO_STORE)


async def read(request: web.Request) -> Reply:
    """`GET /users/{id}`: the account, or 304 if the caller has this version."""
    parts = request.app[PARTS]
    account = await _existing(parts, request)
    if headers.none_match(request, account.version):
        return Reply(status=304, version=account.version)
    return await users.reply_of(parts, account)


async def change_role(request: web.Request) -> Reply:
    """`PUT /users/{id}/role`: the account with its new role; tokens of the old one are no longer taken."""
    key, expected, parsed = await users.asked(request, NEW_ROLE)
    command = ChangeRole(Role(parsed.value.role.value), expected)
    return await _change(request, "change_role", command, key, expected, parsed.canonical)


async def change_status(request: web.Request) -> Reply:
    """`PUT /users/{id}/status`: the account, disabled (nobody logs in to it) or active again."""
    key, expected, parsed = await users.asked(request, NEW_STATUS)
    if parsed.value.status is Use.DISABLED:
        return await _change(request, "disable_account", DisableAccount(expected), key, expected, parsed.canonical)
    return await _change(request, "enable_account", EnableAccount(expected), key, expected, parsed.canonical)


async def erase(request: web.Request) -> Reply:
    """`DELETE /users/{id}`: 204; nothing of the account can be read from then on."""
    wrong = Wrong()
    key, expected = writes.preconditions(request, wrong)
    wrong.refuse()
    id = object_id(request)
    answer = await users.submit(request, id, "erase_account", EraseAccount(expected), key=key, matching=expected)
    return Reply(status=204, headers=writes.reply_headers(answer, **NO_STORE))


async def _change(
    request: web.Request, name: str, command: Any, key: str | None, expected: Expected, canonical: bytes
) -> Reply:
    id = object_id(request)
    answer = await users.submit(request, id, name, command, key=key, matching=expected, canonical=canonical)
    return await users.changed(request.app[PARTS], id, answer)


async def _existing(parts: Parts, request: web.Request) -> Account:
    account = await users.found(parts, object_id(request))
    if account.status is AccountStatus.ERASED:
        raise refused(Code.NOT_FOUND)
    return account


def _index(parts: Parts, email: str | None) -> str | None:
    """By what an address is found; None without one. It need not be a good one: then nobody has it."""
    if email is None:
        return None
    bad = problem(email)
    if bad is not None:
        raise invalid("filter[email]", bad)
    if len(email) > LONGEST_EMAIL:
        raise invalid("filter[email]", Problem.TOO_LONG, str(LONGEST_EMAIL))
    return fields.index(parts.settings.index_key, email)


def _choice(asked: dict[str, str], wrong: Wrong, name: str, kind: type[StrEnum]) -> str | None:
    text = asked.get(f"filter[{name}]")
    choices = [value.value for value in kind]
    if text is None or text in choices:
        return text
    with wrong:
        raise invalid(f"filter[{name}]", Problem.CHOICE, ", ".join(choices))
    return None
