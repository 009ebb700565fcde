"""Found units in the ledger: a template waits for its finder, and steps come in its place."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from amber_ray.core.declare.resources import Resources
from amber_ray.core.ledger.foresight import foresee, prospect
from amber_ray.core.ledger.invariants import Broken, check
from amber_ray.core.ledger.ledger import Ledger
from amber_ray.core.model.request import Failure
from amber_ray.core.state import events as ev
from amber_ray.core.state.entry import Entry, State
from amber_ray.settings import Limits, Settings
from tests.core_kit import GPU_NODE, NODE, Graph, Story, asset, broken, delivered, kinds, submitted

MICRO = 1_000_000
TWO = ((0, 2 * MICRO), (2 * MICRO, 7 * MICRO))
THREE = (*TWO, (7 * MICRO, 9 * MICRO))


def graph(**home: int) -> Graph:
    """`light` per cut over `frames` and `probe`; `film` gathers it; `match` gathers it elsewhere."""
    made = Graph()
    made.add("probe", **home)
    made.add("cuts", **home)
    made.each("frames", "cuts", store="never", **home)
    made.each("light", "cuts", "each frames", "probe", **home)
    made.add("film", "each light", "probe", **home)
    return made


def story(windows: Any = TWO, **changes: Any) -> Story:
    made = Story(**changes)
    made.windows["cuts"] = windows
    return made


def units(made: Story, id: str = "r", key: str = "each light") -> tuple[str, ...]:
    return made.expanded[id, key]


def run(made: Story, *but: str) -> None:
    """Everything that runs ends well, for as long as something does."""
    while made.ledger.tasks:
        task = next(iter(made.ledger.tasks.values()))
        made.done(*(s.key for s in task.steps))


def features(commands: Any) -> list[list[str]]:
    return [[s.recipe.feature for s in c.task.steps] for c in commands if isinstance(c, ev.Submit)]


def test_only_the_finder_runs_until_it_has_found_the_windows() -> None:
    made = story()
    assert submitted(made.ask("r", graph().steps, "each light")) == [["cuts"]]
    assert made.state("each light") is State.WAITING
    assert made.state("probe") is State.ABSENT
    commands = made.done("cuts")
    assert kinds(commands)[0] == "Expanded"
    assert sorted(features(commands)) == [["frames"], ["frames"], ["probe"]]
    assert len(units(made)) == 2
    assert made.state("each light") is State.ABSENT
    run(made)
    assert made.told["r"].keys() == set(units(made))
    assert made.finished == ["r"]


def test_a_gather_waits_for_units_that_nobody_knew() -> None:
    made = story()
    made.ask("r", graph().steps, "film")
    assert {s.recipe.feature for t in made.tasks.values() for s in t.steps} == {"cuts", "probe"}
    made.done("probe")
    made.done("cuts")
    film = made.ledger.entries["film"]
    assert film.missing == 2
    assert len(film.step.needs) == 3
    assert film.step.inputs[0] == tuple(k for k in film.step.needs if k != "probe")
    run(made)
    assert made.told["r"].keys() == {"film"}
    assert made.ledger.requests == {}


def test_nothing_found_is_an_empty_answer_and_an_empty_list() -> None:
    made = story(windows=())
    made.ask("r", graph().steps, "each light")
    made.ask("g", graph().steps, "film")
    commands = made.done("cuts")
    assert kinds(commands)[:2] == ["Expanded", "Finished"]
    assert made.finished == ["r"]
    run(made)
    assert made.finished == ["r", "g"]
    assert made.tasks[max(made.tasks)].steps[0].inputs[0] == ()


def test_a_finder_in_memory_is_expanded_at_once() -> None:
    made = story()
    made.ask("one", graph().steps, "cuts")
    made.done("cuts")
    commands = made.ask("r", graph().steps, "each light")
    assert kinds(commands)[0] == "Expanded"
    assert len(units(made)) == 2


def test_what_is_stored_is_found_and_the_finder_is_read_back_for_its_windows() -> None:
    made = story(stored=["cuts"])
    assert kinds(made.ask("r", graph().steps, "each light")) == ["Restore"]
    made.restored("cuts")
    made.done("probe")
    run(made)
    made.stored(*units(made), "probe")
    again = Story(stored=["cuts", "probe", *units(made)])
    again.windows["cuts"] = TWO
    again.ask("r", graph().steps, "each light", load=False)
    commands = again.restored("cuts")
    assert kinds(commands) == ["Expanded", "Deliver", "Deliver", "Finished"]
    assert made.state("probe") is not State.RUNNING


def test_a_hit_at_the_top_needs_no_windows() -> None:
    made = story(stored=["film"])
    assert kinds(made.ask("r", graph().steps, "film")) == ["Restore"]
    made.restored("film")
    assert made.finished == ["r"]


def test_one_who_comes_in_the_midst_joins() -> None:
    made = story()
    made.ask("p", graph().steps, "probe")
    made.done("probe")
    made.ask("one", graph().steps, "each light")
    assert features(made.done("cuts")) == [["frames", "light"]] * 2
    made.done(*[s.key for s in made.tasks[max(made.tasks)].steps])
    commands = made.ask("two", graph().steps, "each light")
    assert kinds(commands) == ["Expanded", "Deliver"]
    run(made)
    assert made.told["two"].keys() == made.told["one"].keys() == set(units(made, "two"))
    assert len([1 for t in made.tasks.values() if t.recipe.feature == "frames"]) == 2


def test_a_finder_that_fails_is_told_to_whoever_waits_for_its_windows() -> None:
    made = story()
    made.ask("r", graph().steps, "each light")
    made.ask("g", graph().steps, "film")
    made.fails("cuts")
    for id, key in (("r", "each light"), ("g", "film")):
        failure = made.answer(id, key)
        assert isinstance(failure, Failure)
        assert (failure.step, failure.key) == ("cuts", "cuts")
    assert set(made.finished) == {"r", "g"}
    run(made)
    made.wait(1000.0)
    made.ask("again", graph().steps, "each light")
    made.done("cuts")
    assert len(units(made, "again")) == 2


def test_one_unit_that_fails_fails_alone_and_what_gathers_it_names_it() -> None:
    made = story()
    made.ask("p", graph().steps, "probe")
    made.done("probe")
    made.ask("r", graph().steps, "each light")
    made.ask("g", graph().steps, "film")
    made.done("cuts")
    bad, good = units(made)
    made.fails(bad)
    run(made)
    assert isinstance(made.answer("r", bad), Failure)
    assert isinstance(made.answer("r", good), ev.Ready)
    failure = made.answer("g", "film")
    assert isinstance(failure, Failure)
    assert failure.key == bad


def test_a_gather_over_another_one_fails_by_a_unit_that_has_failed_before() -> None:
    steps = graph()
    steps.add("sum", "film", "each light")
    made = story()
    made.ask("p", steps.steps, "probe")
    made.done("probe")
    made.ask("one", steps.steps, "each light")
    made.done("cuts")
    bad = units(made, "one")[0]
    made.fails(bad)
    run(made)
    made.ask("two", steps.steps, "sum")
    for key in ("sum", "film"):
        assert made.state(key) is State.FAILED
    failure = made.answer("two", "sum")
    assert isinstance(failure, Failure)
    assert failure.key == bad
    check(made.ledger)


@pytest.mark.parametrize(
    ("windows", "words"),
    [
        (tuple((i, i + 1) for i in range(5)), "'cuts' found 5 ranges in this asset; at most 4"),
        ("its range number 3 is from 2 s to 1 s", "its range number 3 is from 2 s to 1 s"),
        (None, "is no list of ranges"),
    ],
)
def test_windows_that_can_not_be_are_a_failure_that_names_the_finder(windows: Any, words: str) -> None:
    from amber_ray.settings import Limits

    made = story(limits=Limits(units_per_asset=4))
    made.windows["cuts"] = windows
    made.ask("r", graph().steps, "each light")
    made.ask("g", graph().steps, "film")
    made.done("cuts")
    failure = made.answer("r", "each light")
    assert isinstance(failure, Failure)
    assert words in failure.message
    assert failure.kind == "feature"
    assert isinstance(made.answer("g", "film"), Failure)


def test_whoever_leaves_takes_the_template_and_what_it_needs_along() -> None:
    made = story(grace_seconds=1.0)
    made.ask("r", graph().steps, "each light")
    made.leave("r")
    assert made.state("each light") is State.ABSENT
    assert kinds(made.wait(2.0)) == ["Cancel"]


def test_whoever_leaves_after_the_expansion_takes_its_units_along() -> None:
    made = story(grace_seconds=1.0)
    made.ask("r", graph().steps, "each light")
    made.done("cuts")
    made.leave("r")
    assert [made.state(key) for key in units(made)] == [State.ABSENT] * 2
    run(made)


def test_a_deadline_before_the_windows_are_known_is_told_of_the_template() -> None:
    made = story()
    made.ask("r", graph().steps, "each light", deadline=made.now + 1)
    made.wait(2.0)
    failure = made.answer("r", "each light")
    assert isinstance(failure, Failure)
    assert failure.type == "Expired"


def test_urgency_reaches_the_finder_and_then_the_units() -> None:
    made = story()
    made.ask("slow", graph().steps, "film", priority=0)
    made.ask("r", graph().steps, "each light", priority=2)
    assert made.ledger.entries["cuts"].rank[0] == 2
    made.done("cuts")
    assert {made.ledger.entries[key].rank[0] for key in units(made)} == {2}


def test_a_refresh_makes_the_units_anew_and_uses_the_windows_as_they_are() -> None:
    made = story()
    made.ask("one", graph().steps, "each light")
    made.done("cuts")
    run(made)
    tasks = len(made.tasks)
    commands = made.ask("r", graph().steps, "each light", refresh=True)
    assert kinds(commands)[0] == "Expanded"
    assert features(commands) == [["frames", "light"]] * 2
    run(made)
    assert len(made.tasks) == tasks + 2
    assert made.told["r"].keys() == set(units(made))


def test_a_refresh_of_the_finder_too_waits_for_its_new_windows() -> None:
    for order in (("each light", "cuts"), ("cuts", "each light")):
        made = story()
        made.ask("one", graph().steps, "each light")
        made.done("cuts")
        run(made)
        made.windows["cuts"] = THREE
        made.ask("r", graph().steps, *order, refresh=True)
        assert ("r", "each light") not in made.expanded
        made.done("cuts")
        assert len(units(made)) == 3
        run(made)
        assert made.told["r"].keys() == {"cuts", *units(made)}


def test_windows_go_with_the_value() -> None:
    made = story()
    made.ask("one", graph().steps, "cuts")
    made.done("cuts")
    assert made.ledger.entries["cuts"].windows == TWO
    made.windows["cuts"] = THREE
    made.lost("cuts")
    made.ask("r", graph().steps, "each light")
    made.done("cuts")
    assert len(units(made)) == 3


def test_a_finder_that_is_lost_before_anybody_could_expand_is_waited_for() -> None:
    made = story(stored=["cuts"])
    made.ask("r", graph().steps, "each light")
    made.unreadable("cuts")
    made.done("cuts")
    assert len(units(made)) == 2


def test_a_gather_whose_value_was_lost_is_expanded_anew_by_a_later_request() -> None:
    made = story()
    made.ask("one", graph().steps, "film")
    made.done("cuts")
    run(made)
    made.windows["cuts"] = THREE
    made.purge("cuts", "probe")
    made.ask("r", graph().steps, "film", refresh=True)
    made.done("cuts")
    assert len(made.ledger.entries["film"].step.needs) == 4
    run(made)
    assert isinstance(made.answer("r", "film"), ev.Ready)


def test_progress_grows_when_the_windows_are_known() -> None:
    made = story()
    made.ask("r", graph().steps, "each light")
    made.ask("g", graph().steps, "film")
    assert made.ledger.progress("r") == (0, 2)
    made.done("cuts")
    assert made.ledger.progress("r")[1] >= 4
    assert made.ledger.progress("g")[1] >= 4
    run(made)


@pytest.mark.parametrize("target", ["each light", "film"])
@pytest.mark.parametrize("found", ["nothing", "what is there"])
def test_progress_never_falls_where_nothing_is_to_be_made_for_what_was_found(found: str, target: str) -> None:
    made = story(windows=() if found == "nothing" else TWO)
    if found != "nothing":
        made.ask("before", graph().steps, "each light")
        made.done("cuts")
        run(made)
        made.lost("cuts")
    steps = graph()
    steps.add("other")
    made.ask("r", steps.steps, "other", target)
    done, total = made.ledger.progress("r")
    made.done("cuts")
    assert made.ledger.progress("r")[0] > done
    assert made.ledger.progress("r")[1] >= total
    run(made)
    assert made.finished[-1] == "r"


def test_a_unit_of_another_shard_is_asked_of_it_and_so_is_the_finder() -> None:
    made = Graph()
    made.add("cuts", home=1)
    made.each("light", "cuts", home=1)
    made.add("match", "each light")
    here = story()
    commands = here.ask("r", made.steps, "match")
    assert [c.task.home for c in commands if isinstance(c, ev.Submit)] == [1]
    assert submitted(commands) == [["cuts"]]
    commands = here.done("cuts")
    [asked] = [c.task for c in commands if isinstance(c, ev.Submit)]
    assert (asked.home, [s.recipe.feature for s in asked.steps]) == (1, ["light", "light"])
    run(here)
    assert isinstance(here.answer("r", "match"), ev.Ready)


def test_a_template_s_asset_that_moved_is_read_where_it_is() -> None:
    import dataclasses

    made = story()
    made.ask("one", graph().steps, "each light", located=1.0)
    made.done("cuts")
    moved = dataclasses.replace(asset(), uri="file:///b.mp4")
    steps = {
        key: dataclasses.replace(
            step, unit=dataclasses.replace(step.unit, asset=moved) if step.is_template else moved
        )
        for key, step in graph().steps.items()
    }
    made.ask("r", steps, "each light", located=2.0)
    for key in units(made):
        assert made.ledger.entries[key].step.unit.asset.uri == moved.uri  # type: ignore[union-attr]
    run(made)


class Entries(dict[str, Entry]):
    """The entries of a ledger, which count how often all of them are gone through."""

    scans = 0

    def values(self) -> Any:
        self.scans += 1
        return super().values()


def test_units_that_no_plan_names_are_found_by_their_asset() -> None:
    entries = Entries()
    made = story()
    made.ledger = Ledger(Settings(pack_seconds=0.0), set(), entries=entries)
    made.do(ev.CapacityChanged((NODE,)))
    made.ask("p", graph().steps, "probe")
    made.fails("probe")
    made.ask("one", graph().steps, "each light", located=1.0)
    made.done("cuts")
    assert {made.state(key) for key in units(made, "one")} == {State.FAILED}
    place = dataclasses.replace(asset(), uri="file:///b.mp4")
    steps = {
        key: dataclasses.replace(
            step, unit=dataclasses.replace(step.unit, asset=place) if step.is_template else place
        )
        for key, step in graph().steps.items()
    }
    entries.scans = 0
    made.ledger.handle(ev.Requested("two", steps, ("each light",), located=2.0), made.now)
    assert {entries[key].step.unit.asset.uri for key in units(made, "one")} == {place.uri}  # type: ignore[union-attr]
    made.ledger.handle(ev.Requested("r", steps, ("each light",), located=2.0, refresh=True), made.now)
    assert not entries.scans
    check(made.ledger)
    assert {made.state(key) for key in units(made, "one")} == {State.WAITING}


def test_a_foresight_forgets_the_failures_of_units_as_a_refresh_does() -> None:
    made = story()
    made.ask("p", graph().steps, "probe")
    made.done("probe")
    made.ask("one", graph().steps, "film")
    made.done("cuts")
    bad = next(key for key in made.ledger.entries["film"].needs if key != "probe")
    made.fails(bad)
    run(made)
    assert foreseen(made, graph().steps, "film")["film"] == "fail"
    fates = foreseen(made, graph().steps, "film", refresh=True)
    assert (fates["film"], fates[bad]) == ("run", "run")
    assert made.state(bad) is State.FAILED
    check(made.ledger)


def test_foresight_expands_on_a_copy() -> None:
    made = story()
    made.ask("one", graph().steps, "film")
    fates = foresee(made.ledger, [ev.Requested("f", graph().steps, ("each light",))], made.now)
    assert (fates["each light"], fates["cuts"]) == ("wait", "wait")
    made.done("cuts")
    before = made.ledger.entries["film"].step.inputs
    foresee(made.ledger, [ev.Requested("f", graph().steps, ("each light", "film"))], made.now)
    check(made.ledger)
    assert made.ledger.entries["film"].step.inputs is before
    run(made)
    assert made.finished == ["one"]


def halves() -> tuple[Story, Graph]:
    """`reel` gathers two features of the units of two finders, of which one has found its windows."""
    steps = Graph()
    steps.add("cuts")
    steps.add("acts")
    steps.each("light", "cuts")
    steps.each("pose", "acts")
    steps.add("reel", "each light", "each pose")
    made = story()
    made.windows["acts"] = THREE
    made.ask("r", steps.steps, "reel")
    made.done("cuts")
    return made, steps


def test_a_gather_of_many_templates_is_put_together_when_the_last_one_is_opened() -> None:
    made, steps = halves()
    reel = made.ledger.entries["reel"]
    assert reel.step.inputs is steps.steps["reel"].inputs  # not once for each: a collection has thousands
    assert len(reel.needs) == 3
    run(made)
    assert list(map(len, reel.step.inputs)) == [2, 3]
    assert reel.step.needs == tuple(key for keys in reel.step.inputs for key in keys)
    assert isinstance(made.answer("r", "reel"), ev.Ready)


def test_windows_that_are_only_stored_are_foreseen_by_whoever_reads_them() -> None:
    steps = graph()
    steps.each("look", "cuts", "each light")
    made = Story(stored=["cuts"])
    asked = [ev.Requested("f", steps.steps, ("each look",))]
    told = prospect(made.ledger, asked, made.now)
    assert told.unread == ["cuts"]
    assert (told.fates["cuts"], told.fates["each look"], told.fates["each light"]) == ("read", "run", "run")
    read = prospect(made.ledger, asked, made.now, windows={"cuts": TWO})
    assert (read.unread, read.windows) == ([], {"cuts": TWO})
    assert (read.fates["cuts"], read.fates["each look"]) == ("read", "run")
    [*units] = read.opened["each look"].keys
    made.index.update(units)  # as if they had been stored
    fates = prospect(made.ledger, asked, made.now, windows={"cuts": TWO}).fates
    assert [fates[key] for key in units] == ["read", "read"]
    assert "probe" not in fates
    anew = [ev.Requested("f", steps.steps, ("cuts", "each look"), refresh=True)]
    told = prospect(made.ledger, anew, made.now, windows={"cuts": TWO})
    assert (told.opened, told.fates["cuts"], told.fates["each look"]) == ({}, "run", "run")
    assert not made.ledger.entries


def test_a_gather_that_is_opened_in_part_is_left_failed_and_foreseen_as_any() -> None:
    made, steps = halves()
    made.leave("r")
    run(made)
    assert made.state("reel") is State.ABSENT
    made, steps = halves()
    [bad, _] = [key for key in made.ledger.entries["reel"].needs if key != "each pose"]
    fates = foreseen(made, steps.steps, "reel", "cuts")
    assert fates[bad] == "wait"
    made.ask("s", steps.steps, "cuts", "each pose")
    foreseen(made, steps.steps, "each light", "each pose", refresh=True)
    check(made.ledger)
    made.fails(bad)
    failure = made.answer("r", "reel")
    assert isinstance(failure, Failure)
    assert failure.key == bad
    run(made)
    made.wait(1000.0)
    made.ask("again", steps.steps, "reel", refresh=True)
    run(made)
    assert isinstance(made.answer("again", "reel"), ev.Ready)


def test_a_foresight_opens_gathers_of_its_own() -> None:
    made, steps = halves()
    reel = made.ledger.entries["reel"]
    before = dict.fromkeys(reel.needs)
    steps.each("look", "cuts")
    steps.add("other", "each look")
    foreseen(made, steps.steps, "other", "reel")
    assert list(reel.needs) == list(before)
    made.done("acts")
    wide = reel.step
    assert foreseen(made, steps.steps, "reel")["reel"] == "wait"
    assert reel.step is wide
    run(made)


def foreseen(made: Story, steps: Any, *targets: str, **changes: Any) -> Any:
    return foresee(made.ledger, [ev.Requested("f", steps, targets, **changes)], made.now)


def test_windows_that_a_task_on_its_way_will_find_are_not_foreseen() -> None:
    steps = Graph()
    steps.add("probe", store="never")
    steps.add("cuts", "probe")
    steps.each("light", "cuts")
    before = dict(steps.steps)
    steps.add("film", "each light", "probe")
    made = story(costs=dict.fromkeys(("probe", "cuts", "light", "film"), 0.001), pack_seconds=0.5)
    made.ask("r", before, "each light")
    assert [[s.key for s in t.steps] for t in made.tasks.values()] == [["probe", "cuts"]]
    fates = foreseen(made, steps.steps, "film")  # the task keeps no `probe`, which film needs, too
    assert (fates["film"], fates["each light"], fates["cuts"]) == ("run", "wait", "wait")


def test_what_stands_for_units_that_are_known_has_their_fate() -> None:
    made, steps = story(), graph().steps
    made.ask("one", steps, "cuts")
    made.done("cuts")
    for target in ("each light", "film"):
        fates = foreseen(made, steps, target)
        assert (fates[target], fates["each light"], fates["each frames"]) == ("run", "run", "run")
        assert fates["probe"] == "run"
    made.ask("r", steps, "each light")
    run(made)
    fates = foreseen(made, steps, "each light")
    assert (fates["each light"], fates["cuts"]) == ("use", "use")  # whose windows say which units there are
    assert not fates.keys() & {"each frames", "probe"}
    assert foreseen(made, steps, "film")["each light"] == "use"
    again = Story(stored=["probe", *units(made)])
    again.windows["cuts"] = TWO
    again.ask("one", steps, "cuts")
    again.done("cuts")
    assert foreseen(again, steps, "each light")["each light"] == "read"
    assert foreseen(again, steps, "each light", load=False)["each light"] == "use"
    again.purge(units(made)[1])
    assert foreseen(again, steps, "each light")["each light"] == "run"
    nothing = story(windows=())
    nothing.ask("one", steps, "cuts")
    nothing.done("cuts")
    assert foreseen(nothing, steps, "each light") == {"each light": "use", "cuts": "use"}


def test_units_that_another_shard_owns_are_asked_of_it_by_what_stands_for_them() -> None:
    made = Graph()
    made.add("cuts", home=1)
    made.each("light", "cuts", home=1)
    made.add("match", "each light", "cuts")
    here = story()
    here.ask("r", {key: step for key, step in made.steps.items() if key != "match"}, "cuts")
    here.done("cuts")
    here.ask("hold", made.steps, "match")
    made.each("dark", "cuts", home=1)
    made.add("other", "each dark")
    fates = foreseen(here, made.steps, "other")
    assert (fates["other"], fates["each dark"]) == ("run", "ask")
    why = Failure("system", "SystemFault", "no value", "", "", "", 503)
    asked = [ev.Requested("f", made.steps, ("other",))]
    assert foresee(here.ledger, asked, here.now, {"each dark": why})["other"] == "fail"


def test_the_invariants_know_of_templates() -> None:
    made = story()
    made.ask("r", graph().steps, "each light")
    made.ledger.entries["each light"].missing = 0
    with pytest.raises(Broken, match="counts 0 missing inputs"):
        check(made.ledger)
    made.ledger.entries["each light"].missing = 1
    made.ledger.entries["cuts"].windows = TWO
    with pytest.raises(Broken, match="windows without a value"):
        check(made.ledger)


def test_a_failed_unit_does_not_end_the_others_requests() -> None:
    made = story()
    made.ask("r", graph().steps, "each light")
    made.done("cuts")
    failure = broken(made.task_of("probe").steps[0])
    commands = made.fails("probe", failure)
    assert sorted(delivered(commands)) == sorted(("r", key) for key in units(made))


def test_a_request_does_not_end_by_its_gather_while_its_units_are_still_to_come() -> None:
    steps = graph()
    steps.add("reel", "each light")
    made = story()
    made.ask("p", steps.steps, "probe")
    made.fails("probe")
    made.ask("r", steps.steps, "each light", "reel")
    made.done("cuts")  # the units fail at once, and so does what gathers them
    assert made.told["r"].keys() == {"reel", *units(made)}
    assert made.finished == ["p", "r"]


def with_a_unit_that_failed() -> tuple[Story, str, str]:
    """A story in which a film is asked for, and the unit of it that failed and the one that did not yet."""
    made = story()
    made.ask("p", graph().steps, "probe")
    made.done("probe")
    made.ask("r", graph().steps, "film")
    made.done("cuts")
    [bad, good] = [key for key in made.ledger.entries["film"].step.needs if key != "probe"]
    made.fails(bad)
    return made, bad, good


def test_a_refresh_of_what_gathers_units_tries_those_again_that_failed() -> None:
    made, _, _ = with_a_unit_that_failed()
    assert isinstance(made.answer("r", "film"), Failure)
    run(made)
    made.ask("again", graph().steps, "film")
    assert isinstance(made.answer("again", "film"), Failure)  # it is remembered
    made.ask("anew", graph().steps, "film", refresh=True)
    run(made)
    assert isinstance(made.answer("anew", "film"), ev.Ready)


def test_a_purge_of_the_unit_that_failed_forgets_the_failures_of_what_gathers_it() -> None:
    made, bad, good = with_a_unit_that_failed()
    run(made)
    made.purge(good)
    assert made.state("film") is State.FAILED
    made.purge(bad)
    assert made.state("film") is State.ABSENT
    made.ask("again", graph().steps, "film")
    run(made)
    assert isinstance(made.answer("again", "film"), ev.Ready)


def test_a_template_does_not_follow_its_finder_into_a_task() -> None:
    made = story(pack_seconds=5.0, costs={"cuts": 0.01, "light": 0.01, "frames": 0.01, "probe": 0.01})
    assert submitted(made.ask("r", graph().steps, "each light")) == [["cuts"]]
    made.done("cuts")
    run(made)
    assert made.told["r"].keys() == set(units(made))


def test_values_that_are_there_are_told_though_no_node_could_make_them_any_more() -> None:
    steps = Graph()
    steps.add("cuts")
    steps.each("light", "cuts", resources=Resources(num_gpus=1))
    first = story(nodes=[GPU_NODE])
    first.ask("r", steps.steps, "each light")
    first.done("cuts")
    run(first)
    made = story(nodes=[GPU_NODE], stored=["cuts", *units(first)])
    made.ask("r", steps.steps, "each light")
    made.nodes(NODE)
    assert made.state("each light") is State.WAITING
    made.restored("cuts")
    made.restored(*units(made))
    assert all(isinstance(made.answer("r", key), ev.Ready) for key in units(made))


MANY = tuple((i * MICRO, i * MICRO + MICRO // 2) for i in range(7))


def little_by_little(windows: Any = MANY, at_once: int = 5, **changes: Any) -> Story:
    """A ledger that makes and hands over few steps of found units in one event."""
    made = story(windows=windows, **changes)
    made.ledger.expanded_at_once = at_once
    return made


def ticks(made: Story, most: int = 100) -> int:
    """Let the ledger go on for as long as it asks for it at once; return how often it did."""
    count = 0
    while made.ledger.wake_at() == float("-inf"):
        made.do(ev.Tick())
        count += 1
        assert count <= most, "it never comes to an end"
    return count


def test_many_windows_are_expanded_in_several_events_and_told_at_once() -> None:
    made = little_by_little()
    made.ask("r", graph().steps, "each light")
    made.ask("g", graph().steps, "film")
    assert "Expanded" not in kinds(made.done("cuts"))
    assert made.state("each light") is State.WAITING
    assert ticks(made) >= 3
    assert len(units(made)) == len(MANY)
    assert made.state("each light") is State.ABSENT
    run(made)
    assert made.told["r"].keys() == set(units(made))
    assert set(made.finished) == {"r", "g"}
    whole = story(windows=MANY)
    whole.ask("r", graph().steps, "each light")
    whole.done("cuts")
    assert units(whole) == units(made)


def test_others_are_heard_while_many_windows_are_expanded() -> None:
    made = little_by_little(at_once=2)
    made.ask("r", graph().steps, "each light")
    made.done("cuts")
    other = Graph()
    other.add("probe")
    assert submitted(made.ask("other", other.steps, "probe")) == [["probe"]]
    made.ask("late", graph().steps, "each light")
    made.leave("r")
    ticks(made)
    run(made)
    assert ("r", "each light") not in made.expanded
    assert made.told["late"].keys() == set(units(made, "late"))


def test_each_of_many_callers_is_given_the_units_when_its_turn_comes() -> None:
    made = little_by_little()
    ids = [f"r{i}" for i in range(6)]
    for id in ids:
        made.ask(id, graph().steps, "each light")
    made.done("cuts")
    assert ticks(made) > len(ids)
    run(made)
    assert {tuple(units(made, id)) for id in ids} == {units(made, "r0")}
    assert sorted(made.finished) == ids
    assert made.ledger.counters["computed"] == 2 + 2 * len(MANY)


def test_nothing_comes_of_windows_whose_finder_was_lost_before_all_were_expanded() -> None:
    made = little_by_little()
    made.ask("hold", graph().steps, "cuts")
    made.ask("r", graph().steps, "each light")
    made.done("cuts")
    made.do(ev.Tick())
    made.lost("cuts")
    assert ticks(made) <= 1
    assert made.expanded == {}
    made.windows["cuts"] = MANY[:3]
    made.done("cuts")
    ticks(made)
    assert len(units(made)) == 3
    run(made)
    assert made.finished == ["hold", "r"]


def test_an_expansion_begins_again_with_the_windows_of_the_finder_that_ran_meanwhile() -> None:
    """The finder is lost and has run again while the ledger goes on with another template's windows."""
    steps = Graph()
    steps.add("cuts")
    steps.add("acts")
    steps.each("light", "cuts")
    steps.each("pose", "acts")
    made = little_by_little(at_once=2)
    made.windows["acts"] = tuple((start, end + 1) for start, end in MANY)
    made.ask("r", steps.steps, "each light", "each pose")
    made.done("cuts")
    made.done("acts")
    light, pose = (made.ledger.entries[key] for key in ("each light", "each pose"))
    while list(made.ledger.graph.to_expand.values()) != [pose, light]:
        made.do(ev.Tick())
    assert light.unrolling is not None
    assert 0 < light.unrolling.left < len(MANY)
    made.lost("cuts")  # which takes as long as some windows of the other one
    made.windows["cuts"] = THREE
    made.done("cuts")
    ticks(made)
    found = [made.ledger.entries[key].step.unit for key in units(made)]
    assert [unit.start_us for unit in found] == [start for start, _ in THREE]  # type: ignore[union-attr]
    assert len(units(made, key="each pose")) == len(MANY)
    run(made)
    assert made.finished == ["r"]


def test_windows_that_can_not_be_are_told_when_they_are_come_to() -> None:
    made = little_by_little(windows=(*MANY, (9 * MICRO, 9 * MICRO)))
    made.ask("r", graph().steps, "each light")
    made.ask("g", graph().steps, "film")
    made.done("cuts")
    ticks(made)
    for id, key in (("r", "each light"), ("g", "film")):
        failure = made.answer(id, key)
        assert isinstance(failure, Failure)
        assert "a range of no length at 9 s" in failure.message


def test_explaining_in_the_midst_of_an_expansion_tells_of_all_units_and_changes_nothing() -> None:
    made = little_by_little()
    made.ask("r", graph().steps, "each light")
    made.done("cuts")
    made.do(ev.Tick())
    left = made.ledger.entries["each light"].unrolling.left  # type: ignore[union-attr]
    fates = foreseen(made, graph().steps, "each light")
    assert fates["each light"] == "wait"
    assert made.ledger.entries["each light"].unrolling.left == left > 0  # type: ignore[union-attr]
    check(made.ledger)
    ticks(made)
    run(made)
    assert made.finished == ["r"]


def several(made: Graph) -> dict[str, Any]:
    """Two more features over the same windows, and what gathers one of them."""
    made.each("dark", "cuts", "each frames")
    made.add("reel", "each dark")
    return made.steps


@pytest.mark.parametrize("at_once", [2, 1000])
def test_a_request_that_comes_to_need_too_many_steps_is_told_so_of_what_is_too_much(at_once: int) -> None:
    made = little_by_little(at_once=at_once, limits=Limits(steps_per_request=20))
    steps = several(graph())
    made.ask("r", steps, "each light", "each dark", "reel")
    made.ask("small", steps, "reel")
    made.done("cuts")
    ticks(made)
    run(made)
    assert len(units(made)) == len(MANY)
    assert ("r", "each dark") not in made.expanded
    for key in ("each dark", "reel"):
        failure = made.answer("r", key)
        assert isinstance(failure, Failure)
        assert failure.status == 413
        assert "more than 20 steps, now that feature 'cuts' has found 7 ranges" in failure.message
    # Whoever needs fewer is not concerned, then or later.
    assert isinstance(made.answer("small", "reel"), ev.Ready)
    assert sorted(made.finished) == ["r", "small"]
    made.ask("later", steps, "each dark")
    ticks(made)
    run(made)
    assert len(units(made, "later", "each dark")) == len(MANY)


def test_nothing_is_made_for_a_request_that_needs_too_many_steps() -> None:
    made = story(windows=MANY, limits=Limits(steps_per_request=10))
    steps = several(graph())
    made.ask("r", steps, "each light")
    made.ask("g", steps, "reel")
    made.done("cuts")
    assert set(made.finished) == {"r", "g"}
    assert made.ledger.tasks == {}
    assert {made.state(key) for key in ("each light", "each dark", "reel", "probe")} == {State.ABSENT}
