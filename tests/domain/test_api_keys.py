"""API keys: who makes and ends them, what they may do, and what any history of that comes to."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import api_keys
from domain.access import GUEST, SCOPES, SYSTEM, Actor, Role, Scope
from domain.aggregates import Context, fold
from domain.api_keys import (
    LONGEST_LIFE,
    MOST,
    MOST_ENDED,
    ApiKeyCreated,
    ApiKeyRevoked,
    ApiKeys,
    ApiKeysBarred,
    CreateApiKey,
    Reason,
    RevokeApiKey,
    RevokeApiKeys,
    decide,
    document,
)
from domain.refusals import Code, Problem, Refusal
from domain.sessions import ENDED_KEPT, Ended

ID = UUID(int=1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ITSELF = Actor(ID, Role.USER)
ITSELF_ADMIN = Actor(ID, Role.ADMIN)
OTHER = Actor(UUID(int=2), Role.USER)
ADMIN = Actor(UUID(int=3), Role.ADMIN)
A, B, C = (UUID(int=number) for number in (10, 11, 12))
READ, WRITE, ALL = (Scope.READ,), (Scope.READ, Scope.WRITE), tuple(Scope)


def create(
    key: UUID = A, scopes: tuple[Scope, ...] = READ, *, version: int = 1, expires: datetime | None = None
) -> CreateApiKey:
    return CreateApiKey(key, key.hex * 2, "name", scopes, version, expires)


def after(*commands: Any, now: datetime = NOW, actor: Actor = ITSELF, state: ApiKeys | None = None) -> Any:
    """The state after commands that are not refused."""
    for command in commands:
        context = Context(actor, ID, now)
        events = decide(state, command, context)
        assert not isinstance(events, Refusal), (command, events)
        state = fold(api_keys.evolve, state, events, context)
    return state


def asked(state: ApiKeys | None, command: Any, *, actor: Actor = ITSELF, now: datetime = NOW) -> Any:
    return decide(state, command, Context(actor, ID, now))


def good(state: ApiKeys) -> list[UUID]:
    return [one.id for one in state.held]


def test_a_key_is_made_with_each_scope_once_and_in_order() -> None:
    twice = create(scopes=(Scope.WRITE, Scope.READ, Scope.WRITE))
    assert asked(None, twice) == (ApiKeyCreated(A, A.hex * 2, "name", WRITE, 1, None),)
    state = after(twice, create(B))
    assert good(state) == [A, B]
    assert msgspec.json.decode(document(state)) == {"id": str(ID), "api_keys": [str(A), str(B)], "version": 2}


@pytest.mark.parametrize("actor", [OTHER, ADMIN, SYSTEM, GUEST])
def test_nobody_makes_a_key_of_another(actor: Actor) -> None:
    assert asked(None, create(), actor=actor) == Refusal(Code.FORBIDDEN)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("scope", Scope)
def test_a_key_has_no_scope_that_its_account_has_not(role: Role, scope: Scope) -> None:
    answer = asked(None, create(scopes=(scope,)), actor=Actor(ID, role))
    assert (answer == Refusal(Code.FORBIDDEN)) == (scope not in SCOPES[role])


def test_an_expiry_lies_ahead() -> None:
    state = after(create(expires=NOW + MINUTE))
    assert state.find(A, NOW) is not None
    assert state.find(A, NOW + MINUTE) is None
    assert asked(None, create(expires=NOW + LONGEST_LIFE))[0].expires_at == NOW + LONGEST_LIFE
    for wrong in (NOW, NOW - MINUTE, NOW + LONGEST_LIFE + MINUTE):
        refusal = asked(None, create(expires=wrong))
        assert refusal.code is Code.VALIDATION_ERROR
        (detail,) = refusal.details
        assert (detail.field, detail.problem) == ("expires_at", Problem.RANGE)
        assert detail.allowed == "2026-01-01T00:00:00Z–2036-01-09T00:00:00Z"


def test_a_key_that_is_there_or_was_a_moment_ago_is_not_made_again() -> None:
    state = after(create())
    assert asked(state, create()) == Refusal(Code.ALREADY_EXISTS)
    assert asked(after(RevokeApiKey(A), state=state), create()) == Refusal(Code.ALREADY_EXISTS)


@pytest.mark.parametrize("actor", [ITSELF, ADMIN, SYSTEM])
def test_a_key_is_ended_by_its_account_and_by_admins(actor: Actor) -> None:
    state = after(create(), create(B))
    assert asked(state, RevokeApiKey(A), actor=actor) == (ApiKeyRevoked(A, "revoked"),)
    left = after(RevokeApiKey(A), actor=actor, state=state)
    assert (good(left), left.ended) == ([B], (Ended(A, NOW, 3),))
    assert asked(left, RevokeApiKey(A), actor=actor) == Refusal(Code.NOT_FOUND)


@pytest.mark.parametrize("command", [RevokeApiKey(A), RevokeApiKeys(Reason.DISABLED, 9)])
@pytest.mark.parametrize("actor", [OTHER, GUEST])
def test_nobody_else_ends_keys(command: Any, actor: Actor) -> None:
    assert asked(after(create()), command, actor=actor) == Refusal(Code.FORBIDDEN)


def test_what_is_not_there_or_expired_is_not_ended() -> None:
    assert asked(None, RevokeApiKey(A)) == Refusal(Code.NOT_FOUND)
    state = after(create(expires=NOW + MINUTE))
    assert asked(state, RevokeApiKey(A), now=NOW + MINUTE) == Refusal(Code.NOT_FOUND)


def test_keys_that_an_older_version_of_the_account_made_end_and_come_no_more() -> None:
    state = after(create(version=2), create(B, version=5))
    command = RevokeApiKeys(Reason.DISABLED, 5)
    assert asked(state, command, actor=SYSTEM) == (ApiKeyRevoked(A, "disabled"), ApiKeysBarred(5))
    state = after(command, actor=SYSTEM, state=state)
    assert good(state) == [B]
    assert asked(state, create(C, version=4)) == Refusal(Code.STALE_VERSION)
    assert asked(state, create(C, version=5)) != Refusal(Code.STALE_VERSION)
    assert asked(state, command, actor=SYSTEM) == ()
    # Also where there is no key yet: one may be under way.
    assert asked(after(command, actor=SYSTEM), create()) == Refusal(Code.STALE_VERSION)


def test_another_role_ends_the_keys_that_do_more() -> None:
    made = (create(), create(B, WRITE), create(C, ALL))
    state = after(*made, actor=ITSELF_ADMIN)
    less = RevokeApiKeys(Reason.ROLE_CHANGED, 2, SCOPES[Role.USER])
    assert good(after(less, actor=SYSTEM, state=state)) == [A, B]
    assert good(after(RevokeApiKeys(Reason.ROLE_CHANGED, 2, ALL), actor=SYSTEM, state=state)) == [A, B, C]


def test_an_account_has_so_many_keys_that_are_good() -> None:
    keys = [create(UUID(int=100 + number), expires=NOW + MINUTE if number else None) for number in range(MOST)]
    state = after(*keys)
    assert asked(state, create()) == Refusal(Code.TOO_MANY_API_KEYS)
    assert good(after(RevokeApiKey(keys[0].key), create(), state=state))[-1] == A
    assert good(after(create(), now=NOW + MINUTE, state=state)) == [keys[0].key, A]


def test_so_many_may_end_in_a_while() -> None:
    state = after(create())
    ended = tuple(Ended(UUID(int=1000 + number), NOW, number) for number in range(MOST_ENDED))
    state = msgspec.structs.replace(state, ended=ended)
    assert asked(state, create(B)) == Refusal(Code.TOO_BUSY)
    assert len(after(create(B), now=NOW + ENDED_KEPT, state=state).ended) == 0


keys = st.integers(0, 5).map(lambda number: UUID(int=number))
commands = st.one_of(
    st.builds(
        create, keys, st.lists(st.sampled_from(Scope), min_size=1, max_size=3).map(tuple), version=st.integers(1, 4),
        expires=st.none() | st.integers(1, 50).map(lambda minutes: NOW + minutes * MINUTE),
    ),
    st.builds(RevokeApiKey, keys),
    st.builds(RevokeApiKeys, st.sampled_from(Reason), st.integers(1, 4), st.sampled_from([(), READ, WRITE])),
)  # fmt: skip
actors = st.sampled_from([ITSELF, ITSELF_ADMIN, OTHER, SYSTEM])


@given(st.lists(st.tuples(actors, commands), max_size=30))
def test_any_history_keeps_its_promises(history: list[tuple[Actor, Any]]) -> None:
    state: ApiKeys | None = None
    happened = 0
    for minute, (actor, command) in enumerate(history):
        context = Context(actor, ID, NOW + minute * MINUTE)
        before = state
        events = decide(state, command, context)
        if isinstance(events, Refusal):
            continue
        happened += len(events)
        state = fold(api_keys.evolve, state, events, context)
        if state is None:
            continue
        assert state.version == happened
        assert len(set(good(state))) == len(state.held) <= MOST
        assert set(good(state)).isdisjoint(one.id for one in state.ended)
        assert before is None or state.barred >= before.barred
        if isinstance(command, RevokeApiKeys):
            late = [one for one in state.held if one.account_version < command.account_version]
            assert all(set(one.scopes) <= set(command.kept_scopes) for one in late if one.is_good(context.now))
