"""Sessions: who begins, refreshes and ends them, and what any history of that comes to."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import sessions
from domain.access import GUEST, SYSTEM, Actor, Role
from domain.aggregates import Context, fold
from domain.refusals import Code, Refusal
from domain.sessions import (
    ENDED_KEPT,
    LIFETIME,
    MOST,
    MOST_ENDED,
    Ended,
    Reason,
    RefreshSession,
    RevokeSession,
    RevokeSessions,
    SessionRefreshed,
    SessionReused,
    SessionRevoked,
    Sessions,
    SessionsBarred,
    SessionStarted,
    StartSession,
    decide,
    document,
)

ID = UUID(int=1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ITSELF = Actor(ID, Role.USER)
OTHER = Actor(UUID(int=2), Role.USER)
ADMIN = Actor(UUID(int=3), Role.ADMIN)
A, B, C = (UUID(int=number) for number in (10, 11, 12))


def token(number: int) -> str:
    return f"{number:064x}"


def start(session: UUID = A, *, version: int = 1) -> StartSession:
    return StartSession(session, session.hex * 2, token(0), "device", "address", version)


def refresh(session: UUID = A, presented: int = 0, following: int = 1) -> RefreshSession:
    return RefreshSession(session, session.hex * 2, token(presented), token(following), "address")


def after(*commands: Any, now: datetime = NOW, actor: Actor = ITSELF, state: Sessions | None = None) -> Any:
    """The state after commands that are not refused."""
    for command in commands:
        context = Context(actor, ID, now)
        events = decide(state, command, context)
        assert not isinstance(events, Refusal), (command, events)
        state = fold(sessions.evolve, state, events, context)
    return state


def asked(state: Sessions | None, command: Any, *, actor: Actor = ITSELF, now: datetime = NOW) -> Any:
    return decide(state, command, Context(actor, ID, now))


def live(state: Sessions) -> list[UUID]:
    return [one.id for one in state.held]


def test_a_login_begins_a_session() -> None:
    assert asked(None, start()) == (
        SessionStarted(A, A.hex * 2, token(0), "device", "address", 1, NOW + timedelta(days=30)),
    )
    state = after(start(), start(B))
    assert live(state) == [A, B]
    assert msgspec.json.decode(document(state)) == {"id": str(ID), "sessions": [str(A), str(B)], "version": 2}


@pytest.mark.parametrize("actor", [OTHER, ADMIN, SYSTEM, GUEST])
def test_nobody_begins_or_refreshes_a_session_of_another(actor: Actor) -> None:
    assert asked(None, start(), actor=actor) == Refusal(Code.FORBIDDEN)
    assert asked(after(start()), refresh(), actor=actor) == Refusal(Code.FORBIDDEN)


def test_a_session_that_somebody_else_chose_is_not_begun() -> None:
    state = after(start())
    assert asked(state, start()) == Refusal(Code.ALREADY_EXISTS)
    assert asked(after(RevokeSession(A), state=state), start()) == Refusal(Code.ALREADY_EXISTS)


def test_each_refresh_token_is_good_for_one_refresh() -> None:
    later = NOW + timedelta(days=29)
    state = after(start())
    assert asked(state, refresh(), now=later) == (SessionRefreshed(A, token(1), "address", later + LIFETIME),)
    state = after(refresh(), state=state, now=later)
    assert (state.held[0].refreshed_at, state.held[0].started_at) == (later, NOW)
    assert asked(state, refresh(), now=later) == (SessionReused(A), SessionRevoked(A, "reused"))
    state = after(refresh(), state=state, now=later)
    assert (live(state), state.ended) == ([], (Ended(A, later, 4),))
    for presented in (0, 1, 2):
        assert asked(state, refresh(presented=presented), now=later) == Refusal(Code.SESSION_ENDED)


def test_of_two_refreshes_at_once_the_second_ends_the_session() -> None:
    state = after(start(), start(B), refresh(following=1), refresh(following=2))
    assert live(state) == [B]


def test_who_never_had_a_token_of_the_session_can_not_end_it() -> None:
    state = after(start(), start(B))
    guess = RefreshSession(A, B.hex * 2, token(0), token(1), "address")
    assert asked(state, guess) == Refusal(Code.SESSION_ENDED)
    assert asked(state, refresh(C)) == Refusal(Code.SESSION_ENDED)
    assert asked(None, refresh()) == Refusal(Code.SESSION_ENDED)


def test_a_token_that_was_not_used_in_time_is_over() -> None:
    state = after(start())
    assert asked(state, refresh(), now=NOW + LIFETIME) == Refusal(Code.SESSION_ENDED)
    assert live(after(start(B), state=state, now=NOW + LIFETIME)) == [B]


@pytest.mark.parametrize("actor", [ITSELF, ADMIN, SYSTEM])
def test_its_own_sessions_and_admins_those_of_anybody(actor: Actor) -> None:
    state = after(start(), start(B))
    assert asked(state, RevokeSession(A), actor=actor) == (SessionRevoked(A, "revoked"),)
    ended = asked(state, RevokeSessions(Reason.LOGOUT_ALL), actor=actor)
    assert ended == (SessionRevoked(A, "logout_all"), SessionRevoked(B, "logout_all"))


@pytest.mark.parametrize("actor", [OTHER, GUEST])
@pytest.mark.parametrize("command", [RevokeSession(A), RevokeSessions(Reason.LOGOUT_ALL)])
def test_nobody_else_ends_them(actor: Actor, command: Any) -> None:
    assert asked(after(start()), command, actor=actor) == Refusal(Code.FORBIDDEN)


def test_what_is_not_there_is_not_ended() -> None:
    assert asked(after(start()), RevokeSession(B)) == Refusal(Code.NOT_FOUND)
    assert asked(None, RevokeSession(A)) == Refusal(Code.NOT_FOUND)
    assert asked(None, RevokeSessions(Reason.LOGOUT_ALL)) == Refusal(Code.NOT_FOUND)
    assert asked(after(start(), RevokeSession(A)), RevokeSessions(Reason.LOGOUT_ALL)) == ()


def test_a_change_of_the_account_ends_what_logged_in_before_it() -> None:
    state = after(start(version=1), start(B, version=1), start(C, version=4))
    changed = RevokeSessions(Reason.PASSWORD_CHANGED, kept=B, account_version=3)
    assert asked(state, changed, actor=SYSTEM) == (SessionRevoked(A, "password_changed"), SessionsBarred(3, B))
    state = after(changed, actor=SYSTEM, state=state)
    assert live(state) == [B, C]
    assert asked(state, changed, actor=SYSTEM) == ()
    # An older change that is told late ends nothing that a newer one kept.
    assert asked(state, RevokeSessions(Reason.ROLE_CHANGED, account_version=2), actor=SYSTEM) == ()
    assert live(after(RevokeSessions(Reason.DISABLED, account_version=5), actor=SYSTEM, state=state)) == []


def test_a_login_that_saw_the_account_before_a_change_is_too_late() -> None:
    state = after(RevokeSessions(Reason.PASSWORD_CHANGED, account_version=3), actor=SYSTEM)
    assert asked(state, start(version=2)) == Refusal(Code.SESSION_ENDED)
    assert live(after(start(version=3), state=state)) == [A]


def test_sessions_of_an_account_are_bounded() -> None:
    state = None
    for number in range(MOST):
        state = after(start(UUID(int=100 + number)), state=state, now=NOW + timedelta(seconds=number))
    late = NOW + timedelta(hours=1)
    state = after(refresh(UUID(int=100)), state=state, now=late)
    events = asked(state, start(), now=late)
    assert events[0] == SessionRevoked(UUID(int=101), "replaced")
    assert len(live(after(start(), state=state, now=late))) == MOST


def test_what_ended_is_remembered_for_a_while_and_bounded() -> None:
    state = after(start(), start(B), RevokeSession(A))
    soon, late = NOW + ENDED_KEPT - timedelta(seconds=1), NOW + ENDED_KEPT
    assert [one.id for one in after(start(C), state=state, now=soon).ended] == [A]
    assert after(start(C), state=state, now=late).ended == ()
    many = msgspec.structs.replace(state, ended=tuple(Ended(UUID(int=1_000 + n), NOW, 1) for n in range(MOST_ENDED)))
    assert asked(many, start(C), now=soon) == Refusal(Code.TOO_BUSY)
    assert isinstance(asked(many, start(C), now=late)[0], SessionStarted)
    assert asked(many, RevokeSession(B), now=soon) == (SessionRevoked(B, "revoked"),)


@pytest.mark.parametrize("wrong", [{"family": "x"}, {"current": "0" * 65}, {"account_version": 0}, {"more": 1}])
def test_a_command_of_another_shape_is_none(wrong: dict[str, Any]) -> None:
    good = msgspec.to_builtins(start())
    msgspec.convert(good, StartSession)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(good | wrong, StartSession)


ids = st.sampled_from([A, B, C])
small = st.integers(0, 3)
commands = st.one_of(
    st.builds(lambda session, version: start(session, version=version), ids, st.integers(1, 4)),
    st.builds(refresh, ids, small, small),
    st.builds(RevokeSession, ids, st.sampled_from(Reason)),
    st.builds(RevokeSessions, st.sampled_from(Reason), st.none() | ids, st.none() | st.integers(1, 4)),
)
moments = st.timedeltas(timedelta(0), timedelta(days=20))
histories = st.lists(st.tuples(st.sampled_from([ITSELF, OTHER, ADMIN, SYSTEM, GUEST]), moments, commands), max_size=25)


@given(histories)
def test_any_history(history: list[tuple[Actor, timedelta, Any]]) -> None:
    """Against a model that knows each session's life: over once and for ever, alive only by its latest token."""
    state: Sessions | None = None
    now, version = NOW, 0
    latest: dict[UUID, str] = {}
    until: dict[UUID, datetime] = {}
    dead: set[UUID] = set()
    for actor, later, command in history:
        now += later
        context = Context(actor, ID, now)
        before = state
        events = decide(state, command, context)
        if isinstance(events, Refusal):
            continue
        assert actor.id == ID or actor.role is Role.ADMIN
        state = fold(sessions.evolve, state, events, context)
        version += len(events)
        for event in events:
            match event:
                case SessionStarted():
                    assert event.session not in latest or event.session in dead or until[event.session] <= now
                    latest[event.session], until[event.session] = event.current, event.expires_at
                    dead.discard(event.session)
                case SessionRefreshed():
                    assert isinstance(command, RefreshSession)
                    assert latest[event.session] == command.presented
                    assert event.session not in dead
                    assert until[event.session] > now
                    latest[event.session], until[event.session] = event.current, event.expires_at
                case SessionReused():
                    assert isinstance(command, RefreshSession)
                    assert latest[event.session] != command.presented
                case SessionRevoked():
                    assert before is not None
                    assert before.find(event.session, now) is not None
                    dead.add(event.session)
        if state is not None and events:
            assert state.version == version
            assert not {one.id for one in state.held if one.expires_at > now} & dead
            assert all(one.current == latest[one.id] for one in state.held)
            assert len({one.id for one in state.held}) == len(state.held) <= MOST
            recent = {event.session for event in events if isinstance(event, SessionRevoked)}
            assert recent <= {one.id for one in state.ended}
