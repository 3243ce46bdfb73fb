"""What goes by mail: each token once, for its purpose and its time; what ends it; and how many mails come of asking."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from domain.access import GUEST, SYSTEM, Actor, Role
from domain.account_mails import (
    LIFETIMES,
    MOST_A_DAY,
    MOST_AN_HOUR,
    ConfirmEmailChange,
    EmailChanged,
    EmailChangeRequested,
    EmailVerified,
    Language,
    NoteRegistration,
    RegistrationTried,
    RequestEmailChange,
    RequestReset,
    RequestVerification,
    ResetPassword,
    ResetRequested,
    Token,
    VerificationRequested,
    VerifyEmail,
)
from domain.account_states import Account, Purpose
from domain.accounts import (
    AccountDisabled,
    AccountErased,
    ChangePassword,
    Command,
    CreateAccount,
    PasswordChanged,
    decide,
    evolve,
)
from domain.aggregates import Context, Occurrence
from domain.mail_texts import SAYS, SUBJECTS, Kind, render
from domain.refusals import Code, Refusal
from domain.sentences import LANGUAGES

ID, SESSION = UUID(int=1), UUID(int=9)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ITSELF, OTHER = Actor(ID, Role.USER), Actor(UUID(int=3), Role.USER)
NO_TOKEN = Refusal(Code.MAIL_TOKEN_INVALID)


def token(sign: str) -> Token:
    return Token("0" * 64, sign * 64)


NEW = CreateAccount("sealed e-mail", "sealed name", "0" * 64, "hash", verification=token("a"), language="ko")
CHANGE = RequestEmailChange(
    email_sealed="other", email_index="1" * 64, checked_sealed="hash", token=token("c"), kept_session=SESSION
)


class Story:
    """An account to which things happen, each some time after the one before."""

    def __init__(self, new: CreateAccount = NEW) -> None:
        self.state: Account | None = None
        self.now = NOW
        self.happened: list[Any] = []
        self.ask(new, ITSELF)

    def ask(self, command: Command, actor: Actor = GUEST, *, after: timedelta = timedelta(0)) -> Any:
        self.now += after
        events = decide(self.state, command, Context(actor, ID, self.now))
        if not isinstance(events, Refusal):
            self.happen(*events)
        return events

    def happen(self, *events: Any) -> None:
        for event in events:
            self.happened.append(event)
            self.state = evolve(self.state, event, Occurrence(ID, len(self.happened), self.now))

    @property
    def account(self) -> Account:
        assert self.state is not None
        return self.state


def reset(sign: str = "b") -> ResetPassword:
    return ResetPassword(sign * 64, "new hash")


def test_whoever_registers_gets_a_token_that_verifies_the_address_once() -> None:
    story = Story()
    assert (story.account.email_verified, story.account.language) == (False, "ko")
    assert story.happened[0].expires_at == NOW + LIFETIMES[Purpose.VERIFY]
    assert story.ask(VerifyEmail("b" * 64)) == NO_TOKEN
    assert story.ask(VerifyEmail("a" * 64)) == (EmailVerified(),)
    assert story.account.email_verified
    assert story.ask(VerifyEmail("a" * 64)) == NO_TOKEN
    assert story.ask(RequestVerification(token("d")), ITSELF) == ()


def test_only_admins_say_that_an_address_is_verified() -> None:
    new = msgspec.structs.replace(NEW, verified=True, verification=None)
    assert decide(None, new, Context(ITSELF, ID, NOW)) == Refusal(Code.FORBIDDEN)
    (made,) = decide(None, new, Context(SYSTEM, ID, NOW))  # type: ignore[misc]
    account = evolve(None, made, Occurrence(ID, 1, NOW))
    assert (account.email_verified, account.mailing.tickets) == (True, ())


def test_a_forgotten_password_is_set_anew_once_and_shows_that_the_address_is_read() -> None:
    story = Story()
    expires = NOW + LIFETIMES[Purpose.RESET]
    assert story.ask(RequestReset(token("b"))) == (ResetRequested(token("b"), expires),)
    assert story.ask(reset()) == (PasswordChanged("new hash", None), EmailVerified())
    assert story.account.password_sealed == "new hash"
    assert story.ask(reset()) == NO_TOKEN


def test_a_newer_token_ends_the_older_one_and_time_ends_both() -> None:
    story = Story()
    story.ask(RequestReset(token("b")))
    story.ask(RequestReset(token("d")))
    assert story.ask(reset("b")) == NO_TOKEN
    assert story.ask(reset("d"), after=LIFETIMES[Purpose.RESET]) == NO_TOKEN
    assert story.account.password_sealed == "hash"


@pytest.mark.parametrize("sign", ["a", "b", "c"])
def test_a_token_is_good_for_its_purpose_alone(sign: str) -> None:
    story = Story()
    story.ask(RequestReset(token("b")))
    story.ask(CHANGE, ITSELF)
    tries: dict[str, Command] = {
        "a": VerifyEmail(sign * 64),
        "b": reset(sign),
        "c": ConfirmEmailChange(sign * 64, "1" * 64),
    }
    for purpose, command in tries.items():
        outcome = decide(story.state, command, Context(GUEST, ID, NOW))
        assert (outcome == NO_TOKEN) == (purpose != sign)


def test_another_address_is_taken_once_it_is_confirmed_and_ends_what_the_old_mailbox_holds() -> None:
    story = Story()
    story.ask(RequestReset(token("b")))
    assert story.ask(CHANGE, ITSELF) == (
        EmailChangeRequested("other", "1" * 64, token("c"), NOW + LIFETIMES[Purpose.CHANGE], SESSION),
    )
    assert story.account.email_sealed == "sealed e-mail"
    assert story.ask(ConfirmEmailChange("c" * 64, "2" * 64)) == NO_TOKEN
    changed = EmailChanged("other", "1" * 64, "sealed e-mail", SESSION)
    assert story.ask(ConfirmEmailChange("c" * 64, "1" * 64)) == (changed,)
    account = story.account
    assert (account.email_sealed, account.email_index, account.email_verified) == ("other", "1" * 64, True)
    assert account.mailing.tickets == ()
    assert story.ask(reset()) == story.ask(VerifyEmail("a" * 64)) == NO_TOKEN


def test_another_address_is_asked_for_with_the_present_password() -> None:
    story = Story()
    assert story.ask(msgspec.structs.replace(CHANGE, checked_sealed="x"), ITSELF) == Refusal(Code.WRONG_PASSWORD)
    assert story.ask(msgspec.structs.replace(CHANGE, expected_version=7), ITSELF) == Refusal(Code.STALE_VERSION)
    assert story.ask(msgspec.structs.replace(CHANGE, email_index="0" * 64), ITSELF) == ()


@pytest.mark.parametrize("command", [CHANGE, RequestVerification(token("d"))])
def test_nobody_asks_in_the_name_of_another(command: Command) -> None:
    for actor, code in ((OTHER, Code.NOT_FOUND), (GUEST, Code.NOT_FOUND), (SYSTEM, Code.FORBIDDEN)):
        assert Story().ask(command, actor) == Refusal(code)


def test_another_password_ends_what_was_asked_for_with_the_old_one() -> None:
    story = Story()
    story.ask(RequestReset(token("b")))
    story.ask(CHANGE, ITSELF)
    story.ask(ChangePassword(password_sealed="new", checked_sealed="hash"), ITSELF)
    assert [one.purpose for one in story.account.mailing.tickets] == [Purpose.VERIFY]
    assert story.ask(reset()) == story.ask(ConfirmEmailChange("c" * 64, "1" * 64)) == NO_TOKEN


@pytest.mark.parametrize("end", [AccountDisabled(), AccountErased()])
def test_no_token_is_good_for_an_account_that_may_not_be_used(end: Any) -> None:
    story = Story()
    story.ask(RequestReset(token("b")))
    story.ask(CHANGE, ITSELF)
    story.happen(end)
    for command in (reset(), VerifyEmail("a" * 64), ConfirmEmailChange("c" * 64, "1" * 64)):
        assert story.ask(command) == NO_TOKEN
    assert story.ask(RequestReset(token("d"))) == Refusal(Code.NOT_FOUND)
    assert decide(None, RequestReset(token("d")), Context(GUEST, ID, NOW)) == Refusal(Code.NOT_FOUND)


def test_how_many_mails_come_of_asking_is_bounded_and_the_last_token_stays_good() -> None:
    story = Story()
    for sign in "1234567"[: MOST_AN_HOUR + 3]:
        story.ask(RequestReset(token(sign)))
    sent = [one for one in story.happened if isinstance(one, ResetRequested)]
    assert len(sent) == MOST_AN_HOUR
    for _ in range(40):
        story.ask(RequestReset(token("e")), after=timedelta(minutes=20))
    times = [one.expires_at for one in story.happened if isinstance(one, ResetRequested)]
    assert max(sum(start <= at < start + timedelta(days=1) for at in times) for start in times) == MOST_A_DAY
    assert len(story.account.mailing.asked) <= MOST_A_DAY + 1

    again = Story()
    for sign in "123456":
        again.ask(RequestReset(token(sign)))
    assert isinstance(again.ask(reset(str(MOST_AN_HOUR))), tuple)  # nobody who asks in vain ends what the owner has


def test_the_owner_who_asks_too_often_is_told_and_so_often_is_a_stranger_s_try() -> None:
    story = Story()
    signs = "123456"
    found = [story.ask(RequestVerification(token(sign)), ITSELF) for sign in signs]
    # The mail that came of registering counts.
    assert [isinstance(one, tuple) for one in found] == [True] * (MOST_AN_HOUR - 1) + [False] * (7 - MOST_AN_HOUR)
    assert isinstance(found[0][0], VerificationRequested)
    assert found[-1] == Refusal(Code.TOO_MANY_REQUESTS)
    tried = [story.ask(NoteRegistration()) for _ in signs]
    assert tried == [(RegistrationTried(),)] * MOST_AN_HOUR + [()] * (6 - MOST_AN_HOUR)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", Kind)
def test_every_mail_says_something_in_every_language(kind: Kind, language: str) -> None:
    # What a request asks for is what its account is registered with.
    assert msgspec.convert(language, Language) == language
    assert SUBJECTS[language].keys() == SAYS[language].keys() == set(Kind)
    subject, text = render(kind, language)
    assert subject
    assert "\n" not in subject
    assert len(text) > 30
    for url in ("", "https://app.example.org"):
        _, linked = render(Kind.RESET, language, token="m1.T", public_url=url, hours=1)
        assert "m1.T" in linked


@pytest.mark.parametrize(("language", "told"), [("en", "Recovery codes that are left: 0."), ("ko", "복구 코드: 0개")])
def test_how_many_recovery_codes_are_left_is_told_where_it_is_known(language: str, told: str) -> None:
    assert told in render(Kind.RECOVERY_CODE_USED, language, left=0)[1]
    assert told[:10] not in render(Kind.RECOVERY_CODE_USED, language)[1]


def test_a_link_shows_its_token_to_no_server() -> None:
    _, text = render(Kind.RESET, "en", token="m1.T", public_url="https://app.example.org", hours=1)
    assert "https://app.example.org/reset-password#token=m1.T\n" in text
    assert "?" not in text
    _, text = render(Kind.RESET, "en", token="m1.T", hours=1)
    assert "\nm1.T\n" in text
    assert "://" not in text
