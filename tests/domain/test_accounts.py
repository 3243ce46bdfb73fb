"""Accounts: who may make which."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from domain.access import GUEST, SYSTEM, Actor, Role
from domain.accounts import (
    COMMANDS,
    EVENT_NAMES,
    EVENTS,
    Account,
    AccountCreated,
    AccountDisabled,
    AccountEnabled,
    AccountErased,
    AccountStatus,
    AccountUpdated,
    ChangePassword,
    ChangeRole,
    Command,
    CreateAccount,
    DisableAccount,
    EnableAccount,
    EraseAccount,
    PasswordChanged,
    RoleChanged,
    UpdateAccount,
    decide,
    document,
    evolve,
    may_end_admin,
)
from domain.aggregates import Context, Occurrence, fold
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
    assert list(msgspec.json.decode(document(state))) == [
        "id", "role", "status", "version", "created_at", "updated_at", "email_verified", "language",
    ]  # fmt: skip


OTHER = Actor(UUID(int=3), Role.USER)
PASSWORD = ChangePassword(password_sealed="new hash", checked_sealed="hash", kept_session=UUID(int=7))


def account(*events: Any) -> Account:
    state = fold(evolve, None, [made(), *events], by(ITSELF))
    assert isinstance(state, Account)
    return state


def test_who_tells_of_itself_changes_what_it_gives_and_nothing_else() -> None:
    state = account()
    events = decide(state, UpdateAccount(name_sealed="new name", phone_sealed="phone"), by(ITSELF))
    assert events == (AccountUpdated(name_sealed="new name", phone_sealed="phone"),)
    after = account(*events)
    assert (after.name_sealed, after.phone_sealed, after.email_sealed, after.version) == (
        "new name", "phone", "sealed e-mail", 2,
    )  # fmt: skip
    without = account(*events, AccountUpdated(phone_sealed=None))
    assert (without.name_sealed, without.phone_sealed) == ("new name", None)
    assert decide(state, UpdateAccount(), by(ITSELF)) == ()
    stale = UpdateAccount(name_sealed="x", expected_version=7)
    assert decide(state, stale, by(ITSELF)) == Refusal(Code.STALE_VERSION)


def test_a_password_is_changed_by_whoever_had_the_present_one() -> None:
    state = account()
    assert decide(state, PASSWORD, by(ITSELF)) == (PasswordChanged("new hash", UUID(int=7)),)
    after = account(PasswordChanged("new hash", UUID(int=7)))
    assert (after.password_sealed, after.version) == ("new hash", 2)
    # Checked against the one before: somebody was quicker.
    assert decide(after, PASSWORD, by(ITSELF)) == Refusal(Code.WRONG_PASSWORD)


@pytest.mark.parametrize("command", [UpdateAccount(name_sealed="x"), PASSWORD])
def test_nobody_writes_what_another_says_of_itself(command: Command) -> None:
    assert decide(account(), command, by(ADMIN)) == Refusal(Code.FORBIDDEN)
    assert decide(account(), command, by(OTHER)) == Refusal(Code.NOT_FOUND)
    assert decide(account(), command, by(GUEST)) == Refusal(Code.NOT_FOUND)


@pytest.mark.parametrize("command", [ChangeRole(Role.ADMIN), DisableAccount(), EnableAccount(), EraseAccount()])
def test_others_learn_nothing_of_an_account(command: Command) -> None:
    for actor in (OTHER, GUEST, Actor(None, Role.USER)):
        assert decide(account(), command, by(actor)) == Refusal(Code.NOT_FOUND)


def test_an_account_is_disabled_and_enabled_by_admins_and_does_nothing_meanwhile() -> None:
    assert decide(account(), DisableAccount(), by(ITSELF)) == Refusal(Code.FORBIDDEN)
    assert decide(account(), EnableAccount(), by(ADMIN)) == ()
    assert decide(account(), DisableAccount(), by(ADMIN)) == (AccountDisabled(),)
    disabled = account(AccountDisabled())
    assert disabled.status is AccountStatus.DISABLED
    assert decide(disabled, DisableAccount(), by(ADMIN)) == ()
    for command in (UpdateAccount(name_sealed="x"), PASSWORD, EraseAccount()):
        assert decide(disabled, command, by(ITSELF)) == Refusal(Code.FORBIDDEN)
    assert decide(disabled, EnableAccount(3), by(ADMIN)) == Refusal(Code.STALE_VERSION)
    assert decide(disabled, EnableAccount(2), by(ADMIN)) == (AccountEnabled(),)
    assert account(AccountDisabled(), AccountEnabled()).status is AccountStatus.ACTIVE


@pytest.mark.parametrize("actor", [ITSELF, ADMIN, SYSTEM])
def test_of_an_erased_account_nothing_personal_is_left(actor: Actor) -> None:
    assert decide(account(), EraseAccount(), by(actor)) == (AccountErased(),)
    erased = account(RoleChanged(Role.ADMIN), AccountErased())
    assert erased == Account(
        ID, "", "", None, None, "", Role.USER, AccountStatus.ERASED, version=3, created_at=NOW, updated_at=NOW
    )
    assert (erased.deleted_at, account().deleted_at) == (NOW, None)


@pytest.mark.parametrize(
    "command", [UpdateAccount(name_sealed="x"), PASSWORD, ChangeRole(Role.ADMIN), EnableAccount(), EraseAccount()]
)
def test_nothing_happens_to_an_erased_account(command: Command) -> None:
    erased = account(AccountErased())
    assert decide(erased, command, by(ITSELF)) == Refusal(Code.ACCOUNT_ERASED)
    assert decide(erased, command, by(ADMIN)) == Refusal(Code.NOT_FOUND)
    assert decide(erased, NEW, by(ITSELF)) == Refusal(Code.ALREADY_EXISTS)


def test_what_may_end_an_admin_is_known() -> None:
    ending = (ChangeRole(Role.USER), DisableAccount(), EraseAccount())
    others = (ChangeRole(Role.ADMIN), EnableAccount(), UpdateAccount(), PASSWORD, NEW)
    assert [may_end_admin(command) for command in (*ending, *others)] == [True] * 3 + [False] * 5


def test_a_history_that_nobody_made_is_refused() -> None:
    with pytest.raises(ValueError, match=r"account\.erased"):
        evolve(None, AccountErased(), Occurrence(ID, 1, NOW))


sealed = st.text("abc", min_size=1, max_size=5)
versions = st.none() | st.integers(0, 6)
steps = st.one_of(
    st.builds(
        lambda name, phone, version: UpdateAccount(name_sealed=name, phone_sealed=phone, expected_version=version),
        sealed | st.just(UNSET), sealed | st.none() | st.just(UNSET), versions,
    ),
    st.builds(
        lambda new, checked, kept: ChangePassword(password_sealed=new, checked_sealed=checked, kept_session=kept),
        sealed, sealed | st.just("hash"), st.none() | st.uuids(),
    ),
    st.builds(ChangeRole, st.sampled_from(Role), versions),
    st.builds(DisableAccount, versions), st.builds(EnableAccount, versions), st.builds(EraseAccount, versions),
    st.just(NEW),
)  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from([ITSELF, ADMIN, SYSTEM, OTHER, GUEST]), steps), max_size=12))
def test_any_history_keeps_its_promises(history: list[tuple[Actor, Command]]) -> None:
    state = account()
    happened: list[Any] = [made()]
    for actor, command in history:
        outcome = decide(state, command, by(actor))
        kind = type(command)
        assert msgspec.json.decode(msgspec.json.encode(command), type=kind) == command
        assert COMMANDS[next(name for name, known in COMMANDS.items() if known is kind)] is kind
        if isinstance(outcome, Refusal):
            continue
        assert actor in (ITSELF, ADMIN, SYSTEM)
        assert not state.deleted_at
        for event in outcome:
            kept = msgspec.json.decode(msgspec.json.encode(event), type=EVENTS[EVENT_NAMES[type(event)]])
            assert kept == event
            happened.append(event)
        before, state = state, fold(evolve, state, outcome, by(actor)) or state
        assert state.version == before.version + len(outcome) == len(happened)
    again: Account | None = None
    for number, event in enumerate(happened, start=1):
        again = evolve(again, event, Occurrence(ID, number, NOW))
    assert again == state
    assert (state.status is AccountStatus.ERASED) == (state.email_index is None) == (AccountErased() in happened)
