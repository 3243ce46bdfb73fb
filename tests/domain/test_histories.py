"""Any history of commands, folded as the agents fold it, keeps its promises."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from domain import resources
from domain.access import Actor, Role, Visibility
from domain.aggregates import Context, Occurrence, fold
from domain.refusals import Code, Refusal
from domain.resources import CreateResource, DeleteResource, Resource, UpdateResource

ID = UUID(int=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
ACTORS = [
    Actor(UUID(int=2), Role.USER),
    Actor(UUID(int=3), Role.USER),
    Actor(UUID(int=4), Role.ADMIN),
    Actor(None, Role.GUEST),
]

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
slug = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,10}", fullmatch=True)
values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
fields: dict[str, st.SearchStrategy[Any]] = {
    "kind": slug,
    "title": text.filter(bool),
    "body": text,
    "tags": st.lists(text.filter(bool), max_size=4).map(tuple),
    "attributes": st.dictionaries(text, values, max_size=3),
    "visibility": st.sampled_from(Visibility),
    "status": slug,
}
versions = st.none() | st.integers(0, 12)
optional = {name: value for name, value in fields.items() if name not in ("kind", "title")}
creates = st.builds(
    lambda kind, title, rest: CreateResource(kind, title, **rest),
    fields["kind"], fields["title"], st.fixed_dictionaries({}, optional=optional),
)  # fmt: skip
updates = st.builds(
    lambda rest, version: UpdateResource(expected_version=version, **rest),
    st.fixed_dictionaries({}, optional=fields),
    versions,
)
commands = st.one_of(creates, updates, st.builds(DeleteResource, versions))
histories = st.lists(st.tuples(st.sampled_from(ACTORS), commands), max_size=12)


def play(history: list[tuple[Actor, Any]]) -> tuple[Resource | None, list[tuple[Any, Occurrence]], list[Any]]:
    """The state, every event with its occurrence, and the outcome of each command."""
    state: Resource | None = None
    happened: list[tuple[Any, Occurrence]] = []
    outcomes = []
    for step, (actor, command) in enumerate(history):
        context = Context(actor, ID, START + timedelta(seconds=step))
        outcome = resources.decide(state, command, context)
        outcomes.append(outcome)
        if not isinstance(outcome, Refusal):
            for event in outcome:
                happened.append((event, Occurrence(ID, len(happened) + 1, context.now)))
            state = fold(resources.evolve, state, outcome, context)
    return state, happened, outcomes


@given(histories)
def test_the_version_is_the_number_of_events(history: list[tuple[Actor, Any]]) -> None:
    state, happened, _ = play(history)
    assert (0 if state is None else state.version) == len(happened)


@given(histories)
def test_evolving_over_the_events_gives_the_state(history: list[tuple[Actor, Any]]) -> None:
    state, happened, _ = play(history)
    again: Resource | None = None
    for event, at in happened:
        again = resources.evolve(again, event, at)
    assert again == state


@given(histories)
def test_events_commands_and_states_survive_json(history: list[tuple[Actor, Any]]) -> None:
    state, happened, outcomes = play(history)
    kept = [(command, type(command)) for _, command in history]
    kept += [(event, resources.EVENTS[resources.EVENT_NAMES[type(event)]]) for event, _ in happened]
    kept += [(outcome, Refusal) for outcome in outcomes if isinstance(outcome, Refusal)]
    kept += [] if state is None else [(state, Resource)]
    for value, kind in kept:
        assert msgspec.json.decode(msgspec.json.encode(value), type=kind) == value
        assert msgspec.json.encode(value) == msgspec.json.encode(
            msgspec.json.decode(msgspec.json.encode(value), type=kind)
        )


@given(histories)
def test_a_repeat_with_its_expected_version_is_stale(history: list[tuple[Actor, Any]]) -> None:
    state, _, _ = play(history)
    if state is None or state.deleted_at is not None:
        return
    admin = Context(ACTORS[2], ID, START)
    command = UpdateResource(expected_version=state.version, title=state.title + "!" if len(state.title) < 200 else "x")
    events = resources.decide(state, command, admin)
    assert not isinstance(events, Refusal)
    after = fold(resources.evolve, state, events, admin)
    assert resources.decide(after, command, admin) == Refusal(Code.STALE_VERSION)
    assert state.version + len(events) == (after.version if after else 0)


@given(histories)
def test_a_decision_is_a_function_of_its_arguments(history: list[tuple[Actor, Any]]) -> None:
    assert play(history) == play(history)


@given(histories)
def test_nothing_happens_after_a_deletion_and_owners_never_change(history: list[tuple[Actor, Any]]) -> None:
    _, happened, outcomes = play(history)
    kinds = [resources.EVENT_NAMES[type(event)] for event, _ in happened]
    assert "resource.deleted" not in kinds[:-1]
    assert len({event.owner_id for event, _ in happened}) <= 1
    asked = zip(history, outcomes, strict=True)
    assert all(isinstance(outcome, Refusal) for (actor, _), outcome in asked if actor.id is None)
