"""What only the owner of an account may do, beside its model: a second factor, another password or address, mails."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from domain.mail_texts import Kind
from tests.flows.callers import WAIT, Callers, callers, keys, people
from tests.flows.mail_server import Server
from tests.flows.model_accounts import Account
from tests.flows.model_proofs import CHANGE, RESET, STEP_S, VERIFY, Code, code_of

FACTOR = "/users/me/second-factor"
MAIL_S = 40
"""Bounds the wait for a mail that has to come."""
NO_TOKEN = "m1.nothing"
mostly = st.sampled_from([True, True, True, False])
codes = st.sampled_from(["none", "now", "next", "next", "recovery", "recovery", "spent", "wrong"])
shown = st.sampled_from(["good", "good", "good", "old", "another"])


class Owners(Callers):
    """What owners do, in any order."""

    post: Server
    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        super().__init__()
        self.mails: Counter[tuple[str, str]] = Counter()
        """How many there have to be so far, by address and sort."""
        self.secrets = 0

    # -- codes -------------------------------------------------------------------------------------------------------

    @staticmethod
    def wrong(who: Account | None) -> Code:
        """One that no app shows, now or in a moment."""
        secret = who.factor.secret or who.factor.pending if who is not None else ""
        step = int(time.time()) // STEP_S
        shown = {code_of(secret, step + beside) for beside in range(-1, 3)} if secret else set()
        return Code(next(text for text in ("000000", "000001", "000002", "000003", "000004") if text not in shown))

    def code(self, who: Account | None, which: str) -> Code | None:
        """A code of this kind; a wrong one where there is none."""
        if which == "none":
            return None
        if who is None:
            return self.wrong(who)
        factor = who.factor
        if which in ("now", "next") and (factor.secret or factor.pending):
            step = int(time.time()) // STEP_S + (which == "next")
            return Code(code_of(factor.secret or factor.pending, step), step)
        found = {"recovery": (factor.recovery or [""])[0], "spent": factor.spent}.get(which)
        return Code(found) if found else self.wrong(who)

    def register(self, name: str) -> None:
        """A mail goes to its address."""
        super().register(name)
        who = self.model.accounts[name]
        mail = self.next_mail(who.email, VERIFY)
        who.mailbox.ask(VERIFY, mail)
        self.mails[who.email, VERIFY] += 1
        self.token(VERIFY, mail)  # a mail that has become useless before the worker came to it is not sent

    @rule(name=st.sampled_from(["ann", "bob", "root"]), right=mostly, which=codes)
    def log_in(self, name: str, right: bool, which: str = "none") -> None:
        who = self.model.accounts[name]
        password, code = who.password if right else "a wrong secret", self.code(who, which)
        body = {"email": who.email, "password": password} | ({} if code is None else {"code": code.text})
        answer = self.ask(None, "POST", "/auth/login", body, **WAIT)
        found = self.expect(answer, 200, lambda: self.model.log_in(who, password, code))
        if found is not None:
            who.token = found[2]["access_token"]

    @rule(name=people, right=mostly)
    def begin_a_second_factor(self, name: str, right: bool) -> None:
        who = self.session(name)
        password = who.password if who and right else "a wrong secret"
        answer = self.ask(who, "POST", FACTOR, {"password": password}, **WAIT)
        found = self.expect(answer, 201, lambda: self.model.begin(who, password))
        if found is not None:
            found[0].factor.pending = found[2]["secret"]

    @rule(name=people, right=mostly)
    def confirm_it(self, name: str, right: bool) -> None:
        who = self.session(name)
        code = self.code(who, "now" if right else "wrong") or self.wrong(who)
        answer = self.ask(who, "POST", f"{FACTOR}/confirm", {"code": code.text}, **WAIT)
        found = self.expect(answer, 200, lambda: self.model.confirm(who, code))
        if found is not None:
            found[0].factor.recovery = found[2]["recovery_codes"]

    @rule(name=people, password=st.sampled_from(["none", "right", "right", "wrong"]), which=codes, ending=st.booleans())
    def prove(self, name: str, password: str, which: str, ending: bool) -> None:
        who, code = self.session(name), None
        given = {"none": None, "right": who.password if who else "", "wrong": "a wrong secret"}[password]
        code = self.code(who, which)
        body = {"password": given, "code": code.text if code else None}
        body = {name: text for name, text in body.items() if text is not None}
        method, path, status = ("DELETE", FACTOR, 204) if ending else ("POST", f"{FACTOR}/recovery-codes", 200)
        answer = self.ask(who, method, path, body, **WAIT)
        found = self.expect(answer, status, lambda: self.model.prove(who, given, code))
        if found is not None and ending:
            found[0].factor.end()
        elif found is not None:
            found[0].factor.recovery = found[2]["recovery_codes"]

    @rule(caller=callers, name=people, key=keys)
    def reset_a_second_factor(self, caller: str, name: str, key: str | None) -> None:
        who, of = self.who(caller), self.model.accounts[name]
        self.write(
            who, "DELETE", f"/users/{of.id}/second-factor", None, "none", 1, key, 204,
            lambda _: self.model.reset_factor(who, of),
        )  # fmt: skip

    # -- steps that by themselves seldom meet in one sequence --------------------------------------------------------

    def present(self, name: str) -> None:
        """Logged in, if that may be."""
        if self.session(name) is None:
            self.log_in(name, True, "recovery")

    @rule(name=people, used=st.lists(st.sampled_from(["now", "now", "next", "recovery", "spent"]), max_size=3))
    def turn_it_on_and_log_in(self, name: str, used: list[str]) -> None:
        self.present(name)
        self.begin_a_second_factor(name, True)
        self.confirm_it(name, True)
        for which in used:
            self.log_in(name, True, which)

    @rule(name=people, which=codes, ending=st.booleans())
    def turn_it_on_and_prove(self, name: str, which: str, ending: bool) -> None:
        self.turn_it_on_and_log_in(name, [])
        self.prove(name, "none", which, ending)

    @rule(name=people, late=st.booleans())
    def forget_and_reset(self, name: str, late: bool) -> None:
        self.forget_the_password(name)
        if late:
            self.move(name, again=False)
        self.reset_the_password(name, "old" if late else "good")

    @rule(name=people, again=st.booleans())
    def move(self, name: str, again: bool) -> None:
        self.present(name)
        self.ask_for_another_address(name, True, "one")
        if again:
            self.log_in(name, True, "recovery")  # another session than the one that asked
        self.confirm_the_address(name, "good")

    @rule(name=people, between=st.sampled_from(["nothing", "a password"]))
    def move_late(self, name: str, between: str) -> None:
        self.present(name)
        self.ask_for_another_address(name, True, "two")
        if between == "a password":
            self.change_password(name, True, False)
        self.confirm_the_address(name, "good" if between == "nothing" else "old")

    @rule(name=people)
    def read_of_oneself(self, name: str) -> None:
        who = self.session(name)
        found = self.expect(self.ask(who, "GET", FACTOR), 200, lambda: self.model.own(who, None))
        if found is None or who is None:
            return
        told = (found[2]["status"], found[2]["recovery_codes_left"])
        assert told == (who.factor.status, len(who.factor.recovery))
        _, _, read = self.ask(who, "GET", "/users/me")
        names = ("email", "email_verified", "pending_email", "version", "role")
        wanted = (who.email, who.verified, who.mailbox.wanted or None, who.version, who.role)
        assert tuple(read["data"][name] for name in names) == wanted

    # -- passwords, addresses, mails ---------------------------------------------------------------------------------

    def next_mail(self, email: str, sort: str) -> tuple[str, int]:
        """The next of this sort to an address."""
        return email, self.mails[email, sort] + 1

    def token(self, sort: str, mail: tuple[str, int]) -> str:
        """What stands in a mail, once it is there."""
        email, number = mail
        arriving = self.post.token(email, Kind(sort), number)
        return asyncio.run_coroutine_threadsafe(arriving, self.loop).result(MAIL_S)

    def a_token(self, who: Account, sort: str, which: str) -> tuple[str, bool]:
        """One of this kind, and whether it is the good one."""
        box = who.mailbox
        if which == "good" and sort in box.good:
            return self.token(sort, box.good[sort]), True
        if which == "old" and sort in box.old:
            return self.token(sort, box.old[sort]), False
        for other, mail in box.good.items():
            if which == "another" and other != sort:
                return self.token(other, mail), False
        return NO_TOKEN, False

    def secret(self) -> str:
        """A password that nobody had yet."""
        self.secrets += 1
        return f"the secret {self.secrets} of somebody"

    @rule(name=people, right=mostly, machines=st.booleans())
    def change_password(self, name: str, right: bool, machines: bool) -> None:
        who, new = self.session(name), self.secret()
        password = who.password if who and right else "a wrong secret"
        body = {"current_password": password, "new_password": new, "revoke_api_keys": machines}
        answer = self.ask(who, "PUT", "/users/me/password", body, **WAIT)
        found = self.expect(answer, 204, lambda: self.model.change_password(who, password, new))
        machine = self.model.machines.get(name)
        if found is not None and machines and machine is not None:
            self.over(machine)

    @rule(name=st.sampled_from(["ann", "bob", "nobody"]))
    def forget_the_password(self, name: str) -> None:
        who = self.model.accounts.get(name)
        mail = self.next_mail(who.email if who else f"nobody-{self.number}@example.org", RESET)
        answer = self.ask(None, "POST", "/auth/forgot-password", {"email": mail[0]})
        assert (answer[0], answer[2]["data"]) == (202, {"status": "accepted"})
        if self.model.forget_password(who, mail):
            self.mails[mail[0], RESET] += 1
            self.token(RESET, mail)  # nobody has waited for the worker yet

    @rule(name=people, which=shown)
    def reset_the_password(self, name: str, which: str) -> None:
        who, new = self.model.accounts[name], self.secret()
        token, good = self.a_token(who, RESET, which)
        answer = self.ask(None, "POST", "/auth/reset-password", {"token": token, "password": new}, **WAIT)
        if self.expect(answer, 204, lambda: self.model.reset_password(who, new, good=good)) is not None:
            self.over(who)

    @rule(name=people)
    def ask_for_another_mail(self, name: str) -> None:
        who = self.session(name)
        mail = self.next_mail(self.model.accounts[name].email, VERIFY)
        answer = self.ask(who, "POST", "/auth/resend-verification", **WAIT)
        found = self.expect(answer, 202, lambda: self.model.ask_verification(who, mail))
        if found is not None and found[0]:
            self.mails[mail[0], VERIFY] += 1
            self.token(VERIFY, mail)

    @rule(name=people, which=shown)
    def verify_the_address(self, name: str, which: str) -> None:
        who = self.model.accounts[name]
        token, good = self.a_token(who, VERIFY, which)
        answer = self.ask(None, "POST", "/auth/verify-email", {"token": token}, **WAIT)
        self.expect(answer, 204, lambda: self.model.verify(who, good=good))

    @rule(name=people, right=mostly, to=st.sampled_from(["one", "two", "the other's", "one's own"]))
    def ask_for_another_address(self, name: str, right: bool, to: str) -> None:
        who, (other,) = self.session(name), {"ann", "bob"} - {name}
        known = {"the other's": self.model.accounts[other].email, "one's own": self.model.accounts[name].email}
        email = known.get(to, f"{to}-{self.number}@example.org")
        password = who.password if who and right else "a wrong secret"
        mail = self.next_mail(email, CHANGE)
        answer = self.ask(who, "PUT", "/users/me/email", {"password": password, "email": email}, **WAIT)
        found = self.expect(answer, 202, lambda: self.model.ask_change(who, password, mail))
        if found is not None and found[0]:
            self.mails[email, CHANGE] += 1
            self.token(CHANGE, mail)

    @rule(name=people, which=shown)
    def confirm_the_address(self, name: str, which: str) -> None:
        who = self.model.accounts[name]
        token, good = self.a_token(who, CHANGE, which)
        answer = self.ask(None, "POST", "/auth/confirm-email", {"token": token}, **WAIT)
        found: Any = self.expect(answer, 204, lambda: self.model.confirm_change(who, good=good))
        if found is not None and who.token != found[0]:
            self.over(who)
