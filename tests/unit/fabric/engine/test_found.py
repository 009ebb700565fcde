"""A tracked request whose units nobody knew when it came."""

from __future__ import annotations

import json

from amber_ray.core.model.request import Failure
from amber_ray.core.model.units import Asset, EachRange, Segment
from amber_ray.core.planning.plan import Target
from amber_ray.fabric.engine.request import Part, TrackedRequest
from amber_ray.fabric.shard.records import Record
from amber_ray.fabric.transport.messages import Answer, FoundUnit, Reply

A = Asset("a" * 32, "/a.mp4", "video/mp4", 1, 30.0)
B = Asset("b" * 32, "/b.mp4", "video/mp4", 1, 30.0)
EACH = [
    Target("light", EachRange(asset, "cuts", f"K{asset.id[0]}", 10_000_000), f"S{asset.id[0]}")
    for asset in (A, B)
]
SIZE = Target("size", A, "size")
UNITS = (FoundUnit("u0", 0, 2, True), FoundUnit("u1", 2, 5, True))


def tracked() -> TrackedRequest:
    made = TrackedRequest("r", "x", 0.0)
    made.plan({0: Part((0, 2), (EACH[0], SIZE)), 1: Part((1,), (EACH[1],))})
    return made


def keys(made: TrackedRequest) -> list[str]:
    return [target.key for target in made.targets]


def test_units_stand_in_the_place_of_each_range_and_in_its_order() -> None:
    made = tracked()
    assert keys(made) == ["Sa", "Sb", "size"]
    assert [r.state for r in made.view().results] == ["pending"] * 3
    made.expand([("Sb", UNITS)])
    assert keys(made) == ["Sa", "u0", "u1", "size"]
    assert made.view().results[1].unit == Segment(B, 0, 2)
    version = made.version
    made.expand([("Sb", UNITS)])  # told again
    assert made.version == version
    made.answer([Answer("u0"), Answer("u1")])
    assert not made.lacks(1)
    assert made.lacks(0)


def test_an_answer_that_overtakes_its_unit_is_kept_until_that_is_known() -> None:
    made = tracked()
    made.answer([Answer("u1"), Answer("nobody's")])
    assert made.order == []
    made.expand([("Sa", UNITS)])
    assert made.order == ["u1"]
    assert [r.state for r in made.view().results] == ["pending", "ready", "pending", "pending"]


def test_nothing_found_is_a_ready_result_without_a_value() -> None:
    made = tracked()
    made.expand([("Sa", ()), ("Sb", ())])
    made.answer([Answer("size")])
    made.finish(0, "done")
    made.finish(1, "done")
    view = made.view()
    assert (view.state, [r.state for r in view.results]) == ("done", ["ready"] * 3)
    assert made.ended(0.0).view() == view
    assert [r.key for r in made.ended(0.0).tracked().view().results] == ["Sa", "Sb", "size"]


def test_a_finder_that_fails_fails_the_result_that_stands_for_its_units() -> None:
    made = tracked()
    made.answer([Answer("Sa", failure=Failure("feature", "FeatureError", "no", "cuts", "Ka", A.id))])
    assert [r.state for r in made.view().results] == ["failed", "pending", "pending"]


def test_units_from_before_a_shard_started_over_are_forgotten_when_its_finder_failed_since() -> None:
    made = tracked()
    made.expand([("Sb", UNITS)])
    why = Failure("feature", "FeatureError", "no", "cuts", "Kb", B.id)
    made.reply(1, Reply("r", "failed", [Answer("Sb", failure=why)]))
    assert keys(made) == ["Sa", "Sb", "size"]
    assert made.view().results[1].failure is not None
    assert not made.lacks(1)


def test_a_reply_tells_of_units_and_a_record_keeps_them_on_paper() -> None:
    record = Record("r", (EACH[0], SIZE), (0, 1), (0,), "x", 0.0, body={}, expanded={"Sa": UNITS})
    record.answers = {key: Answer(key) for key in ("u0", "u1", "size")}
    again = Record.from_json(json.loads(json.dumps(record.to_json())))
    assert again.expanded == record.expanded
    assert [t.key for t in again.known_targets()] == ["u0", "u1", "size"]
    made = TrackedRequest("r", "x", 0.0, attached=True)
    made.plan({0: Part((), ())})
    made.reply(0, again.reply((3, 3), 0, full=True))
    assert keys(made) == ["u0", "u1", "size"]
    assert not made.lacks(0)


def test_what_an_answer_is_about_is_known_while_windows_come_and_change() -> None:
    made = TrackedRequest("r", "x", 0.0)
    again = Target("light@1", EACH[0].unit, "Sa")  # under another name
    made.plan({0: Part((0, 1, 2, 3), (EACH[0], SIZE, again, EACH[1]))})
    other = (*UNITS[1:], FoundUnit("u2", 7, 1, True))
    for news in (
        None,
        ("Sa", UNITS),
        ("Sb", UNITS[:1]),
        ("Sa", UNITS),
        ("Sa", other),
        ("Sb", ()),
        ("Sa", ()),
    ):
        made.expand([] if news is None else [news])
        for key in ("Sa", "Sb", "size", "u0", "u1", "u2", "nobody's"):
            about = list(made.about(key))
            assert sorted(map(repr, about)) == sorted(repr(t) for t in made.targets if t.key == key)
