"""The second factor of an account: a secret that an app makes codes of, and recovery codes for when the app is lost.

One aggregate, whose id is the account's, so that a code is used once whoever is faster. The secret is sealed with the
account's key, and of recovery codes only hashes get here. Whether a code is right was checked by the front; what only
the order of things can tell is decided here: that it was right for the secret of now, and was not used before.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import msgspec

from domain.access import Role
from domain.aggregates import Context, Occurrence
from domain.refusals import Code, Refusal

RECOVERY_CODES = 10
PENDING_KEPT = timedelta(minutes=30)
"""How long a secret waits for its first code."""

Sealed = Annotated[str, msgspec.Meta(min_length=1, max_length=2_048)]
Hash = Annotated[str, msgspec.Meta(min_length=64, max_length=64)]
Hashes = Annotated[tuple[Hash, ...], msgspec.Meta(min_length=RECOVERY_CODES, max_length=RECOVERY_CODES)]
Step = Annotated[int, msgspec.Meta(ge=0)]


class Reason(StrEnum):
    """Why a second factor is no more."""

    REMOVED = "removed"
    RESET = "reset"
    ERASED = "erased"


class SecondFactor(msgspec.Struct, frozen=True):
    """The state. `secret_sealed` is None while it is off; `pending_sealed` waits for its first code.

    `last_step`: of the code that was used last (Unix time by 30 s). `recovery`: hashes of the codes that are left.
    """

    id: UUID
    secret_sealed: str | None
    pending_sealed: str | None
    pending_until: datetime | None
    enabled_at: datetime | None
    last_step: int
    recovery: tuple[str, ...]
    version: int

    @property
    def on(self) -> bool:
        """True if a login asks for it."""
        return self.secret_sealed is not None

    def pending(self, now: datetime) -> str | None:
        """The sealed secret that waits for its first code."""
        return self.pending_sealed if self.pending_until is not None and self.pending_until > now else None


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A code that was right for the secret `checked_sealed`: of the step `step`, or a recovery code by its hash."""

    checked_sealed: Sealed
    step: Step | None = None
    recovery: Hash | None = None


# Commands. All are the account's own, but the last one.


class BeginSecondFactor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Keep a secret until its first code comes; it takes the place of one that waits."""

    secret_sealed: Sealed


class ConfirmSecondFactor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Turn it on: the code of `step` was right for the secret that waits."""

    checked_sealed: Sealed
    step: Step
    recovery: Hashes


class UseSecondFactor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Take a code for a login."""

    proof: Proof


class RenewRecoveryCodes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Other recovery codes in the place of those that are left. Without `proof` the password was checked."""

    recovery: Hashes
    proof: Proof | None = None


class RemoveSecondFactor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Turn it off. Without `proof` the password was checked."""

    proof: Proof | None = None


class ResetSecondFactor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Turn off that of somebody else. For an admin or the system."""

    reason: Reason = Reason.RESET


# Events


class SecondFactorBegun(msgspec.Struct, frozen=True):
    """Somebody got a secret, whose first code is waited for."""

    secret_sealed: str
    until: datetime


class SecondFactorEnabled(msgspec.Struct, frozen=True):
    """The secret that waited counts from now on."""

    step: int
    recovery: tuple[str, ...]


class CodeUsed(msgspec.Struct, frozen=True):
    """A code was used; it and those before it are good for nothing any more."""

    step: int


class RecoveryCodeUsed(msgspec.Struct, frozen=True):
    """A recovery code was used up. `left`: how many are good still; None if these go by the same command."""

    recovery: str
    left: int | None = None


class RecoveryCodesRenewed(msgspec.Struct, frozen=True):
    """The recovery codes are others."""

    recovery: tuple[str, ...]


class SecondFactorRemoved(msgspec.Struct, frozen=True):
    """No login asks for a code any more. `was_on`: False if none did, and a secret waited for its first code."""

    reason: str
    was_on: bool = True


Command = (
    BeginSecondFactor | ConfirmSecondFactor | UseSecondFactor | RenewRecoveryCodes | RemoveSecondFactor
    | ResetSecondFactor
)  # fmt: skip
Event = (
    SecondFactorBegun | SecondFactorEnabled | CodeUsed | RecoveryCodeUsed | RecoveryCodesRenewed | SecondFactorRemoved
)

COMMANDS: dict[str, type[Command]] = {
    "begin_second_factor": BeginSecondFactor,
    "confirm_second_factor": ConfirmSecondFactor,
    "use_second_factor": UseSecondFactor,
    "renew_recovery_codes": RenewRecoveryCodes,
    "remove_second_factor": RemoveSecondFactor,
    "reset_second_factor": ResetSecondFactor,
}
EVENTS: dict[str, type[Event]] = {
    "second_factor.begun": SecondFactorBegun,
    "second_factor.enabled": SecondFactorEnabled,
    "second_factor.code_used": CodeUsed,
    "second_factor.recovery_code_used": RecoveryCodeUsed,
    "second_factor.recovery_codes_renewed": RecoveryCodesRenewed,
    "second_factor.removed": SecondFactorRemoved,
}
EVENT_NAMES: dict[type[Event], str] = {kind: name for name, kind in EVENTS.items()}

FORBIDDEN = Refusal(Code.FORBIDDEN)
ON = Refusal(Code.SECOND_FACTOR_ON)
OFF = Refusal(Code.SECOND_FACTOR_OFF)
WRONG_CODE = Refusal(Code.WRONG_CODE)


def decide(state: SecondFactor | None, command: Command, context: Context) -> tuple[Event, ...] | Refusal:
    """What `command` makes happen."""
    own = context.actor.id == context.aggregate_id
    if isinstance(command, ResetSecondFactor):
        # An admin turns its own off like anybody: by its password or a code.
        return FORBIDDEN if own or context.actor.role is not Role.ADMIN else _reset(state, command)
    if not own:
        return FORBIDDEN
    match command:
        case BeginSecondFactor(secret_sealed=sealed):
            on = state is not None and state.on
            return ON if on else (SecondFactorBegun(sealed, context.now + PENDING_KEPT),)
        case ConfirmSecondFactor():
            return _confirm(state, command, context)
        case UseSecondFactor(proof=proof):
            return _used(state, proof)
        case RenewRecoveryCodes():
            return _after_proof(state, command.proof, RecoveryCodesRenewed(command.recovery))
        case _:
            return _after_proof(state, command.proof, SecondFactorRemoved(Reason.REMOVED.value))


def _confirm(state: SecondFactor | None, command: ConfirmSecondFactor, context: Context) -> tuple[Event, ...] | Refusal:
    if state is not None and state.on:
        return ON
    if state is None or state.pending(context.now) is None:
        return OFF
    if state.pending_sealed != command.checked_sealed:
        return WRONG_CODE  # it was right for another one, which was begun before
    return (SecondFactorEnabled(command.step, command.recovery),)


def _used(state: SecondFactor | None, proof: Proof) -> tuple[Event, ...] | Refusal:
    if state is None or state.secret_sealed is None or state.secret_sealed != proof.checked_sealed:
        return WRONG_CODE
    if proof.step is not None:
        return (CodeUsed(proof.step),) if proof.step > state.last_step else WRONG_CODE
    if proof.recovery is None or proof.recovery not in state.recovery:
        return WRONG_CODE
    return (RecoveryCodeUsed(proof.recovery, len(state.recovery) - 1),)


def _after_proof(state: SecondFactor | None, proof: Proof | None, event: Event) -> tuple[Event, ...] | Refusal:
    if state is None or not state.on:
        return OFF
    if proof is None:
        return (event,)
    used = _used(state, proof)
    if isinstance(used, Refusal):
        return used
    # Those that are left go with this event, or others take their place: nobody is to be told of them.
    return (*(RecoveryCodeUsed(one.recovery) if isinstance(one, RecoveryCodeUsed) else one for one in used), event)


def _reset(state: SecondFactor | None, command: ResetSecondFactor) -> tuple[Event, ...] | Refusal:
    if state is None or (state.secret_sealed is None and state.pending_sealed is None):
        return () if command.reason is Reason.ERASED else OFF
    return (SecondFactorRemoved(command.reason.value, state.on),)


def evolve(state: SecondFactor | None, event: Event, at: Occurrence) -> SecondFactor:
    """The second factor after `event`. Raises ValueError on a history that no `decide` has made."""
    if isinstance(event, SecondFactorBegun):
        return SecondFactor(at.aggregate_id, None, event.secret_sealed, event.until, None, 0, (), at.version)
    if state is None:
        raise ValueError(f"{EVENT_NAMES[type(event)]} happened to account {at.aggregate_id} without a second factor")
    after = msgspec.structs.replace(state, version=at.version)
    match event:
        case SecondFactorEnabled():
            return SecondFactor(
                state.id, state.pending_sealed, None, None, at.time, event.step, event.recovery, at.version
            )
        case CodeUsed():
            return msgspec.structs.replace(after, last_step=event.step)
        case RecoveryCodeUsed():
            return msgspec.structs.replace(after, recovery=tuple(c for c in state.recovery if c != event.recovery))
        case RecoveryCodesRenewed():
            return msgspec.structs.replace(after, recovery=event.recovery)
        case _:
            return SecondFactor(state.id, None, None, None, None, 0, (), at.version)


class Document(msgspec.Struct, frozen=True):
    """What an operation shows of a second factor."""

    id: UUID
    status: str
    enabled_at: datetime | None
    recovery_codes_left: int
    version: int


_encode = msgspec.json.Encoder().encode


def document(state: SecondFactor) -> bytes:
    """The JSON of `Document`."""
    status = "on" if state.on else "off" if state.pending_sealed is None else "pending"
    return _encode(Document(state.id, status, state.enabled_at, len(state.recovery), state.version))
