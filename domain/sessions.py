"""The sessions of an account: one aggregate, whose id is the account's, so that all of them can be ended in order.

A session begins with a login and goes on by refreshing. Each refresh token is good for one refresh, which gives the
next one; all tokens of a session are its family. Who shows one that was used already has it from somebody else, or
gave it to somebody else: the session ends. Only hashes get here, of tokens nobody can guess.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import msgspec

from domain.access import Role
from domain.aggregates import Context, Occurrence
from domain.refusals import Code, Refusal

LIFETIME = timedelta(days=30)
"""How long a refresh token may wait for its use."""
ENDED_KEPT = timedelta(minutes=20)
"""How long an ended session, or API key, is remembered: longer than access tokens live, clocks that differ included."""
MOST = 50
"""Sessions of an account; one more takes the place of the one that was refreshed longest ago."""
MOST_ENDED = 1_000
"""Sessions that may end within ENDED_KEPT before no new one is begun."""

Hash = Annotated[str, msgspec.Meta(min_length=64, max_length=64)]
Sealed = Annotated[str, msgspec.Meta(min_length=1, max_length=2_048)]
Version = Annotated[int, msgspec.Meta(ge=1)]


class Reason(StrEnum):
    """Why a session ended before its time."""

    LOGOUT = "logout"
    LOGOUT_ALL = "logout_all"
    REVOKED = "revoked"
    REUSED = "reused"
    REPLACED = "replaced"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 (a reason, not a secret)
    EMAIL_CHANGED = "email_changed"
    DISABLED = "disabled"
    ROLE_CHANGED = "role_changed"
    ERASED = "erased"


class Session(msgspec.Struct, frozen=True):
    """A session that goes on. `family` and `current` are the SHA-256 of what its tokens share, and of the latest."""

    id: UUID
    family: str
    current: str
    device_sealed: str
    address_sealed: str
    account_version: int
    """The version of the account that the login saw."""
    started_at: datetime
    refreshed_at: datetime
    expires_at: datetime


class Ended(msgspec.Struct, frozen=True):
    """A session, or an API key, that ended before its time; `version` is that of its aggregate then."""

    id: UUID
    at: datetime
    version: int


class Sessions(msgspec.Struct, frozen=True):
    """The state: `held` in the order in which they began, `ended` those of the last ENDED_KEPT.

    `barred`: a login that saw an older version of the account than this is too late.
    """

    id: UUID
    held: tuple[Session, ...]
    ended: tuple[Ended, ...]
    barred: int
    version: int

    def find(self, session: UUID, now: datetime) -> Session | None:
        """The session, if it goes on."""
        return next((one for one in self.held if one.id == session and one.expires_at > now), None)


class StartSession(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Begin a session, for the account itself. `device` and `address` are sealed with the account's key."""

    session: UUID
    family: Hash
    current: Hash
    device_sealed: Sealed
    address_sealed: Sealed
    account_version: Version


class RefreshSession(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Take the refresh token whose hash is `presented` for the one whose hash is `next`."""

    session: UUID
    family: Hash
    presented: Hash
    next: Hash
    address_sealed: Sealed


class RevokeSession(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """End one session."""

    session: UUID
    reason: Reason = Reason.REVOKED


class RevokeSessions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """End all sessions but `kept`. With `account_version`, those of logins that saw an older version of the account."""

    reason: Reason
    kept: UUID | None = None
    account_version: Version | None = None


class SessionStarted(msgspec.Struct, frozen=True):
    """Somebody logged in."""

    session: UUID
    family: str
    current: str
    device_sealed: str
    address_sealed: str
    account_version: int
    expires_at: datetime


class SessionRefreshed(msgspec.Struct, frozen=True):
    """A session goes on."""

    session: UUID
    current: str
    address_sealed: str
    expires_at: datetime


class SessionReused(msgspec.Struct, frozen=True):
    """A refresh token was shown that had been used before: two have tokens of this session."""

    session: UUID


class SessionRevoked(msgspec.Struct, frozen=True):
    """A session ended before its time."""

    session: UUID
    reason: str


class SessionsBarred(msgspec.Struct, frozen=True):
    """Logins that saw an older version of the account are too late from now on; `kept` counts as of this version."""

    account_version: int
    kept: UUID | None = None


Command = StartSession | RefreshSession | RevokeSession | RevokeSessions
Event = SessionStarted | SessionRefreshed | SessionReused | SessionRevoked | SessionsBarred

COMMANDS: dict[str, type[Command]] = {
    "start_session": StartSession,
    "refresh_session": RefreshSession,
    "revoke_session": RevokeSession,
    "revoke_sessions": RevokeSessions,
}
EVENTS: dict[str, type[Event]] = {
    "session.started": SessionStarted,
    "session.refreshed": SessionRefreshed,
    "session.reused": SessionReused,
    "session.revoked": SessionRevoked,
    "sessions.barred": SessionsBarred,
}
EVENT_NAMES: dict[type[Event], str] = {kind: name for name, kind in EVENTS.items()}

ALREADY_EXISTS = Refusal(Code.ALREADY_EXISTS)
FORBIDDEN = Refusal(Code.FORBIDDEN)
NOT_FOUND = Refusal(Code.NOT_FOUND)
OVER = Refusal(Code.SESSION_ENDED)
TOO_MANY = Refusal(Code.TOO_BUSY)


def decide(state: Sessions | None, command: Command, context: Context) -> tuple[Event, ...] | Refusal:
    """What `command` makes happen. Only the account itself begins and refreshes its sessions; admins may end them."""
    own = context.actor.id == context.aggregate_id
    match command:
        case StartSession():
            return _start(state, command, context) if own else FORBIDDEN
        case RefreshSession():
            return _refresh(state, command, context) if own else FORBIDDEN
        case _ if not own and context.actor.role is not Role.ADMIN:
            return FORBIDDEN
        case RevokeSession():
            if state is None or state.find(command.session, context.now) is None:
                return NOT_FOUND
            return (SessionRevoked(command.session, command.reason.value),)
        case RevokeSessions():
            return _revoke_all(state, command, context)


def _start(state: Sessions | None, command: StartSession, context: Context) -> tuple[Event, ...] | Refusal:
    started = SessionStarted(
        command.session, command.family, command.current, command.device_sealed, command.address_sealed,
        command.account_version, context.now + LIFETIME,
    )  # fmt: skip
    if state is None:
        return (started,)
    if command.account_version < state.barred:
        return OVER
    if command.session in {*(one.id for one in state.held), *(one.id for one in state.ended)}:
        return ALREADY_EXISTS
    held = _live(state.held, context.now)
    ended = sum(one.at > context.now - ENDED_KEPT for one in state.ended)
    if ended >= MOST_ENDED:
        return TOO_MANY
    if len(held) < MOST:
        return (started,)
    oldest = min(held, key=lambda one: one.refreshed_at)
    return SessionRevoked(oldest.id, Reason.REPLACED.value), started


def _refresh(state: Sessions | None, command: RefreshSession, context: Context) -> tuple[Event, ...] | Refusal:
    session = None if state is None else state.find(command.session, context.now)
    # Who does not know what all tokens of the family share has never had one of them, and can't end it by guessing.
    if session is None or session.family != command.family:
        return OVER
    if session.current != command.presented:
        return SessionReused(session.id), SessionRevoked(session.id, Reason.REUSED.value)
    return (SessionRefreshed(session.id, command.next, command.address_sealed, context.now + LIFETIME),)


def _revoke_all(state: Sessions | None, command: RevokeSessions, context: Context) -> tuple[Event, ...] | Refusal:
    version = command.account_version
    if state is None and version is None:
        return NOT_FOUND
    events: list[Event] = [
        SessionRevoked(one.id, command.reason.value)
        for one in (() if state is None else _live(state.held, context.now))
        if one.id != command.kept and (version is None or one.account_version < version)
    ]
    if version is not None and (state is None or state.barred < version):
        events.append(SessionsBarred(version, command.kept))
    return tuple(events)


def _live(held: tuple[Session, ...], now: datetime) -> tuple[Session, ...]:
    return tuple(one for one in held if one.expires_at > now)


def evolve(state: Sessions | None, event: Event, at: Occurrence) -> Sessions:
    """The account's sessions after `event`; those whose time is over are left out."""
    held = () if state is None else _live(state.held, at.time)
    ended = () if state is None else tuple(one for one in state.ended if one.at > at.time - ENDED_KEPT)
    barred = 0 if state is None else state.barred
    match event:
        case SessionStarted():
            begun = Session(
                event.session, event.family, event.current, event.device_sealed, event.address_sealed,
                event.account_version, at.time, at.time, event.expires_at,
            )  # fmt: skip
            held = (*held, begun)
        case SessionRefreshed():
            held = tuple(_refreshed(one, event, at) if one.id == event.session else one for one in held)
        case SessionReused():
            pass  # it is the revocation behind it that changes something
        case SessionRevoked():
            held = tuple(one for one in held if one.id != event.session)
            ended += (Ended(event.session, at.time, at.version),)
        case SessionsBarred():
            barred = max(barred, event.account_version)
            held = tuple(_kept(one, event.account_version) if one.id == event.kept else one for one in held)
    return Sessions(at.aggregate_id, held, ended, barred, at.version)


def _refreshed(session: Session, event: SessionRefreshed, at: Occurrence) -> Session:
    return msgspec.structs.replace(
        session, current=event.current, address_sealed=event.address_sealed, refreshed_at=at.time,
        expires_at=event.expires_at,
    )  # fmt: skip


def _kept(session: Session, version: int) -> Session:
    return msgspec.structs.replace(session, account_version=max(session.account_version, version))


class Document(msgspec.Struct, frozen=True):
    """What an operation shows of an account's sessions: which ones go on."""

    id: UUID
    sessions: tuple[UUID, ...]
    version: int


_encode = msgspec.json.Encoder().encode


def document(state: Sessions) -> bytes:
    """The JSON of `Document`."""
    return _encode(Document(state.id, tuple(one.id for one in state.held), state.version))
