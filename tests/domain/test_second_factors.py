"""Second factors, given/when/then: what was used is used up, whoever is faster."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from domain.access import SYSTEM, Actor, Role
from domain.aggregates import Context, fold
from domain.refusals import Code, Refusal
from domain.second_factors import (
    COMMANDS,
    EVENT_NAMES,
    EVENTS,
    PENDING_KEPT,
    BeginSecondFactor,
    CodeUsed,
    ConfirmSecondFactor,
    Proof,
    Reason,
    RecoveryCodesRenewed,
    RecoveryCodeUsed,
    RemoveSecondFactor,
    RenewRecoveryCodes,
    ResetSecondFactor,
    SecondFactor,
    SecondFactorBegun,
    SecondFactorEnabled,
    SecondFactorRemoved,
    UseSecondFactor,
    decide,
    document,
    evolve,
)

ID, OTHER = UUID(int=7), UUID(int=8)
NOW = datetime(2026, 11, 26, 9, tzinfo=UTC)
OWNER, ADMIN = Actor(ID, Role.USER), Actor(OTHER, Role.ADMIN)
CODES = tuple(f"{n:064x}" for n in range(10))
OTHERS = tuple(f"{n:064x}" for n in range(10, 20))
WAITING = (SecondFactorBegun("sealed", NOW + PENDING_KEPT),)
ON = (*WAITING, SecondFactorEnabled(100, CODES))


def context(actor: Actor = OWNER, now: datetime = NOW) -> Context:
    return Context(actor, ID, now)


def given(*events: Any) -> SecondFactor | None:
    return fold(evolve, None, events, context())


def after(state: SecondFactor | None, command: Any, actor: Actor = OWNER) -> SecondFactor:
    events = decide(state, command, context(actor))
    assert not isinstance(events, Refusal), events
    state = fold(evolve, state, events, context(actor))
    assert state is not None
    return state


def code(state: SecondFactor | None, command: Any, actor: Actor = OWNER, now: datetime = NOW) -> Code | None:
    events = decide(state, command, context(actor, now))
    return events.code if isinstance(events, Refusal) else None


def step(number: int, sealed: str = "sealed") -> Proof:
    return Proof(sealed, step=number)


def test_it_counts_from_its_first_code_on() -> None:
    state = after(None, BeginSecondFactor("sealed"))
    assert (state.on, state.pending(NOW)) == (False, "sealed")
    assert code(state, UseSecondFactor(step(101))) is Code.WRONG_CODE
    state = after(state, ConfirmSecondFactor("sealed", 100, CODES))
    assert (state.on, state.secret_sealed, state.pending_sealed, state.enabled_at) == (True, "sealed", None, NOW)
    assert (state.last_step, state.recovery, state.version) == (100, CODES, 2)


def test_a_secret_waits_for_a_while_and_the_last_one_counts() -> None:
    state = given(*WAITING)
    confirm = ConfirmSecondFactor("sealed", 100, CODES)
    assert code(state, confirm, now=NOW + PENDING_KEPT - timedelta(seconds=1)) is None
    assert code(state, confirm, now=NOW + PENDING_KEPT) is Code.SECOND_FACTOR_OFF
    assert code(None, confirm) is Code.SECOND_FACTOR_OFF
    state = after(state, BeginSecondFactor("another"))
    assert code(state, confirm) is Code.WRONG_CODE
    assert code(state, ConfirmSecondFactor("another", 100, CODES)) is None


def test_one_that_is_on_is_neither_begun_nor_confirmed_again() -> None:
    for command in (BeginSecondFactor("another"), ConfirmSecondFactor("sealed", 200, OTHERS)):
        assert code(given(*ON), command) is Code.SECOND_FACTOR_ON


def test_a_code_and_those_before_it_are_good_once() -> None:
    state = given(*ON)
    assert code(state, UseSecondFactor(step(100))) is Code.WRONG_CODE  # it has confirmed
    state = after(state, UseSecondFactor(step(102)))
    assert state.last_step == 102
    for used in (100, 101, 102):
        for command in (
            UseSecondFactor(step(used)), RemoveSecondFactor(step(used)), RenewRecoveryCodes(OTHERS, step(used)),
        ):  # fmt: skip
            assert code(state, command) is Code.WRONG_CODE
    assert code(state, UseSecondFactor(step(103))) is None


def test_a_recovery_code_is_good_once() -> None:
    state = given(*ON)
    for number, one in enumerate(CODES, start=1):
        use = UseSecondFactor(Proof("sealed", recovery=one))
        assert decide(state, use, context()) == (RecoveryCodeUsed(one, 10 - number),)
        state = after(state, use)
        assert len(state.recovery) == 10 - number
        assert code(state, UseSecondFactor(Proof("sealed", recovery=one))) is Code.WRONG_CODE
    assert code(state, UseSecondFactor(Proof("sealed"))) is Code.WRONG_CODE


def test_a_code_of_another_secret_is_wrong() -> None:
    for proof in (step(101, "another"), Proof("another", recovery=CODES[0])):
        assert code(given(*ON), UseSecondFactor(proof)) is Code.WRONG_CODE


@pytest.mark.parametrize("proof", [None, step(101), Proof("sealed", recovery=CODES[3])])
def test_renewed_and_removed_by_the_password_or_a_code(proof: Proof | None) -> None:
    state = after(given(*ON), RenewRecoveryCodes(OTHERS, proof))
    assert (state.recovery, state.last_step) == (OTHERS, 101 if proof is not None and proof.step else 100)
    events = decide(given(*ON), RemoveSecondFactor(proof), context())
    used = [] if proof is None else [CodeUsed(101) if proof.step else RecoveryCodeUsed(CODES[3], None)]
    assert events == (*used, SecondFactorRemoved("removed"))
    state = after(given(*ON), RemoveSecondFactor(proof))
    assert state == SecondFactor(ID, None, None, None, None, 0, (), 3 + len(used))
    for command in (RemoveSecondFactor(proof), RenewRecoveryCodes(OTHERS, proof)):
        assert code(state, command) is Code.SECOND_FACTOR_OFF
        assert code(None, command) is Code.SECOND_FACTOR_OFF
        assert code(given(*WAITING), command) is Code.SECOND_FACTOR_OFF
    # It is begun anew, and no code of before is any good.
    state = after(after(state, BeginSecondFactor("new")), ConfirmSecondFactor("new", 50, OTHERS))
    assert code(state, UseSecondFactor(Proof("new", recovery=CODES[0]))) is Code.WRONG_CODE


def test_an_admin_resets_that_of_another_and_not_its_own() -> None:
    assert code(given(*ON), ResetSecondFactor()) is Code.FORBIDDEN
    assert code(given(*ON), ResetSecondFactor(), Actor(ID, Role.ADMIN)) is Code.FORBIDDEN
    assert code(given(*ON), ResetSecondFactor(), Actor(OTHER, Role.USER)) is Code.FORBIDDEN
    for before, was_on in ((WAITING, False), (ON, True)):
        removed = SecondFactorRemoved("reset", was_on)
        assert decide(given(*before), ResetSecondFactor(), context(ADMIN)) == (removed,)
    assert code(None, ResetSecondFactor(), ADMIN) is Code.SECOND_FACTOR_OFF
    assert code(after(given(*ON), ResetSecondFactor(), ADMIN), ResetSecondFactor(), ADMIN) is Code.SECOND_FACTOR_OFF


def test_the_system_ends_it_with_the_account() -> None:
    ended = ResetSecondFactor(Reason.ERASED)
    assert decide(given(*ON), ended, context(SYSTEM)) == (SecondFactorRemoved("erased"),)
    assert decide(None, ended, context(SYSTEM)) == ()


@pytest.mark.parametrize("actor", [ADMIN, SYSTEM, Actor(OTHER, Role.USER), Actor(None, Role.GUEST)])
def test_nobody_else_has_codes_checked_or_changed(actor: Actor) -> None:
    for command in (
        BeginSecondFactor("s"), ConfirmSecondFactor("sealed", 101, CODES), UseSecondFactor(step(101)),
        RenewRecoveryCodes(OTHERS), RemoveSecondFactor(),
    ):  # fmt: skip
        for state in (None, given(*WAITING), given(*ON)):
            assert code(state, command, actor) is Code.FORBIDDEN


def test_events_travel_and_no_document_tells_a_secret() -> None:
    for event in (
        *ON, CodeUsed(5), RecoveryCodeUsed(CODES[0]), RecoveryCodesRenewed(OTHERS), SecondFactorRemoved("reset"),
    ):  # fmt: skip
        assert msgspec.json.decode(msgspec.json.encode(event), type=EVENTS[EVENT_NAMES[type(event)]]) == event
    # An older version's say less.
    assert msgspec.json.decode(b'{"reason":"reset"}', type=SecondFactorRemoved) == SecondFactorRemoved("reset", True)
    assert msgspec.json.decode(b'{"recovery":"c"}', type=RecoveryCodeUsed) == RecoveryCodeUsed("c", None)
    assert len(COMMANDS) == 6
    shown = document(after(given(*ON), UseSecondFactor(step(101))))
    assert msgspec.json.decode(shown) == {
        "id": str(ID), "status": "on", "enabled_at": "2026-11-26T09:00:00Z", "recovery_codes_left": 10, "version": 3,
    }  # fmt: skip


def test_a_history_that_nobody_has_made_is_refused() -> None:
    with pytest.raises(ValueError, match="without a second factor"):
        given(CodeUsed(5))
