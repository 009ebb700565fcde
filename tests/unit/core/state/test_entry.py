"""The table of transitions, and that nothing else is possible."""

from __future__ import annotations

import itertools

import pytest

from amber_ray.core.state import entry as entry_module
from amber_ray.core.state.entry import AVAILABLE, LIVE, TRANSITIONS, Cause, Entry, IllegalTransition, State
from tests.core_kit import chain


def entry(state: State) -> Entry:
    steps = chain("a")
    made = Entry(steps["a"], steps, (2, 0.0), "t", 1)
    made.state = state
    return made


@pytest.mark.parametrize(("state", "cause"), list(itertools.product(State, Cause)), ids=lambda x: x.name)
def test_a_listed_pair_moves_and_any_other_raises_and_changes_nothing(state: State, cause: Cause) -> None:
    one = entry(state)
    if (state, cause) in TRANSITIONS:
        one.move(cause)
        assert one.state is TRANSITIONS[state, cause]
    else:
        with pytest.raises(IllegalTransition, match=f"a a: no way from {state.name} by {cause.name}"):
            one.move(cause)
        assert one.state is state


@pytest.mark.parametrize("member", [*State, *Cause], ids=lambda x: x.name)
def test_a_members_own_name_is_that_member(member: State | Cause) -> None:
    assert getattr(entry_module, member.name) is member


def test_an_illegal_transition_names_its_key() -> None:
    with pytest.raises(IllegalTransition) as caught:
        entry(State.HOT).move(Cause.DONE)
    assert caught.value.key == "a"
    assert caught.value.__cause__ is None


def test_changes_are_noted_and_what_is_no_change_is_not() -> None:
    noted: list[object] = []
    steps = chain("a")
    one = Entry(steps["a"], steps, (2, 0.0), "t", 1, noted.append)
    one.move(Cause.NEED)
    one.move(Cause.READY)
    with pytest.raises(IllegalTransition):
        one.move(Cause.DONE)
    assert noted == ["a", Cause.NEED, "a", Cause.READY]


def test_all_that_is_known_of_a_key_is_said_in_few_words() -> None:
    one = entry(State.RUNNING)
    one.task, one.tries, one.until = 7, 1, 12.5
    one.dependents["b"] = entry(State.WAITING)
    for i in range(1000):
        one.waiters[f"r{i}"] = None
    said = one.said()
    for words in ("a a of ", "is RUNNING", "task 7", "tries 1", "until 12.5", "dependents (a WAITING)"):
        assert words in said
    assert "waiters (r0, r1, r2, r3, r4 and 995 more)" in said
    assert len(said) < 500


def test_every_state_can_be_reached_and_left() -> None:
    assert set(TRANSITIONS.values()) == set(State)
    assert {state for state, _ in TRANSITIONS} == set(State)


def test_every_cause_is_used() -> None:
    assert {cause for _, cause in TRANSITIONS} == set(Cause)


def test_every_state_leads_to_an_end() -> None:
    """From anywhere a key can come to rest: a value in memory or on disk, a failure, or nothing."""
    rest = {State.HOT, State.KEPT, State.COLD, State.FAILED, State.ABSENT}
    for start in State:
        reached, stack = {start}, [start]
        while stack:
            here = stack.pop()
            new = {to for (state, _), to in TRANSITIONS.items() if state is here} - reached
            reached |= new
            stack.extend(new)
        assert reached & rest


def test_live_and_available_states_are_apart() -> None:
    assert not LIVE & AVAILABLE
    assert {State.ABSENT, State.COLD, State.FAILED} == set(State) - LIVE - AVAILABLE


def test_an_entry_is_wanted_by_a_request_or_by_a_step() -> None:
    one = entry(State.WAITING)
    assert not one.wanted
    one.waiters["r"] = None
    assert one.wanted
    one.waiters.clear()
    one.dependents["b"] = entry(State.WAITING)
    assert one.wanted
    assert repr(one) == "<Entry a a WAITING>"
