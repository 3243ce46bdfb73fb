"""Signatures, sealing, passwords and tokens."""

import asyncio
import base64
import hashlib
import itertools
import json
import os
import sys
import threading
from typing import Any
from uuid import UUID

import jwt
import pytest
from argon2 import PasswordHasher
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from domain.access import Actor, Role
from domain.refusals import Code
from security import fields, signatures
from security.fields import SealBroken, Sealer
from security.passwords import COURTESY, Passwords, TooBusy, weakness
from security.tokens import LEEWAY_S, LIFETIME_S, TokenRefused, Tokens

ONE, TWO = UUID(int=1), UUID(int=2)
KEY = b"k" * 32
NOW = 1_800_000_000.0
KEYS = (("new", b"n" * 32), ("old", b"o" * 32))


@given(st.lists(st.binary(max_size=9), max_size=4), st.lists(st.binary(max_size=9), max_size=4))
def test_a_signature_is_of_its_parts_only(parts: list[bytes], others: list[bytes]) -> None:
    assert signatures.verify(KEY, signatures.sign(KEY, *parts), *others) == (parts == others)


def test_signatures_of_other_keys_and_shapes_are_none() -> None:
    assert not signatures.verify(KEY, signatures.sign(b"x", b"a"), b"a")
    assert not signatures.verify(KEY, "é\ud800", b"a")


@given(st.binary(max_size=50))
def test_what_is_enclosed_is_disclosed_for_its_purpose_only(content: bytes) -> None:
    enclosed = signatures.enclose(KEY, b"list", content)
    assert signatures.disclose(KEY, b"list", enclosed) == content
    assert signatures.disclose(KEY, b"other", enclosed) is None
    assert signatures.disclose(b"x", b"list", enclosed) is None
    assert signatures.disclose(KEY, b"list", enclosed[1:]) is None


@given(st.text())
def test_any_text_is_no_enclosure(text: str) -> None:
    assert signatures.disclose(KEY, b"list", text) is None


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_sealed_fields_open_for_their_account_and_field_only(text: str) -> None:
    sealer = Sealer(KEY)
    wrapped = sealer.new_key(ONE)
    sealed = sealer.seal(wrapped, ONE, "email", text)
    assert sealer.open(wrapped, ONE, "email", sealed) == text
    assert sealed != sealer.seal(wrapped, ONE, "email", text)
    for key, account, field in ((wrapped, ONE, "name"), (wrapped, TWO, "email"), (sealer.new_key(ONE), ONE, "email")):
        with pytest.raises(SealBroken):
            sealer.open(key, account, field, sealed)


def test_a_new_sealing_key_opens_what_the_older_wrapped() -> None:
    wrapped = Sealer(KEY).new_key(ONE)
    sealed = Sealer(KEY).seal(wrapped, ONE, "name", "여울")
    assert Sealer(b"n" * 32, KEY).open(wrapped, ONE, "name", sealed) == "여울"
    with pytest.raises(SealBroken):
        Sealer(b"n" * 32).open(wrapped, ONE, "name", sealed)


def test_what_is_wrapped_anew_needs_the_older_sealing_key_no_more() -> None:
    old, both, new = Sealer(KEY), Sealer(b"n" * 32, KEY), Sealer(b"n" * 32)
    wrapped = old.new_key(ONE)
    sealed = old.seal(wrapped, ONE, "name", "여울")
    anew = both.rewrap(ONE, wrapped)
    assert (both.current, both.older) == (new.current, [old.current])
    assert (anew[:4], wrapped[:4]) == (new.current, old.current)
    assert new.open(anew, ONE, "name", sealed) == both.open(anew, ONE, "name", sealed) == "여울"
    for sealer, account in ((new, ONE), (both, TWO)):
        with pytest.raises(SealBroken):
            sealer.rewrap(account, wrapped)
    with pytest.raises(SealBroken):
        old.open(anew, ONE, "name", sealed)


@pytest.mark.parametrize("sealed", ["", "x", "s1.", "s1.!!", "s1.AAAA", "s9." + "A" * 40])
def test_what_is_not_sealed_does_not_open(sealed: str) -> None:
    with pytest.raises(SealBroken):
        Sealer(KEY).open(Sealer(KEY).new_key(ONE), ONE, "name", sealed)


def test_spellings_of_an_address_have_one_index() -> None:
    assert fields.index(KEY, " A@Example.org") == fields.index(KEY, "a@example.ORG ")
    assert fields.index(KEY, "a@example.org") != fields.index(b"x", "a@example.org")
    assert len(fields.index(KEY, "x")) == 64


async def test_passwords() -> None:
    pool = Passwords(memory_kib=64, passes=1)
    hashed = await pool.hash("correct horse")
    assert hashed.startswith("$argon2id$")
    assert await pool.verify(hashed, "correct horse")
    assert not await pool.verify(hashed, "wrong horse")
    assert not await pool.verify(None, "correct horse")
    assert not await pool.verify("no hash at all", "x")
    pool.close()


async def test_hashing_gives_way_and_the_loop_does_not() -> None:
    pool = Passwords(memory_kib=64, passes=1)
    here = os.getpriority(os.PRIO_PROCESS, 0)
    there = await asyncio.wrap_future(pool._pool.submit(os.getpriority, os.PRIO_PROCESS, 0))
    # Elsewhere only whole processes have priorities.
    assert there == (min(here + COURTESY, 19) if sys.platform == "linux" else here)
    assert os.getpriority(os.PRIO_PROCESS, 0) == here
    pool.close()


async def test_too_many_passwords_at_once_are_refused_and_room_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Passwords(threads=1, waiting=1, memory_kib=64, passes=1)
    gate = threading.Event()
    real = PasswordHasher.hash
    monkeypatch.setattr(PasswordHasher, "hash", lambda self, text: (gate.wait(10), real(self, text))[1])
    tasks = [asyncio.ensure_future(pool.hash("x")) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(TooBusy):
        await pool.hash("x")
    gate.set()
    await asyncio.gather(*tasks)
    assert (await pool.hash("x")).startswith("$argon2id$")
    pool.close()


def test_a_token_says_who_and_for_how_long() -> None:
    tokens = Tokens(KEYS, "local")
    token = tokens.issue(ONE, Role.ADMIN, NOW)
    for _ in range(2):
        verified = tokens.verify(token, NOW)
        assert verified.actor == Actor(ONE, Role.ADMIN)
        assert "admin" in verified.payload["scopes"]
    assert tokens.verify(token, NOW + LIFETIME_S - 1).expires == NOW + LIFETIME_S
    with pytest.raises(TokenRefused) as refused:
        tokens.verify(token, NOW + LIFETIME_S)
    assert refused.value.code is Code.TOKEN_EXPIRED


def test_a_retired_key_still_verifies_and_its_successor_signs() -> None:
    token = Tokens(KEYS[1:], "local").issue(ONE, Role.USER, NOW)
    assert Tokens(KEYS, "local").verify(token, NOW).actor.id == ONE
    assert jwt.get_unverified_header(Tokens(KEYS, "local").issue(ONE, Role.USER, NOW))["kid"] == "new"


def test_a_token_names_its_session() -> None:
    tokens = Tokens(KEYS, "local")
    assert tokens.verify(tokens.issue(ONE, Role.USER, NOW, TWO), NOW).session == TWO
    assert tokens.verify(tokens.issue(ONE, Role.USER, NOW), NOW).session is None


def test_keys_rotate_and_no_token_is_lost() -> None:
    """The steps of docs/operators.md: tokens of each step pass in the next one, and only the last one drops a key."""
    old, new = KEYS[1], KEYS[0]
    steps = [Tokens(keys, "local") for keys in ((old,), (old, new), (new, old), (new,))]
    signers = []
    for before, after in itertools.pairwise(steps[:3]):
        token = before.issue(ONE, Role.USER, NOW)
        signers.append(jwt.get_unverified_header(token)["kid"])
        assert after.verify(token, NOW).actor.id == ONE
        # Fronts are replaced one by one: those of the step before take what a new one signs.
        assert before.verify(after.issue(ONE, Role.USER, NOW), NOW).actor.id == ONE
    assert signers == ["old", "old"]
    assert [[key["kid"] for key in step.jwks()["keys"]] for step in steps] == [
        ["old"], ["old", "new"], ["new", "old"], ["new"],
    ]  # fmt: skip
    with pytest.raises(TokenRefused):
        steps[3].verify(steps[1].issue(ONE, Role.USER, NOW), NOW)


def test_what_is_remembered_of_a_token_is_its_hash() -> None:
    tokens = Tokens(KEYS, "local")
    token = tokens.issue(ONE, Role.USER, NOW)
    tokens.verify(token, NOW)
    assert list(tokens._verified) == [hashlib.sha256(token.encode()).digest()]


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def claims(**changes: Any) -> dict[str, Any]:
    base = {
        "iss": "yeoul", "aud": "yeoul:local", "sub": str(ONE), "role": "user",
        "iat": int(NOW), "exp": int(NOW) + LIFETIME_S, "jti": "j",
    }  # fmt: skip
    return {name: value for name, value in {**base, **changes}.items() if value is not None}


def signed(content: dict[str, Any], kid: Any = "new", seed: bytes = KEYS[0][1]) -> str:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    return jwt.encode(content, key, algorithm="EdDSA", headers={"kid": kid} if kid is not None else None)


def test_the_forger_of_the_next_test_can_make_a_good_one() -> None:
    assert Tokens(KEYS, "local").verify(signed(claims()), NOW).actor.id == ONE


def test_clocks_may_be_a_little_apart() -> None:
    ahead = int(NOW) + LEEWAY_S
    token = signed(claims(iat=ahead, nbf=ahead, exp=ahead + LIFETIME_S + LEEWAY_S))
    assert Tokens(KEYS, "local").verify(token, NOW).expires == ahead + LIFETIME_S + LEEWAY_S


PUBLIC = Tokens(KEYS, "local").jwks()["keys"][0]["x"]
FORGED = {
    "nothing": "x",
    "dots": "..",
    "none": f"{part({'alg': 'none', 'kid': 'new'})}.{part(claims())}.",
    "none with a signature": f"{part({'alg': 'none', 'kid': 'new'})}.{part(claims())}.AAAA",
    "the public key as a secret": jwt.encode(claims(), PUBLIC, algorithm="HS256", headers={"kid": "new"}),
    "a foreign kid": signed(claims(), kid="stranger"),
    "no kid": signed(claims(), kid=None),
    "a foreign key under a known kid": signed(claims(), seed=b"z" * 32),
    "another environment": signed(claims(aud="yeoul:production")),
    "another issuer": signed(claims(iss="somebody")),
    "no subject": signed(claims(sub=None)),
    "a subject that is no id": signed(claims(sub="root")),
    "no role": signed(claims(role=None)),
    "an unknown role": signed(claims(role="root")),
    "no expiry": signed(claims(exp=None)),
    "an expiry that is text": signed(claims(exp=str(int(NOW) + 60))),
    "an expiry with a fraction": signed(claims(exp=NOW + 60.5)),
    "an expiry that is true": signed(claims(exp=True)),
    "an expiry that is no number": signed(claims(exp=float("inf"))),
    "a life that is too long": signed(claims(exp=int(NOW) + LIFETIME_S + LEEWAY_S + 1)),
    "a life without end": signed(claims(exp=4_000_000_000)),
    "issued in the future": signed(claims(iat=int(NOW) + LEEWAY_S + 1)),
    "issued at a text": signed(claims(iat=str(int(NOW)))),
    "issued long ago, for long": signed(claims(iat=0)),
    "not valid yet": signed(claims(nbf=int(NOW) + LEEWAY_S + 1)),
    "valid from a text": signed(claims(nbf="0")),
    "no id": signed(claims(jti=None)),
    "a session that is no id": signed(claims(sid="mine")),
    "a session that is a list": signed(claims(sid=["mine"])),
    "too long": signed(claims(jti="x" * 5000)),
    "a kid that is no text": f"{part({'alg': 'EdDSA', 'kid': ['new']})}.{part(claims())}.AAAA",
    "a header that is no object": f"{part([])}.{part(claims())}.AAAA",
    "deep": f"{base64.urlsafe_b64encode(b'[' * 2000).decode()}.{part(claims())}.AAAA",
    "half of a surrogate": "\ud800.\ud800.\ud800",
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_tokens_are_invalid(name: str) -> None:
    tokens = Tokens(KEYS, "local")
    for _ in range(2):
        with pytest.raises(TokenRefused) as refused:
            tokens.verify(FORGED[name], NOW)
        assert refused.value.code is Code.TOKEN_INVALID


def test_what_is_remembered_is_bounded() -> None:
    tokens = Tokens(KEYS, "local", remembered=3)
    for number in range(10):
        tokens.verify(signed(claims(jti=str(number))), NOW)
    assert len(tokens._verified) == 3


@given(st.text())
def test_any_text_is_an_invalid_token(text: str) -> None:
    with pytest.raises(TokenRefused):
        Tokens(KEYS, "local").verify(text, NOW)


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("short words", "fewer than 12"), ("ababababababab", "different"), ("Pass-Word 12345678", "well-known"),
        ("letmeinletmein!", "well-known"), ("some.one@2026", "the address"), ("ferry lantern pebble", None),
        ("여울여울 물결 바람 나무 돌다리", None), ("password manager of mine", None), ("xK3!vb0q9Zr#", None),
    ],
)  # fmt: skip
def test_what_is_too_weak_for_an_admin(password: str, why: str | None) -> None:
    found = weakness(password, "Some.One@example.org")
    assert found is None if why is None else found is not None and why in found
