"""Accounts: who may make which."""

from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest

from domain.access import GUEST, SYSTEM, Actor, Role
from domain.accounts import Account, AccountCreated, ChangeRole, CreateAccount, RoleChanged, decide, document, evolve
from domain.aggregates import Context, fold
from domain.refusals import Code, Refusal

ID = UUID(int=1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
NEW = CreateAccount("sealed e-mail", "sealed name", "0" * 64, "hash")
ITSELF = Actor(ID, Role.USER)
ADMIN = Actor(UUID(int=2), Role.ADMIN)


def by(actor: Actor) -> Context:
    return Context(actor, ID, NOW)


def made(command: CreateAccount = NEW) -> AccountCreated:
    return AccountCreated("sealed e-mail", "sealed name", None, "0" * 64, "hash", command.role)


@pytest.mark.parametrize("actor", [ITSELF, ADMIN, SYSTEM])
def test_who_registers_acts_as_itself_and_admins_for_anybody(actor: Actor) -> None:
    assert decide(None, NEW, by(actor)) == (made(),)


@pytest.mark.parametrize("actor", [GUEST, Actor(UUID(int=3), Role.USER)])
def test_nobody_else_makes_an_account(actor: Actor) -> None:
    assert decide(None, NEW, by(actor)) == Refusal(Code.FORBIDDEN)


def test_only_admins_make_admins() -> None:
    admin = msgspec.structs.replace(NEW, role=Role.ADMIN)
    assert decide(None, admin, by(ITSELF)) == Refusal(Code.FORBIDDEN)
    assert decide(None, admin, by(SYSTEM)) == (made(admin),)
    assert decide(None, msgspec.structs.replace(NEW, role=Role.GUEST), by(ADMIN)) == Refusal(Code.FORBIDDEN)


def test_a_role_is_changed_by_admins_and_once() -> None:
    state = fold(evolve, None, [made()], by(ITSELF))
    change = ChangeRole(Role.ADMIN)
    assert decide(state, change, by(ITSELF)) == Refusal(Code.FORBIDDEN)
    assert decide(None, change, by(SYSTEM)) == Refusal(Code.NOT_FOUND)
    assert decide(state, ChangeRole(Role.GUEST), by(SYSTEM)) == Refusal(Code.FORBIDDEN)
    assert decide(state, change, by(SYSTEM)) == (RoleChanged(Role.ADMIN),)
    after = fold(evolve, state, [RoleChanged(Role.ADMIN)], by(SYSTEM))
    assert isinstance(after, Account)
    assert (after.role, after.version) == (Role.ADMIN, 2)
    assert decide(after, change, by(ADMIN)) == ()


def test_an_account_comes_to_be_once_and_shows_nothing_sealed() -> None:
    state = fold(evolve, None, [made()], by(ITSELF))
    assert isinstance(state, Account)
    assert decide(state, NEW, by(ITSELF)) == Refusal(Code.ALREADY_EXISTS)
    assert list(msgspec.json.decode(document(state))) == ["id", "role", "status", "version", "created_at", "updated_at"]
