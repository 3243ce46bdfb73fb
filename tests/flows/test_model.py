"""Any sequence of calls by several callers gives the answers that a simple model gives (tests/flows/model.py).

Two fronts of one process each and a worker on real servers; each call goes to the one or the other. What a caller
wrote by one front it must read by the other, at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from config import Settings
from domain.access import Role
from tests.flows.callers import WAIT, Front, everyone, keys, matching, places
from tests.flows.harness import system, unlimited
from tests.flows.mail_server import Server
from tests.flows.model import SCHEMAS, Json, Resource, whole
from tests.flows.model_accounts import Account
from tests.flows.owners import Owners
from web.accounts import token_for

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(3600)]

QUICK, FULL = (6, 35), (200, 60)
"""Sequences, and steps of each."""

words = st.sampled_from(["a", "b", "c", "ab", "river", "여울"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, "1", "x", ""]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("mn"), inner, max_size=2),
    max_leaves=3,
)
attributes = st.dictionaries(st.sampled_from(["m", "n", "deep"]), values, max_size=3)
optional: Json = {
    "body": words, "tags": st.lists(words, max_size=3), "attributes": attributes,
    "visibility": st.sampled_from(["public", "private"]), "status": st.sampled_from(["open", "done"]),
}  # fmt: skip
bodies = st.fixed_dictionaries({"title": words}, optional=optional)
patches = st.fixed_dictionaries(
    {}, optional={"title": words, **{name: st.none() | values for name, values in optional.items()}}
)
administrators = st.sampled_from(["root", "root", "root", "ann", "bob's machine", "guest"])
"""Mostly one who may."""
filters = st.dictionaries(
    st.sampled_from(["status", "visibility", "tags", "title", "attributes.n", "attributes.deep.n", "owner_id"]),
    st.integers(0, 5),
    max_size=2,
)
FILTERED = {
    "status": ["open", "done"], "visibility": ["public", "private"], "tags": ["a", "river", "여울"],
    "title": ["a", "ab", "여울"], "attributes.n": ["1", "x", "true", "-2"], "attributes.deep.n": ["1", "x"],
}  # fmt: skip


class Everything(Owners):
    """What two users, an admin and a guest may do, in any order."""

    @initialize(number=st.none() | st.integers(0, len(SCHEMAS) - 1))
    def begin(self, number: int | None) -> None:
        self.arrive()
        self.log_in("root", right=True)
        if number is not None:
            self.define("root", number, "none", None)

    @rule(caller=everyone, body=bodies, key=keys)
    def create(self, caller: str, body: Json, key: str | None) -> None:
        who = self.who(caller)
        sent = {**body, "kind": self.kind}
        found = self.write(who, "POST", "/resources", sent, "none", 1, key, 201, lambda _: self.model.create(who, sent))
        if found is not None:
            self.made(found[0], sent, found[2])
            self.is_shown(self.model.resources[found[2]["id"]], found[1], found[2])

    def made(self, owner: Account, sent: Json, document: Json) -> None:
        # As a text it would not sort: a whole second has no fraction.
        created_at = datetime.fromisoformat(document["created_at"])
        made = Resource(document["id"], owner, whole(sent), created_at)
        made.happened("resource.created")
        self.model.resources[made.id] = made

    @rule(caller=everyone, place=places, body=bodies, match=matching, key=keys)
    def replace(self, caller: str, place: int, body: Json, match: str, key: str | None) -> None:
        who, (id, version) = self.who(caller), self.address(place)
        sent = {**body, "kind": self.kind}
        found = self.write(
            who, "PUT", f"/resources/{id}", sent, match, version, key, 200,
            lambda expected: self.model.replace(who, id, sent, expected),
        )  # fmt: skip
        if found is not None:
            self.is_shown(*found)

    @rule(caller=everyone, place=places, body=patches, match=matching, key=keys)
    def patch(self, caller: str, place: int, body: Json, match: str, key: str | None) -> None:
        who, (id, version) = self.who(caller), self.address(place)
        found = self.write(
            who, "PATCH", f"/resources/{id}", body, match, version, key, 200,
            lambda expected: self.model.patch(who, id, body, expected),
        )  # fmt: skip
        if found is not None:
            self.is_shown(*found)

    @rule(caller=everyone, place=places, match=matching, key=keys)
    def delete(self, caller: str, place: int, match: str, key: str | None) -> None:
        who, (id, version) = self.who(caller), self.address(place)
        self.write(
            who, "DELETE", f"/resources/{id}", None, match, version, key, 204,
            lambda expected: self.model.delete(who, id, expected),
        )  # fmt: skip

    @rule(caller=everyone, place=places, match=matching, key=keys)
    def restore(self, caller: str, place: int, match: str, key: str | None) -> None:
        who, (id, version) = self.who(caller), self.address(place)
        found = self.write(
            who, "POST", f"/resources/{id}/restore", None, match, version, key, 200,
            lambda expected: self.model.restore(who, id, expected),
        )  # fmt: skip
        if found is not None:
            self.is_shown(*found)

    @rule(caller=everyone, changes=st.lists(st.tuples(places, patches | st.none()), min_size=1, max_size=4), new=bodies)
    def batch(self, caller: str, changes: list[tuple[int, Json | None]], new: Json) -> None:
        who = self.who(caller)
        sent: list[Json] = [{"op": "create", "resource": {**new, "kind": self.kind}}]
        for place, patch in changes:
            id, _ = self.address(place)
            if id not in [one.get("id") for one in sent]:  # two of one resource may come in either order
                sent.append({"op": "update", "id": id, "resource": patch} if patch else {"op": "delete", "id": id})
        answer = self.ask(who, "POST", "/resources/batch", {"operations": sent}, **WAIT)
        found = self.expect(answer, 200, lambda: self.model.may(who, "write"))
        if found is None:
            return
        for one, told in zip(sent, found[2], strict=True):
            inner: Any = (told["status"], {}, {"data": told.get("data"), "error": told.get("error", {})})
            if one["op"] == "create":
                made = self.expect(inner, 201, partial(self.model.create, who, one["resource"]))
                if made is not None:
                    self.made(made[0], one["resource"], made[2])
            elif one["op"] == "delete":
                self.expect(inner, 204, partial(self.model.delete, who, one["id"], None))
            else:
                changed = self.expect(inner, 200, partial(self.model.patch, who, one["id"], one["resource"], None))
                if changed is not None:
                    self.is_shown(changed[0], {}, changed[2])

    @rule(caller=everyone, place=places, known=st.booleans())
    def read(self, caller: str, place: int, known: bool) -> None:
        who, (id, version) = self.who(caller), self.address(place)
        headers = {"If-None-Match": f'"{version}"'} if known else {}
        answer = self.ask(who, "GET", f"/resources/{id}", **headers)
        found = self.expect(answer, 304 if known else 200, lambda: self.model.read(who, id))
        if found is not None and not known:
            self.is_shown(*found)

    @rule(caller=everyone, place=places)
    def history(self, caller: str, place: int) -> None:
        who, (id, _) = self.who(caller), self.address(place)
        answer = self.ask(who, "GET", f"/resources/{id}/history?limit=100")
        found = self.expect(answer, 200, lambda: self.model.history(who, id))
        if found is not None:
            assert [(change["version"], change["type"]) for change in found[2]] == found[0]

    @rule(
        caller=everyone, chosen=filters, limit=st.integers(1, 4),
        sort=st.sampled_from(["created_at", "-created_at", "title", "-title", "status", "-status"]),
    )  # fmt: skip
    def listing(self, caller: str, chosen: dict[str, int], limit: int, sort: str) -> None:
        who = self.who(caller)
        owners = [account.id for account in self.model.accounts.values()]
        narrowed = {name: texts[at % len(texts)] for name, at in chosen.items()
                    for texts in [FILTERED.get(name, owners)]}  # fmt: skip
        asked = {f"filter[{name}]": text for name, text in narrowed.items()} | {"filter[kind]": self.kind}
        asked |= {"limit": str(limit), "sort": sort, "total": "true"}
        seen: list[Json] = []
        cursor: str | None = ""
        while cursor is not None:
            query = urlencode(asked | ({"cursor": cursor} if cursor else {}))
            status, _, shown = self.ask(who, "GET", f"/resources?{query}")
            if who is not None and "read" not in who.scopes:
                assert (status, shown["error"]["code"]) == (403, "FORBIDDEN")
                return
            assert status == 200, shown
            seen += shown["data"]
            cursor = shown["meta"]["next_cursor"]
            assert len(shown["data"]) <= limit
        wanted = self.model.listing(who, sort, narrowed)
        assert [one["id"] for one in seen] == wanted
        assert shown["meta"]["total"] == {"count": len(wanted), "exact": True}
        for one in seen:
            self.is_shown(self.model.resources[one["id"]], {}, one)

    @rule(caller=everyone)
    def bin(self, caller: str) -> None:
        who = self.who(caller)
        answer = self.ask(who, "GET", f"/resources?deleted=true&limit=100&filter%5Bkind%5D={self.kind}")
        found = self.expect(answer, 200, lambda: self.model.bin(who))
        if found is not None:
            assert {one["id"] for one in found[2]} == found[0]

    @rule(caller=administrators, number=st.integers(0, len(SCHEMAS) - 1), match=matching, key=keys)
    def define(self, caller: str, number: int, match: str, key: str | None) -> None:
        who, schema = self.who(caller), SCHEMAS[number]
        found = self.write(
            who, "PUT", f"/kinds/{self.kind}", {"schema": schema}, match, max(self.model.defined, 1), key, 200,
            lambda expected: self.model.define(who, schema, expected),
        )  # fmt: skip
        if found is not None:
            assert (found[2]["version"], found[2]["schema"]) == (found[0], schema)

    @rule(caller=administrators, match=matching, key=keys)
    def undefine(self, caller: str, match: str, key: str | None) -> None:
        who = self.who(caller)
        self.write(
            who, "DELETE", f"/kinds/{self.kind}", None, match, max(self.model.defined, 1), key, 204,
            lambda expected: self.model.undefine(who, expected),
        )  # fmt: skip

    @rule(caller=everyone)
    def read_the_kind(self, caller: str) -> None:
        who = self.who(caller)
        found = self.expect(self.ask(who, "GET", f"/kinds/{self.kind}"), 200, lambda: self.model.kind(who))
        if found is not None:
            assert (found[2]["version"], found[2]["schema"]) == (self.model.defined, found[0])


async def test_any_sequence_of_calls_is_answered_as_the_model_says(
    own_settings: Settings, tmp_path: Path, full: bool
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        Everything.post, Everything.loop = Server(), asyncio.get_running_loop()
        await Everything.post.start()
        stack.push_async_callback(Everything.post.stop)
        mailing = msgspec.structs.replace(own_settings, smtp_url=f"smtp://127.0.0.1:{Everything.post.port}")
        installation = await stack.enter_async_context(system(unlimited(mailing), tmp_path))
        worker, *fronts = installation.worker(), installation.front(processes=1), installation.front(processes=1)
        await asyncio.gather(worker.start(), *(front.start() for front in fronts))
        Everything.fronts = tuple(Front(installation.url_of(front)) for front in fronts)
        Everything.chief = staticmethod(
            partial(token_for, installation.settings, "chief@example.org", Role.ADMIN.value)
        )
        sequences, steps = FULL if full else QUICK
        size = settings(
            max_examples=sequences, stateful_step_count=steps, derandomize=not full, database=None, deadline=None,
            suppress_health_check=list(HealthCheck),
            # Each try of a shorter sequence takes seconds: only a full run looks for the shortest one that fails.
            phases=(Phase.generate, Phase.shrink) if full else (Phase.generate,),
        )  # fmt: skip
        await asyncio.to_thread(run_state_machine_as_test, Everything, settings=size)
