"""Callers of the API beside their model: who they are, how they ask, and what happens to accounts."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tests import documented
from tests.flows.clients import HEARD_S
from tests.flows.harness import FULL_SIZE, SENT_S
from tests.flows.model import Json, Model, Resource, same
from tests.flows.model_accounts import Account, Caller, Machine
from tests.flows.model_proofs import No

ENDED_S = 2.0 if FULL_SIZE else HEARD_S
"""A session that ended is over in every process within a second; what an event ends, a second after it."""
WAIT = {"Prefer": "wait=30"}
NOWHERE = "0190aaaa-0000-7000-8000-00000000dead"
numbers = itertools.count(1)


class Front:
    """A front over HTTP, on one connection; every answer is held against the documents."""

    def __init__(self, url: str) -> None:
        self._host, self._prefix = url.removeprefix("http://").split("/", 1)
        self._connection = HTTPConnection(self._host, timeout=60)

    def ask(self, method: str, path: str, body: Any, headers: dict[str, str]) -> tuple[int, dict[str, str], Any]:
        """Status, headers, document."""
        path = f"/{self._prefix}{path}"
        data = None if body is None else json.dumps(body).encode()
        more = {} if body is None else {"Content-Type": "application/json"}
        deadline = time.monotonic() + SENT_S
        while True:
            self._connection.request(method, path, data, {**headers, **more})
            answer = self._connection.getresponse()
            shown = answer.read()
            documented.check(method, path.partition("?")[0], answer.status, answer.headers, shown)
            if answer.status != 503 or b"BROKER_AWAY" not in shown or time.monotonic() > deadline:
                break
            # Nothing was taken, and it comes again as it is told. Hypothesis calls this in a thread of its own, without
            # a loop that it could hold up.
            time.sleep(0.1)
        return answer.status, dict(answer.headers), json.loads(shown) if shown else None


callers = st.sampled_from(["guest", "ann", "bob", "root"])
everyone = st.sampled_from(["guest", "ann", "bob", "root", "ann's machine", "bob's machine"])
people = st.sampled_from(["ann", "bob"])
places = st.integers(0, 5)
matching = st.sampled_from(["none", "none", "now", "old", "*"])
keys = st.none() | st.sampled_from(["k1", "k2"])


class Callers(RuleBasedStateMachine):
    """What two users, an admin and a guest may do, in any order."""

    fronts: tuple[Front, ...] = ()
    chief: Callable[[], str]
    """A token of an admin who is always there; each lasts a quarter of an hour, and all sequences may take longer."""

    def __init__(self) -> None:
        super().__init__()
        self.number = next(numbers)
        self.kind = f"k{self.number}"
        self.model = Model()
        self.keyed: dict[tuple[str, str, str, str], tuple[Any, int, Any]] = {}
        self.spent: set[tuple[str, str, str, str]] = set()
        """Keys that may or may not be free: an early look refuses without making use of them, if it knows enough."""
        self.turn = 0

    # -- asking ------------------------------------------------------------------------------------------------------

    def ask(
        self, who: Caller | str | None, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        """Each call goes to the next front."""
        self.turn += 1
        token = who if isinstance(who, str) else who.token if who else ""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        given |= {"Authorization": f"Bearer {token}"} if token else {}
        return self.fronts[self.turn % len(self.fronts)].ask(method, path, body, given)

    def who(self, name: str) -> Caller | None:
        """A caller; who has no session and no key asks as a guest."""
        found: Caller | None = self.model.accounts.get(name) or self.model.machines.get(name.removesuffix("'s machine"))
        return found if found is not None and found.token else None

    def expect(self, answer: tuple[int, dict[str, str], Any], status: int, promised: Callable[[], Any]) -> Any:
        """What the model says; a refusal must be the answer, a value is given back with the document."""
        got, headers, document = answer
        refused = None
        try:
            value = promised()
        except No as no:
            refused = (no.status, no.code)
        if refused is not None:
            assert (got, (document or {}).get("error", {}).get("code")) == refused, document
            return None
        assert got == status, (got, document)
        return value, headers, document["data"] if document else None

    def is_shown(self, found: Resource, headers: dict[str, str], document: Json) -> None:
        assert same({name: document[name] for name in found.shown()}, found.shown()), (document, found.shown())
        assert headers.get("ETag", f'"{found.version}"') == f'"{found.version}"'

    def write(
        self, who: Caller | None, method: str, path: str, body: Any, match: str, version: int, key: str | None,
        status: int, promised: Callable[[Any], Any],
    ) -> Any:  # fmt: skip
        """A change, with its precondition and its key: the same key again gets the first answer, or a refusal."""
        expected: Any = {"none": None, "now": version, "old": version - 1, "*": "*"}[match]
        headers = dict(WAIT)
        if expected is not None:
            headers["If-Match"] = "*" if expected == "*" else f'"{expected}"'
        # Of what has to be there anyway `*` says nothing; a schema may be made anew.
        request = (body, None if expected == "*" and not (method == "PUT" and "/kinds/" in path) else expected)
        place = (who.id if who else "", method, path, key or "")
        # What a front refuses by itself is no operation, and its key is free again.
        scope = "admin" if path.startswith(("/users", "/kinds")) else "write"
        counts = key is not None and who is not None and scope in who.scopes and place not in self.spent
        if key is not None and place not in self.spent:
            headers["Idempotency-Key"] = f"{self.kind}-{key}"
        before = self.keyed.get(place) if counts else None
        if before is None:
            answer = self.ask(who, method, path, body, **headers)
            if counts and answer[0] == 400:
                self.spent.add(place)
            elif counts:
                self.keyed[place] = (request, answer[0], answer[2])
            return self.expect(answer, status, lambda: promised(expected))
        got, shown, document = self.ask(who, method, path, body, **headers)
        if not same(before[0], request):
            assert (got, document["error"]["code"]) == (422, "KEY_REUSED")
            return None
        assert got == before[1], document
        assert shown.get("Idempotency-Replayed") == "true", shown
        if document and "data" in document:
            assert same(document["data"], before[2]["data"]), (document, before[2])
        return None

    def session(self, name: str) -> Account | None:
        """Somebody who is logged in."""
        found = self.model.accounts[name]
        return found if found.token else None

    def pick(self, place: int) -> Resource | None:
        """One of the resources there are; sometimes none."""
        there = list(self.model.resources.values())
        return there[place % len(there)] if there and place < 5 else None

    def address(self, place: int) -> tuple[str, int]:
        found = self.pick(place)
        return (found.id, found.version) if found else (NOWHERE, 1)

    # -- accounts ----------------------------------------------------------------------------------------------------

    def arrive(self) -> None:
        for name in ("ann", "bob", "root"):
            self.register(name)
        root = self.model.accounts["root"]
        status, _, shown = self.ask(self.chief(), "PUT", f"/users/{root.id}/role", {"role": "admin"}, **WAIT)
        assert (status, shown["data"]["version"]) == (200, 2)
        root.role, root.version = "admin", 2
        self.over(root)

    def register(self, name: str) -> None:
        email, password = f"{name}-{self.number}@example.org", f"the secret of {name}"
        body = {"email": email, "password": password, "name": name}
        status, _, shown = self.ask(None, "POST", "/auth/register", body, **WAIT)
        assert status == 201, shown
        account = shown["data"]["user"]
        assert (account["email"], account["role"], account["version"]) == (email, "user", 1)
        self.model.accounts[name] = Account(name, email, password, account["id"], token=shown["data"]["access_token"])

    def over(self, who: Caller) -> None:
        """Its session, or its key, has ended, in every front within a second."""
        code = "API_KEY_INVALID" if isinstance(who, Machine) else "SESSION_ENDED"
        token, who.token = who.token, ""
        who.ended = token or who.ended
        if token:
            self.refused(token, code)

    def refused(self, token: str, code: str) -> None:
        """By every front within a second; a key of an account that was disabled may end when that is enabled again."""
        deadline = time.monotonic() + ENDED_S
        for front in self.fronts:
            while True:
                asked_at = time.monotonic()
                status, _, shown = front.ask("GET", "/users/me", None, {"Authorization": f"Bearer {token}"})
                if status == 401:
                    assert shown["error"]["code"] == code
                    break
                assert asked_at < deadline, f"what is {code} goes on"

    @rule(name=people, upper=st.booleans())
    def take_a_taken_address(self, name: str, upper: bool) -> None:
        email = self.model.accounts[name].email
        body = {"email": email.upper() if upper else email, "password": "another secret"}
        status, _, shown = self.ask(None, "POST", "/auth/register", body, **WAIT)
        assert (status, shown["error"]["code"]) == (409, "EMAIL_TAKEN")

    @rule(name=people)
    def log_out(self, name: str) -> None:
        who = self.who(name)
        status, _, shown = self.ask(who, "POST", "/auth/logout", **WAIT)
        if who is None:
            assert (status, shown["error"]["code"]) == (401, "TOKEN_MISSING")
        else:
            assert status == 204
            self.over(who)

    @rule(name=people)
    def ask_with_a_token_that_has_ended(self, name: str) -> None:
        known: list[tuple[Caller | None, str]] = [
            (self.model.accounts[name], "SESSION_ENDED"), (self.model.machines.get(name), "API_KEY_INVALID"),
        ]  # fmt: skip
        for who, code in known:
            if who is not None and who.ended:
                self.refused(who.ended, code)

    @rule(
        name=people,
        scopes=st.sampled_from([("read",), ("write",), ("read", "write"), ("read", "write", "admin")]),
    )
    def make_key(self, name: str, scopes: tuple[str, ...]) -> None:
        """One at a time: the one before is revoked."""
        who = self.session(name)
        self.revoke_key(name)
        answer = self.ask(who, "POST", "/api-keys", {"name": "a machine", "scopes": scopes}, **WAIT)
        found = self.expect(answer, 201, lambda: self.model.make_key(who, scopes))
        if found is not None:
            assert tuple(found[2]["scopes"]) == scopes
            self.model.machines[name] = Machine(found[0], found[2]["id"], scopes, found[2]["key"])

    @rule(name=people)
    def revoke_key(self, name: str) -> None:
        who, machine = self.session(name), self.model.machines.get(name)
        if who is not None and machine is not None and machine.token:
            assert self.ask(who, "DELETE", f"/api-keys/{machine.key}", **WAIT)[0] == 204
            self.over(machine)

    @rule(name=people)
    def keys_are_listed(self, name: str) -> None:
        who, machine = self.session(name), self.model.machines.get(name)
        if who is not None:
            wanted = [machine.key] if machine is not None and machine.token else []
            deadline = time.monotonic() + ENDED_S
            asked_at = time.monotonic()
            while [one["id"] for one in self.ask(who, "GET", "/api-keys")[2]["data"]] != wanted:
                assert asked_at < deadline, wanted
                asked_at = time.monotonic()

    @rule(name=people)
    def a_machine_is_no_person(self, name: str) -> None:
        machine = self.model.machines.get(name)
        if machine is not None and machine.token:
            for method, path in (("GET", "/api-keys"), ("GET", "/sessions"), ("POST", "/auth/logout")):
                status, _, shown = self.ask(machine, method, path)
                assert status == 403
                lacking = method == "GET" and "read" not in machine.scopes
                assert shown["error"]["code"] == ("FORBIDDEN" if lacking else "SESSION_REQUIRED")

    @rule(
        caller=callers, name=people, match=matching, key=keys,
        to=st.sampled_from([("role", "admin"), ("role", "user"), ("status", "disabled"), ("status", "active")]),
    )  # fmt: skip
    def administer(self, caller: str, name: str, match: str, key: str | None, to: tuple[str, str]) -> None:
        who, of = self.who(caller), self.model.accounts[name]
        what, value = to
        ended: list[Caller] = []

        def promised(expected: Any) -> Account:
            ended.extend(self.model.administer(who, of, what, value, expected))
            return of

        found = self.write(
            who, "PUT", f"/users/{of.id}/{what}", {what: value}, match, of.version, key, 200, promised
        )  # fmt: skip
        if found is not None:
            document = found[2]
            assert (document["role"], document["status"], document["version"]) == (of.role, of.status, of.version)
        for one in ended:
            self.over(one)

    @rule(caller=callers, name=people)
    def read_an_account(self, caller: str, name: str) -> None:
        who, of = self.who(caller), self.model.accounts[name]
        answer = self.ask(who, "GET", f"/users/{of.id}")
        found = self.expect(answer, 200, lambda: self.model.administered(who, of, None))
        if found is not None:
            shown = found[2]
            assert (shown["email"], shown["role"], shown["version"]) == (of.email, of.role, of.version)
            assert shown["status"] == of.status
