"""Resources: given what happened, when a command comes, then this happens. No event loop, no clock."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from domain.access import GUEST, SYSTEM, Actor, Role, Visibility
from domain.aggregates import Context, Occurrence, fold
from domain.refusals import Code, Refusal
from domain.resources import (
    RESTORABLE,
    CreateResource,
    DeleteResource,
    EraseResource,
    Event,
    Resource,
    ResourceCreated,
    ResourceDeleted,
    ResourceErased,
    ResourceRestored,
    ResourceUpdated,
    RestoreResource,
    UpdateResource,
    decide,
    document,
    evolve,
)

ID = UUID(int=1)
OWNER = Actor(UUID(int=2), Role.USER)
OTHER = Actor(UUID(int=3), Role.USER)
ADMIN = Actor(UUID(int=4), Role.ADMIN)
NOW = datetime(2026, 1, 1, tzinfo=UTC)

CREATED = ResourceCreated("note", "Title", "", ("a",), {}, Visibility.PRIVATE, "open", OWNER.id or ID)
DELETED = ResourceDeleted("note", Visibility.PRIVATE, CREATED.owner_id)


def by(actor: Actor) -> Context:
    return Context(actor, ID, NOW)


def given(*events: Event) -> Resource | None:
    return fold(evolve, None, events, by(OWNER))


def public(**fields: Any) -> ResourceCreated:
    return msgspec.structs.replace(CREATED, visibility=Visibility.PUBLIC, **fields)


def test_a_user_creates_what_it_then_owns() -> None:
    assert decide(None, CreateResource("note", "Title", tags=("a", "a")), by(OWNER)) == (CREATED,)


@pytest.mark.parametrize("actor", [GUEST, SYSTEM, Actor(UUID(int=9), Role.GUEST)])
def test_nobody_creates_nothing(actor: Actor) -> None:
    assert decide(None, CreateResource("note", "Title"), by(actor)) == Refusal(Code.FORBIDDEN)


@pytest.mark.parametrize("history", [(CREATED,), (CREATED, DELETED)])
def test_an_id_is_used_once(history: tuple[Event, ...]) -> None:
    assert decide(given(*history), CreateResource("note", "Title"), by(OWNER)) == Refusal(Code.ALREADY_EXISTS)


@pytest.mark.parametrize("actor", [OWNER, ADMIN])
def test_owner_and_admin_change_and_delete(actor: Actor) -> None:
    state = given(CREATED)
    changed = ResourceUpdated(kind="note", visibility=Visibility.PRIVATE, owner_id=CREATED.owner_id, title="New")
    assert decide(state, UpdateResource(title="New"), by(actor)) == (changed,)
    assert decide(state, DeleteResource(), by(actor)) == (DELETED,)


@pytest.mark.parametrize("command", [UpdateResource(title="x"), DeleteResource(), UpdateResource(expected_version=9)])
@pytest.mark.parametrize(
    ("history", "actor", "code"),
    [
        ((), OWNER, Code.NOT_FOUND),
        ((CREATED, DELETED), OWNER, Code.NOT_FOUND),
        ((CREATED, DELETED), ADMIN, Code.NOT_FOUND),
        ((CREATED,), OTHER, Code.NOT_FOUND),
        ((CREATED,), GUEST, Code.NOT_FOUND),
        ((public(),), OTHER, Code.FORBIDDEN),
        ((public(),), GUEST, Code.FORBIDDEN),
    ],
)
def test_whoever_may_not_see_it_learns_nothing(
    history: tuple[Event, ...], actor: Actor, code: Code, command: UpdateResource | DeleteResource
) -> None:
    assert decide(given(*history), command, by(actor)) == Refusal(code)


@pytest.mark.parametrize("command", [UpdateResource(expected_version=2, title="x"), DeleteResource(2)])
def test_a_stale_version_is_refused(command: UpdateResource | DeleteResource) -> None:
    refusal = decide(given(CREATED), command, by(OWNER))
    assert refusal == Refusal(Code.STALE_VERSION)
    assert isinstance(refusal, Refusal)
    assert refusal.status == 412


@pytest.mark.parametrize(
    "command",
    [
        UpdateResource(),
        UpdateResource(title="Title", tags=("a", "a"), attributes={}),
        UpdateResource(expected_version=1),
    ],
)
def test_a_change_of_nothing_is_no_event(command: UpdateResource) -> None:
    assert decide(given(CREATED), command, by(OWNER)) == ()


def test_members_in_another_order_are_the_same() -> None:
    old = {"zeta": 1, "a": [{"z": None, "y": 2.0}]}
    state = given(msgspec.structs.replace(CREATED, attributes=old))
    assert decide(state, UpdateResource(attributes={"a": [{"y": 2.0, "z": None}], "zeta": 1}), by(OWNER)) == ()
    assert decide(state, UpdateResource(attributes={"a": [{"y": 2, "z": None}], "zeta": 1}), by(OWNER)) != ()


@pytest.mark.parametrize(("old", "new"), [({"a": 1}, {"a": True}), ({"a": 1}, {"a": 1.0}), ({"a": 0}, {"a": False})])
def test_json_values_that_python_calls_equal_still_differ(old: dict[str, Any], new: dict[str, Any]) -> None:
    state = given(msgspec.structs.replace(CREATED, attributes=old))
    update = ResourceUpdated(kind="note", visibility=Visibility.PRIVATE, owner_id=CREATED.owner_id, attributes=new)
    assert decide(state, UpdateResource(attributes=new), by(OWNER)) == (update,)


def test_evolving_keeps_what_an_update_leaves_out() -> None:
    later = Occurrence(ID, 2, NOW + timedelta(seconds=1))
    state = given(CREATED)
    update = ResourceUpdated(kind="memo", visibility=Visibility.PUBLIC, owner_id=CREATED.owner_id, body="text")
    new = evolve(state, update, later)
    assert (new.kind, new.title, new.body, new.tags, new.visibility) == ("memo", "Title", "text", ("a",), "public")
    assert (new.version, new.created_at, new.updated_at) == (2, NOW, later.time)


def test_a_history_without_a_beginning_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"resource\.deleted"):
        evolve(None, DELETED, Occurrence(ID, 1, NOW))


def test_the_document_is_what_the_contract_says() -> None:
    state = given(CREATED, DELETED)
    assert state is not None
    names = "id kind title body tags attributes visibility status owner_id version created_at updated_at"
    assert " ".join(msgspec.json.decode(document(state))) == names


@pytest.mark.parametrize(
    "fields",
    [
        {"title": "a\0"}, {"body": "\ud800"}, {"tags": ("\0",)}, {"attributes": {"a": [{"b": "\0"}]}},
        {"attributes": {"\0": 1}}, {"attributes": {"a": 2**63}}, {"attributes": {"a": float("inf")}},
    ],
)  # fmt: skip
def test_what_no_store_keeps_is_no_command(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"NUL|range|surrogate"):
        CreateResource(**{"kind": "note", "title": "t", **fields})
    with pytest.raises(ValueError, match=r"NUL|range|surrogate"):
        UpdateResource(**fields)


@pytest.mark.parametrize(
    ("history", "actor", "after", "answer"),
    [
        ((CREATED, DELETED), OWNER, timedelta(0), (ResourceRestored("note", Visibility.PRIVATE, CREATED.owner_id),)),
        ((CREATED, DELETED), ADMIN, RESTORABLE, (ResourceRestored("note", Visibility.PRIVATE, CREATED.owner_id),)),
        ((CREATED, DELETED), OWNER, RESTORABLE + timedelta(seconds=1), Refusal(Code.RESTORE_EXPIRED)),
        ((public(), DELETED), OTHER, timedelta(0), Refusal(Code.NOT_FOUND)),
        ((CREATED,), OTHER, timedelta(0), Refusal(Code.NOT_FOUND)),
        ((public(),), OTHER, timedelta(0), Refusal(Code.FORBIDDEN)),
        ((CREATED,), OWNER, timedelta(0), ()),
        ((), ADMIN, timedelta(0), Refusal(Code.NOT_FOUND)),
    ],
)
def test_what_was_deleted_comes_back_as_it_was(
    history: tuple[Event, ...], actor: Actor, after: timedelta, answer: Any
) -> None:
    state = given(*history)
    decided = decide(state, RestoreResource(), Context(actor, ID, NOW + after))
    assert decided == answer
    if isinstance(decided, tuple) and decided:
        back = fold(evolve, state, decided, by(actor))
        assert back is not None
        assert back == msgspec.structs.replace(given(CREATED) or back, version=3)


ERASED = ResourceErased("note", Visibility.PRIVATE, CREATED.owner_id)


def test_of_what_is_erased_nothing_is_left_and_it_never_comes_back() -> None:
    assert decide(given(CREATED), EraseResource(), by(SYSTEM)) == (DELETED, ERASED)
    assert decide(given(CREATED, DELETED), EraseResource(), by(SYSTEM)) == (ERASED,)
    full = public(title="secret", body="secret", tags=("secret",), attributes={"secret": 1}, status="secret")
    erased = given(full, DELETED, ERASED)
    assert erased is not None
    assert erased.erased
    assert erased.deleted_at == NOW
    assert b"secret" not in document(erased)
    assert decide(erased, EraseResource(), by(SYSTEM)) == ()
    assert decide(None, EraseResource(), by(SYSTEM)) == Refusal(Code.NOT_FOUND)
    assert decide(erased, RestoreResource(), by(ADMIN)) == Refusal(Code.RESTORE_EXPIRED)
    assert decide(erased, UpdateResource(title="x"), by(ADMIN)) == Refusal(Code.NOT_FOUND)
    assert decide(erased, CreateResource("note", "Title"), by(OWNER)) == Refusal(Code.ALREADY_EXISTS)


@pytest.mark.parametrize("actor", [GUEST, OWNER, OTHER, ADMIN])
def test_only_the_system_erases(actor: Actor) -> None:
    assert decide(given(CREATED), EraseResource(), by(actor)) == Refusal(Code.NOT_FOUND)


def test_a_merge_is_of_the_attributes_as_they_are() -> None:
    state = given(public(attributes={"a": {"b": 1}, "c": 2}))
    decided = decide(state, UpdateResource(merge={"a": {"b": None, "d": 3}, "c": None}), by(OWNER))
    assert isinstance(decided, tuple)
    assert [event.attributes for event in decided if isinstance(event, ResourceUpdated)] == [{"a": {"d": 3}}]
    assert decide(state, UpdateResource(merge={"x": None}), by(OWNER)) == ()
