"""The second step of a login, and every other place where a code of the second factor is asked for.

A code counts once: that is decided by the worker, so what is right here may still be refused there. Ask within
`Quotas.attempt`: a wrong code counts as a failed login.
"""

import time

import msgspec

from domain.access import Actor
from domain.accounts import Account
from domain.refusals import Code
from domain.second_factors import Proof, SecondFactor, UseSecondFactor
from security import totp
from security.refresh import same
from web import writes
from web.parts import Parts
from web.refused import refused
from web.sessions import Caller

SECRET = "second_factor"  # noqa: S105 (the name of a field)
"""As what the secret is sealed."""


async def passed(parts: Parts, caller: Caller, account: Account, wrapped: bytes | None, code: str | None) -> None:
    """Returns if a login with the right password may go on, its code being used up. Raises Refused, StoresAway.

    `wrapped`: the account's key.

    Ask it of nobody whose password is wrong: it tells whether there is a second factor.
    """
    factor = await parts.stores.second_factors.get(account.id)
    if factor is None or not factor.on:
        return
    if code is None:
        raise refused(Code.SECOND_FACTOR_REQUIRED)
    command = UseSecondFactor(proof_of(parts, wrapped, factor, code))
    order = writes.order_of(
        caller.origin, "second_factors", "use_second_factor", account.id, Actor(account.id, account.role),
        msgspec.json.encode(command),
    )  # fmt: skip
    writes.finished(await parts.commands.submit(order, wait=caller.wait))


def proof_of(parts: Parts, wrapped: bytes | None, factor: SecondFactor, code: str) -> Proof:
    """What a right code proves: one of the app, or a recovery code. Raises Refused for a wrong one, SealBroken."""
    sealed = factor.secret_sealed
    if wrapped is None or sealed is None:
        raise refused(Code.WRONG_CODE)
    step = totp.step_of(parts.sealer.open(wrapped, factor.id, SECRET, sealed), code, time.time())
    if step is not None:
        return Proof(sealed, step=step)
    hashed = totp.recovery_hash(code, factor.id, parts.settings.environment)
    # Asked before any command is sent: who guesses is to cause no work in Kafka.
    if not any(same(one, hashed) for one in factor.recovery):
        raise refused(Code.WRONG_CODE)
    return Proof(sealed, recovery=hashed)
