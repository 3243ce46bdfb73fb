"""Codes of a second factor: as RFC 4226 and RFC 6238 have them, with one step of drift, and recovery codes."""

import base64
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest

from security import totp

RFC = base64.b32encode(b"12345678901234567890").decode()
ONE, OTHER = UUID(int=1), UUID(int=2)


@pytest.mark.parametrize(
    ("second", "code"),
    # The last six digits of the eight in RFC 6238, appendix B.
    [(59, "287082"), (1111111109, "081804"), (1111111111, "050471"), (1234567890, "005924"), (2000000000, "279037"),
     (20000000000, "353130")],
)  # fmt: skip
def test_codes_are_those_of_the_standard(second: int, code: str) -> None:
    assert totp.code_of(RFC, second // 30) == code
    assert totp.step_of(RFC, code, second) == second // 30


def test_the_line_of_the_guide_prints_the_code_of_now() -> None:
    guide = (Path(__file__).resolve().parents[2] / "docs" / "rest.md").read_text()
    (line,) = (line for line in guide.splitlines() if line.startswith("python3 -c 'import base64"))
    program = line.removeprefix("python3 -c '").removesuffix("' $SECRET")
    before = int(time.time()) // 30
    said = subprocess.run([sys.executable, "-c", program, RFC], capture_output=True, text=True, check=True, timeout=60)
    codes = {totp.code_of(RFC, step) for step in range(before, int(time.time()) // 30 + 1)}
    assert said.stdout.strip() in codes


def test_one_step_of_drift_is_taken_and_no_more() -> None:
    step = 40_000_000
    now = step * 30 + 29.9
    taken = {at: totp.step_of(RFC, totp.code_of(RFC, at), now) for at in range(step - 3, step + 4)}
    assert taken == {at: at if abs(at - step) <= 1 else None for at in range(step - 3, step + 4)}
    assert totp.step_of(RFC, totp.code_of(RFC, 0), 3.0) == 0  # there is none before


@pytest.mark.parametrize(
    "code", ["", "28708", "2870820", "２８７０８２", "28708\ud800", "-287082", "287082\n", "+28708"]
)
def test_another_form_is_a_wrong_code(code: str) -> None:
    assert totp.step_of(RFC, code, 59) is None


def test_a_code_may_be_typed_as_apps_show_it() -> None:
    assert totp.step_of(RFC, "287 082", 59) == 1


def test_secrets_are_long_random_and_read_by_apps() -> None:
    secrets = {totp.new_secret() for _ in range(50)}
    assert len(secrets) == 50
    assert {len(base64.b32decode(secret)) for secret in secrets} == {20}
    address = urlsplit(totp.uri(RFC, "mina+a&b@example.org"))
    assert (address.scheme, address.netloc, address.path) == ("otpauth", "totp", "/Yeoul:mina%2Ba%26b%40example.org")
    assert parse_qs(address.query) == {
        "secret": [RFC], "issuer": ["Yeoul"], "digits": ["6"], "period": ["30"], "algorithm": ["SHA1"],
    }  # fmt: skip


def test_a_recovery_code_counts_however_it_is_typed_for_one_account_and_environment() -> None:
    codes = {totp.recovery_code() for _ in range(200)}
    assert len(codes) == 200
    assert {(len(code), code.count("-")) for code in codes} == {(19, 3)}
    assert set("".join(codes)) == {*"0123456789abcdefghjkmnpqrstvwxyz-"}
    hashed = totp.recovery_hash("01ab-cdef-ghjk-mnpq", ONE, "local")
    for typed in (
        "01AB-CDEF-GHJK-MNPQ",
        "01abcdefghjkmnpq",
        " o1ab cdef ghjk mnpq",
        "0iab-cdef-ghjk-mnpq",
        "0Labcdefghjkmnpq",
    ):
        assert totp.recovery_hash(typed, ONE, "local") == hashed
    others = [("01ab-cdef-ghjk-mnpr", ONE, "local"), ("01ab-cdef-ghjk-mnpq", OTHER, "local"),
              ("01ab-cdef-ghjk-mnpq", ONE, "production"), ("", ONE, "local"), ("\ud800", ONE, "local")]  # fmt: skip
    assert len({hashed, *(totp.recovery_hash(*other) for other in others)}) == 6
