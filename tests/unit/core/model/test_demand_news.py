"""What a demand's callback is told: each thing once, and nothing is lost while there is no room for it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amber_ray.core.model import demand_news
from amber_ray.core.model.callback import EVENTS, Callback, CallbackEvent
from amber_ray.core.model.demand_codec import state_from_json, state_to_json
from amber_ray.core.model.demands import FAILING_KNOWN, Demand, DemandState, DemandStatus, Findings

FILMS = Demand("films", ("shots",), ("/f",), callback=Callback("https://hooks.example/", EVENTS), tenant="t")

NOW = "2026-11-29T13:00:00.000+00:00"


def looked(state: DemandState, became: int = 0, failing: Sequence[str] = ()) -> DemandState:
    """A state after another look, by which so many have become true, and these fail."""
    became += state.became
    status = DemandStatus(seen=9, true=9 - len(failing), failed=len(failing), ended=1.0)
    found = demand_news.findings(became, not failing, failing, state.findings, False)
    return state._replace(became=became, status=status, findings=found)


def tell(state: DemandState, demand: Demand = FILMS) -> tuple[DemandState, list[tuple[str, dict[str, int]]]]:
    """The state after its news was told and taken, and what that was."""
    state = demand_news.told(demand, state, "new", NOW)
    bodies = [json.loads(one.body) for one in state.telling.unsent]
    return state._replace(telling=state.telling._replace(unsent=())), [
        (body["type"], body["data"]["assets"]) for body in bodies
    ]


def kinds(state: DemandState) -> list[str]:
    return [one.event for one in demand_news.news(FILMS, state)]


def test_what_became_true_is_told_and_that_all_is_once() -> None:
    state, told = tell(looked(DemandState(), 3))
    assert told == [("demand.result", {"became_true": 3}), ("demand.done", {"seen": 9, "true": 9})]
    state, told = tell(looked(state))
    assert told == []
    noted = state._replace(became=state.became + 2)  # in the midst of a look
    state, told = tell(noted)
    assert told == [("demand.result", {"became_true": 2})]
    assert tell(looked(state))[1] == [("demand.done", {"seen": 9, "true": 9})]


def test_an_asset_that_fails_on_is_told_once_and_another_one_again() -> None:
    state, told = tell(looked(DemandState(), 0, ["/f/a"]))
    assert told == [("demand.failed", {"seen": 9, "true": 8, "failed": 1, "newly_failed": 1})]
    state, told = tell(looked(state, 0, ["/f/a"]))
    assert told == []
    state, told = tell(looked(state, 0, ["/f/b"]))
    assert [(kind, numbers["newly_failed"]) for kind, numbers in told] == [("demand.failed", 1)]
    assert [kind for kind, _ in tell(looked(state))[1]] == ["demand.done"]


def test_where_more_fail_than_are_known_one_by_one_only_their_growth_is_told() -> None:
    many = [f"/f/{n}" for n in range(FAILING_KNOWN + 5)]
    state, told = tell(looked(DemandState(), 0, many))
    assert told[0][1]["newly_failed"] == len(many)
    state, told = tell(looked(state, 0, [*many[1:], "/f/other"]))
    assert told == []
    assert tell(looked(state, 0, [*many, "/f/more"]))[1][0][1]["newly_failed"] == 1
    assert len(state.findings.failing) == FAILING_KNOWN


def test_what_can_not_be_seen_goes_on_failing() -> None:
    before = demand_news.findings(0, False, ["/f/a"], Findings(), False)
    blind = demand_news.findings(0, False, ["/f/b"], before, True)
    assert blind.failed == 2
    assert set(before.failing) < set(blind.failing)


@pytest.mark.parametrize("event", EVENTS)
def test_a_callback_is_told_what_it_wants_to_hear_alone(event: CallbackEvent) -> None:
    demand = dataclasses.replace(FILMS, callback=Callback("https://hooks.example/", (event,)))
    state, first = tell(looked(DemandState(), 3, ["/f/a"]), demand)
    state, second = tell(looked(state), demand)
    assert {kind for kind, _ in (*first, *second)} == {f"demand.{event}"}
    assert demand_news.news(dataclasses.replace(FILMS, callback=None), looked(DemandState(), 3)) == []


def test_messages_have_ids_of_their_own_and_name_no_media() -> None:
    state = demand_news.told(FILMS, looked(DemandState(), 3, ["/f/secret"]), "life", NOW)
    assert [one.id for one in state.telling.unsent] == ["d1_life", "d2_life"]
    assert "secret" not in "".join(one.body for one in state.telling.unsent)
    later = demand_news.told(FILMS, looked(state), "other", NOW)
    assert [one.id for one in later.telling.unsent] == ["d1_life", "d2_life", "d3_life"]
    assert later.telling.unsent[:2] == state.telling.unsent
    assert state_from_json(json.loads(json.dumps(state_to_json(later)))) == later


def test_a_steward_that_counts_from_before_is_no_news_and_counts_on() -> None:
    state, _ = tell(looked(DemandState(), 5))
    again = state._replace(became=2)  # its note was carried out, and it has not heard of that
    state, told = tell(again)
    assert told == []
    assert tell(state._replace(became=3))[1] == [("demand.result", {"became_true": 1})]


LOOKS = st.tuples(st.integers(0, 3), st.sets(st.sampled_from("abc")), st.booleans())


@given(st.lists(LOOKS, max_size=12))
def test_nothing_is_lost_while_there_is_no_room(looks: list[tuple[int, set[str], bool]]) -> None:
    state, failed = DemandState(), set[str]()
    told: list[tuple[str, dict[str, int]]] = []
    owed, owes_done = set[str](), False  # since the last time that there was room
    for became, failing, room in looks:
        all_true = state.findings.all_true
        state = looked(state, became, sorted(failing))
        owes_done = not failing and (owes_done or bool(became) or not all_true)
        owed = (owed | (failing - failed)) & failing
        failed = failing
        assert ("done" in kinds(state), "failed" in kinds(state)) == (owes_done, bool(owed))
        if room:
            state, some = tell(state)
            told += some
            owed, owes_done = set(), False
        else:
            state = demand_news.untold(state)
    state, some = tell(state)
    told += some
    assert sum(numbers.get("became_true", 0) for _, numbers in told) == state.became
    if state.findings.all_true:
        assert [kind for kind, _ in told if kind != "demand.result"][-1] == "demand.done"
