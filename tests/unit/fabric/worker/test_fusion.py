"""A step reads the same, and fails the same, whether its inputs were made in its own task or in another one.

Each graph runs three ways, without Ray: all steps in one task with every value sent away, all in one task
with only the leaves sent away, and each step in a task of its own. What goes from task to task is pickled as
Ray does it: the memory of arrays apart from the rest, and read-only where it arrives.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from jaxtyping import Float32, Float64

from amber_ray import Asset, Clip, feature
from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.request import Failure
from amber_ray.core.planning.plan import Planner, Step
from amber_ray.fabric.transport import pickled, registry_blob
from amber_ray.fabric.transport.messages import StepResult, Work
from amber_ray.fabric.worker import tasks
from amber_ray.features.changes import changes
from amber_ray.features.frames import Frames, frame_times, frames, sampled
from amber_ray.features.transitions import strip, timeline
from amber_ray.media import decode
from amber_ray.media.decode import looked
from amber_ray.media.looks import looking
from amber_ray.media.reader import Reader
from tests.media import catalogue, textured, write_video

LENGTH = 4000
"""Numbers in an array of these features: 16 kB or 32 kB, more than travels inline by default."""
ASSETS = tuple(Asset(f"{i:032x}", f"/media/{i}", "video/mp4", i + 1, 125.0) for i in range(3))
SIZES = (0, 8192, 1 << 20)
"""What may travel inline: nothing but plain values, what settings say by default, everything here."""


# --- features: arrays


@feature(version="1")
def vector(asset: Asset) -> Float32[np.ndarray, " n"]:
    return np.full(LENGTH, asset.bytes, np.float32)


@feature(version="1")
def total(vector: np.ndarray) -> float:
    return float(vector.sum())


@feature(version="1")
def divided(vector: np.ndarray) -> float:
    vector /= vector.sum()
    return float(vector.max())


@feature(version="1")
def assigned(vector: np.ndarray) -> float:
    vector[0] = 7
    return float(vector[0])


@feature(version="1")
def sorted_in_place(vector: np.ndarray) -> float:
    vector.sort()
    return float(vector[0])


@feature(version="1")
def shuffled(vector: np.ndarray) -> float:
    np.random.default_rng(0).shuffle(vector)
    return float(vector[0])


@feature(version="1")
def unlocked(vector: np.ndarray) -> float:
    vector.flags.writeable = True
    vector[:] = 0
    return float(vector[0])


@feature(version="1")
def through_memory(vector: np.ndarray) -> float:
    memoryview(vector)[0] = 7.0
    return float(vector[0])


@feature(version="1")
def reshaped(vector: np.ndarray) -> int:
    vector.shape = (2, -1)
    return vector.ndim


@feature(version="1")
def dimensions(vector: np.ndarray, reshaped: int) -> list[int]:
    return [vector.ndim, reshaped]


@feature(version="1")
def passed_on(vector: np.ndarray) -> Float32[np.ndarray, " n"]:
    return vector


@feature(version="1")
def half(vector: np.ndarray) -> Float32[np.ndarray, " n"]:
    return vector[: LENGTH // 2]


@feature(version="1")
def spoiled(passed_on: np.ndarray) -> float:
    passed_on[:] = 0
    return 0.0


@feature(version="1")
def spoiled_half(half: np.ndarray) -> float:
    half[:] = 0
    return 0.0


@feature(version="1")
def every_second(asset: Asset) -> Float32[np.ndarray, "n 2"]:
    """Neither in C's nor in Fortran's order: pickle copies such an array."""
    return np.arange(4 * LENGTH, dtype=np.float32).reshape(LENGTH, 4)[:, ::2]


@feature(version="1")
def spoiled_second(every_second: np.ndarray) -> float:
    every_second[:] = 0
    return 0.0


@feature(version="1")
def second_total(every_second: np.ndarray) -> float:
    return float(every_second.sum())


# --- features: arrays inside of something


@dataclass
class Measured:
    name: str
    numbers: Float64[np.ndarray, " n"]
    more: list[Float64[np.ndarray, " n"]]
    maybe: Float64[np.ndarray, " n"] | None
    told: dict


@feature(version="1")
def measured(asset: Asset) -> Measured:
    numbers = np.ones(LENGTH)
    return Measured("one", numbers, [numbers, np.ones(LENGTH)], np.ones(3), {"tags": ["a"]})


@feature(version="1")
def in_a_field(measured: Measured) -> float:
    measured.numbers *= 2
    return float(measured.numbers.sum())


@feature(version="1")
def in_a_list_of_a_field(measured: Measured) -> float:
    measured.more[1][:] = 2
    return float(measured.more[1].sum())


@feature(version="1")
def in_what_may_be_none(measured: Measured) -> float:
    assert measured.maybe is not None
    measured.maybe[:] = 2
    return float(measured.maybe.sum())


@feature(version="1")
def another_name(measured: Measured) -> str:
    measured.name = "two"
    measured.told["tags"].append("b")
    measured.told["more"] = 1
    measured.more.pop()
    measured.maybe = None
    measured.beside = 1  # type: ignore[attr-defined]
    return measured.name


@feature(version="1")
def name_again(measured: Measured) -> str:
    beside = getattr(measured, "beside", 0)
    return f"{measured.name} {measured.told} {len(measured.more)} {measured.maybe is None} {beside}"


@feature(version="1")
def measured_total(measured: Measured) -> float:
    return float(measured.numbers.sum() + sum(m.sum() for m in measured.more))


@feature(version="1")
def same_twice(asset: Asset) -> list[Float64[np.ndarray, " n"]]:
    one = np.ones(LENGTH)
    return [one, one]


@feature(version="1")
def first_of_two(same_twice: list[np.ndarray]) -> float:
    same_twice[0][:] = 2
    return float(same_twice[1].sum())


@feature(version="1")
def both(same_twice: list[np.ndarray]) -> float:
    return float(sum(s.sum() for s in same_twice))


# --- features: what Python itself can change


@feature(version="1")
def words(asset: Asset) -> list[str]:
    return ["a", "b"] * LENGTH


@feature(version="1")
def more_words(words: list[str]) -> int:
    words.append("c")
    words[0] = "z"
    return len(words)


@feature(version="1")
def word_count(words: list[str]) -> str:
    return f"{len(words)} {words[0]}"


@feature(version="1")
def facts(asset: Asset) -> dict:
    return {"deep": {"list": [1, 2]}, "text": "x" * 4 * LENGTH}


@feature(version="1")
def more_facts(facts: dict[str, Any]) -> int:
    facts["deep"]["list"].append(3)
    facts["new"] = True
    del facts["text"]
    return len(facts["deep"]["list"])


@feature(version="1")
def fact_count(facts: dict[str, Any]) -> str:
    return f"{sorted(facts)} {facts['deep']}"


@feature(version="1")
def same_facts(facts: dict[str, Any]) -> dict:
    return facts


@feature(version="1")
def facts_of_facts(same_facts: dict[str, Any]) -> str:
    same_facts.clear()
    return str(same_facts)


# --- features: what keeps hold of what it returned

BUFFER = np.zeros(LENGTH)
WINDOW = BUFFER[: LENGTH // 2]
BYTES = bytearray(4 * LENGTH)
STATE = Measured("", np.zeros(LENGTH), [], None, {})
COLUMN = np.zeros(LENGTH)
KEPT: dict[int, np.ndarray] = {}


@feature(version="1")
def of_a_buffer(asset: Asset) -> Float64[np.ndarray, " n"]:
    BUFFER[:] = asset.bytes
    return BUFFER


@feature(version="1")
def of_a_view(asset: Asset) -> Float64[np.ndarray, " n"]:
    BUFFER[:] = asset.bytes
    return WINDOW


@feature(version="1")
def of_a_locked_view(asset: Asset) -> Float64[np.ndarray, " n"]:
    BUFFER[:] = asset.bytes
    view = BUFFER[1:]
    view.flags.writeable = False
    return view


@feature(version="1")
def of_a_transposed_buffer(asset: Asset) -> Float64[np.ndarray, "a b"]:
    BUFFER[:] = asset.bytes
    return BUFFER.reshape(2, -1).T


@feature(version="1")
def kept_for_later(asset: Asset) -> Float64[np.ndarray, " n"]:
    for old in KEPT.values():
        old[:] = -1
    KEPT[asset.bytes] = np.full(LENGTH, float(asset.bytes))
    return KEPT[asset.bytes]


@feature(version="1")
def base_kept_for_later(asset: Asset) -> list[Float64[np.ndarray, " n"]]:
    for old in KEPT.values():
        old[:] = -1
    KEPT[asset.bytes] = np.full(2 * LENGTH, float(asset.bytes))
    return [KEPT[asset.bytes][:LENGTH], KEPT[asset.bytes][LENGTH:]]


@feature(version="1")
def of_shared_bytes(asset: Asset) -> bytes:
    BYTES[:] = bytes([asset.bytes]) * len(BYTES)
    return memoryview(BYTES)  # type: ignore[return-value]


@feature(version="1")
def on_shared_bytes(asset: Asset) -> Float64[np.ndarray, " n"]:
    BYTES[:] = np.full(len(BYTES) // 8, asset.bytes, np.float64).tobytes()
    return np.frombuffer(memoryview(BYTES).toreadonly(), np.float64)


@feature(version="1")
def of_a_state(asset: Asset) -> Measured:
    STATE.name = str(asset.bytes)
    STATE.numbers[:] = asset.bytes
    STATE.told["n"] = asset.bytes
    return STATE


@feature(version="1")
def of_a_column(asset: Asset) -> pa.Table:
    COLUMN[:] = asset.bytes
    return pa.table({"n": COLUMN})


# --- features: gathers


@feature(version="1", per="segment")
def part(clip: Clip) -> Float32[np.ndarray, " n"]:
    return np.full(LENGTH, clip.index, np.float32)


@feature(version="1")
def shorter(part: list[np.ndarray]) -> int:
    part.pop()
    part.sort(key=lambda p: -p[0])
    return len(part)


@feature(version="1")
def first_part(part: list[np.ndarray]) -> float:
    part[0] += 1
    return float(part[0][0])


@feature(version="1")
def parts(part: list[np.ndarray]) -> list[Float32[np.ndarray, " n"]]:
    return [*part, part[0]]


@feature(version="1")
def part_total(part: list[np.ndarray]) -> str:
    return f"{len(part)} {sum(p.sum() for p in part)}"


# --- features: what can't leave a worker


@feature(version="1")
def with_a_secret(asset: Asset) -> Measured:
    value = Measured("one", np.zeros(3), [], None, {})
    value.secret = (n for n in range(3))  # type: ignore[attr-defined]
    return value


@feature(version="1")
def name_of_secret(with_a_secret: Measured) -> str:
    return with_a_secret.name


# --- running them


@dataclass
class Outcome:
    """What came of a graph: values and failures by (feature, unit)."""

    values: dict[tuple[str, str], Any]
    failures: dict[tuple[str, str], Failure]


class Graph:
    """The steps of some features for some assets, and ways to run them."""

    def __init__(
        self,
        features: Iterable[Any],
        assets: Sequence[Asset] = ASSETS[:1],
        params: Mapping[str, Any] = MappingProxyType({}),
        segment_seconds: float = 60.0,
    ) -> None:
        self.registry = Registry([f.__amber__ for f in features])
        registry_blob.remember(self.registry)
        names = [spec.name for spec in self.registry]
        planner = Planner(self.registry, features=names, params=params, segment_seconds=segment_seconds)
        for asset in assets:
            planner.add_asset(asset)
        # Features of one level in the order they were given, so that who spoils runs before who reads.
        order = {f.__amber__.name: i for i, f in enumerate(features)}
        self.steps = sorted(
            planner.plan().steps.values(), key=lambda s: (s.level, order[s.recipe.feature], s.unit_id)
        )

    def fused(self, inline_bytes: int) -> Outcome:
        """All steps in one task."""
        return self._told([self._task(self.steps, {s.key for s in self.steps}, {}, inline_bytes)])

    def fused_to_leaves(self, inline_bytes: int) -> Outcome:
        """All steps in one task, of which only values that no step reads come back."""
        read = {need for step in self.steps for need in step.needs}
        leaves = {s.key for s in self.steps if s.key not in read}
        return self._told([self._task(self.steps, leaves, {}, inline_bytes)])

    def unfused(self, inline_bytes: int) -> Outcome:
        """Each step in a task of its own, none after an input that failed."""
        replies: list[tuple[Any, ...]] = []
        places: dict[str, tuple[int, StepResult]] = {}
        slots: list[list[Any]] = []
        failed: set[str] = set()
        for step in self.steps:
            if failed & set(step.needs):
                failed.add(step.key)
                continue
            reply = self._task([step], {step.key}, {n: places[n] for n in step.needs}, inline_bytes, slots)
            replies.append(reply)
            (result,), slot = reply
            if result.failure is not None:
                failed.add(step.key)
            places[step.key] = len(slots), result
            slots.append(slot)
        return self._told(replies)

    def _task(
        self,
        steps: Sequence[Step],
        outputs: set[str],
        needs: Mapping[str, tuple[int, StepResult]],
        inline_bytes: int,
        slots: Sequence[list[Any]] = (),
    ) -> tuple[Any, ...]:
        """One task; its arguments and its reply travel as Ray would have them travel."""
        inline = {key: result.inline for key, (_, result) in needs.items() if result.inline is not None}
        arguments: list[list[Any]] = []
        places: dict[str, tuple[int, int]] = {}
        for key, (slot, result) in needs.items():
            if result.inline is None:
                places[key] = len(arguments), result.place
                arguments.append(slots[slot])
        digest = self.registry.digest
        work = Work(
            1, tuple(steps), frozenset(outputs), inline, places, 1, inline_bytes, digest, "n", "cache-0"
        )
        sent, *given = through_ray((work, *arguments))
        return through_ray(tasks.run(b"", sent, *given))

    def _told(self, replies: Iterable[tuple[Any, ...]]) -> Outcome:
        steps = {s.key: s for s in self.steps}
        outcome = Outcome({}, {})
        for report, slot in replies:
            for result in report:
                name = steps[result.key].recipe.feature, steps[result.key].unit_id
                if result.failure is not None:
                    if result.failure.key == result.key:  # else it is an input's, told of what follows
                        outcome.failures[name] = result.failure
                elif result.inline is not None:
                    outcome.values[name] = pickled.loads(result.inline)
                elif result.slot >= 0:
                    outcome.values[name] = slot[result.place]
        return outcome


def through_ray(message: Any) -> Any:
    """A message as it arrives in another process."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(head, buffers=[bytes(b.raw()) for b in buffers])


def plain(value: Any) -> Any:
    """A value as something that `==` compares whole."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return value.to_pydict() if isinstance(value, pa.Table) else value


def said(failure: Failure) -> tuple[Any, ...]:
    """What a caller is told of a failure; tracebacks differ in nothing that they could."""
    return (*(getattr(failure, f.name) for f in dataclasses.fields(failure)),)


WAYS: Mapping[str, Callable[[Graph, int], Outcome]] = {
    "fused": Graph.fused,
    "fused to leaves": Graph.fused_to_leaves,
    "unfused": Graph.unfused,
}
ARRAY_WRITERS = (divided, assigned, sorted_in_place, shuffled, unlocked, through_memory)
GRAPHS: Mapping[str, tuple[Any, ...]] = {
    **{f.__name__: (vector, f, total) for f in ARRAY_WRITERS},
    "another shape": (vector, reshaped, dimensions),
    "its own input": (vector, passed_on, spoiled, total),
    "a part of its own input": (vector, half, spoiled_half, total),
    "an array with gaps": (every_second, spoiled_second, second_total),
    "in a field": (measured, in_a_field, measured_total),
    "in a list of a field": (measured, in_a_list_of_a_field, measured_total),
    "in what may be None": (measured, in_what_may_be_none, measured_total),
    "fields": (measured, another_name, name_again, measured_total),
    "the same array twice": (same_twice, first_of_two, both),
    "a list": (words, more_words, word_count),
    "a dict": (facts, more_facts, fact_count),
    "its own input, a dict": (facts, same_facts, facts_of_facts, fact_count),
    "a gather": (part, shorter, part_total),
    "an array of a gather": (part, first_part, part_total),
    "a gather with one item twice": (part, parts, part_total),
    "what can't be pickled": (with_a_secret, name_of_secret),
}


@pytest.mark.parametrize("inline_bytes", SIZES)
@pytest.mark.parametrize("name", GRAPHS)
def test_values_and_failures_do_not_depend_on_what_shares_a_task(name: str, inline_bytes: int) -> None:
    graph = Graph(GRAPHS[name])
    fused, to_leaves, unfused = (way(graph, inline_bytes) for way in WAYS.values())
    assert {k: plain(v) for k, v in fused.values.items()} == {k: plain(v) for k, v in unfused.values.items()}
    assert {k: plain(v) for k, v in to_leaves.values.items()}.items() <= {
        k: plain(v) for k, v in fused.values.items()
    }.items()
    assert len(fused.values) + len(fused.failures) + _blocked(graph, fused) == len(graph.steps)
    assert _said(fused) == _said(to_leaves) == _said(unfused)


def _said(outcome: Outcome) -> dict[Any, Any]:
    return {name: said(failure) for name, failure in outcome.failures.items()}


def _blocked(graph: Graph, outcome: Outcome) -> int:
    """How many steps have an input that failed, at any distance."""
    failed = {s.key for s in graph.steps if (s.recipe.feature, s.unit_id) in outcome.failures}
    lost = set(failed)
    for step in graph.steps:
        if lost & set(step.needs):
            lost.add(step.key)
    return len(lost - failed)


@pytest.mark.parametrize("inline_bytes", SIZES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("name", "reader", "expected"),
    [
        *((f.__name__, "total", float(LENGTH)) for f in ARRAY_WRITERS),
        ("another shape", "dimensions", [1, 2]),
        ("its own input", "total", float(LENGTH)),
        ("a part of its own input", "total", float(LENGTH)),
        ("an array with gaps", "second_total", float(np.arange(4 * LENGTH)[::2].sum(dtype=np.float32))),
        ("in a field", "measured_total", 3.0 * LENGTH),
        ("in a list of a field", "measured_total", 3.0 * LENGTH),
        ("in what may be None", "measured_total", 3.0 * LENGTH),
        ("fields", "measured_total", 3.0 * LENGTH),
        ("fields", "name_again", "one {'tags': ['a']} 2 False 0"),
        ("the same array twice", "both", 2.0 * LENGTH),
        ("a list", "word_count", f"{2 * LENGTH} a"),
        ("a dict", "fact_count", "['deep', 'text'] {'list': [1, 2]}"),
        ("its own input, a dict", "fact_count", "['deep', 'text'] {'list': [1, 2]}"),
        ("a gather", "part_total", f"3 {3.0 * LENGTH}"),
        ("an array of a gather", "part_total", f"3 {3.0 * LENGTH}"),
    ],
)
def test_a_reader_sees_what_the_step_returned(
    name: str, reader: str, expected: Any, way: str, inline_bytes: int
) -> None:
    outcome = WAYS[way](Graph(GRAPHS[name]), inline_bytes)
    if isinstance(expected, float):
        expected = pytest.approx(expected)
    assert outcome.values[reader, ASSETS[0].id] == expected


@pytest.mark.parametrize("inline_bytes", SIZES)
@pytest.mark.parametrize("way", ["fused", "unfused"])
@pytest.mark.parametrize(
    ("name", "field"),
    [
        *((f.__name__, lambda v: v) for f in ARRAY_WRITERS),
        ("its own input", lambda v: v),
        ("a part of its own input", lambda v: v),
    ],
)
def test_what_is_stored_is_what_the_step_returned(
    name: str, field: Callable[[Any], Any], way: str, inline_bytes: int
) -> None:
    outcome = WAYS[way](Graph(GRAPHS[name]), inline_bytes)
    assert np.array_equal(field(outcome.values["vector", ASSETS[0].id]), np.ones(LENGTH, np.float32))


@pytest.mark.parametrize("inline_bytes", SIZES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("writer", ARRAY_WRITERS)
def test_a_write_into_an_input_is_a_failure_that_says_what_to_do(
    writer: Any, way: str, inline_bytes: int
) -> None:
    outcome = WAYS[way](Graph((vector, writer, total)), inline_bytes)
    ((name, failure),) = outcome.failures.items()
    assert name == (writer.__name__, ASSETS[0].id)
    assert (failure.kind, failure.type, failure.status) == ("feature", "FeatureError", 422)
    assert failure.message.startswith(f"feature '{writer.__name__}' ")
    assert "inputs are read-only" in failure.message
    assert "vector = vector.copy()" in failure.message
    cause = failure.traceback.splitlines()[-1]
    assert cause in failure.message
    assert f"in {writer.__name__}" in failure.traceback


@feature(version="1")
def other_fault(vector: np.ndarray) -> float:
    raise OSError("Read-only file system")


@feature(version="1")
def of_a_constant(asset: Asset) -> Float32[np.ndarray, " n"]:
    constant = np.broadcast_to(np.float32(1), (LENGTH,))
    constant[0] = 2
    return constant


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        ((vector, other_fault), "OSError: Read-only file system"),
        ((of_a_constant,), "ValueError: assignment destination is read-only"),
    ],
)
def test_other_faults_are_told_as_they_are(graph: tuple[Any, ...], message: str) -> None:
    (failure,) = Graph(graph).fused(8192).failures.values()
    assert (failure.type, failure.message) == ("FeatureError", message)


@feature(version="1")
def behind_a_fault(other_fault: float) -> float:
    return other_fault


@feature(version="1")
def far_behind_a_fault(behind_a_fault: float) -> float:
    return behind_a_fault


def test_what_a_failure_blocks_blocks_what_follows_in_its_task() -> None:
    graph = Graph((vector, other_fault, behind_a_fault, far_behind_a_fault))
    steps = {s.recipe.feature: s for s in graph.steps}
    report, _ = graph._task(graph.steps, set(steps), {}, 8192)
    failures = {r.key: r.failure for r in report if r.failure is not None}
    told = {name: failures[step.key].key for name, step in steps.items() if step.key in failures}
    at = steps["other_fault"].key
    assert told == {"other_fault": at, "behind_a_fault": at, "far_behind_a_fault": at}


KEEPERS: Mapping[Any, Callable[[Any], Any]] = {
    of_a_buffer: lambda v: set(v),
    of_a_view: lambda v: set(v),
    of_a_locked_view: lambda v: set(v),
    of_a_transposed_buffer: lambda v: set(v.ravel()),
    kept_for_later: lambda v: set(v),
    base_kept_for_later: lambda v: set(np.concatenate(v)),
    of_shared_bytes: lambda v: set(v),
    on_shared_bytes: lambda v: set(v),
    of_a_state: lambda v: {*v.numbers, int(v.name), v.told["n"]},
    of_a_column: lambda v: set(v.column("n").to_pylist()),
}


@pytest.mark.parametrize("inline_bytes", SIZES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("keeper", KEEPERS)
def test_what_a_feature_writes_into_a_value_after_it_returned_it_changes_nothing(
    keeper: Any, way: str, inline_bytes: int
) -> None:
    KEPT.clear()
    outcome = WAYS[way](Graph((keeper,), ASSETS), inline_bytes)
    assert not outcome.failures
    told = {unit: KEEPERS[keeper](value) for (_, unit), value in outcome.values.items()}
    assert told == {a.id: {a.bytes} for a in ASSETS}


def test_what_a_feature_returned_stays_its_own_to_write_into() -> None:
    graph = Graph((of_a_buffer,), ASSETS)
    for _, size in itertools.product(range(2), SIZES):
        assert not graph.fused(size).failures
    assert BUFFER.flags.writeable


# --- looks at one film

LOOKS = (timeline, frames, frame_times, changes, strip)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Asset:
    """Six seconds of pictures that all differ."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    wide = textured(1, 192 + 144, 48)
    moving = (np.ascontiguousarray(wide[:, i : i + 192]) for i in range(144))
    write_video(path, moving, 24, codec="libx264", gop=48)
    return catalogue(path.parent).add(str(path))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many looks each pass over a film served."""
    found: list[int] = []
    real = Reader.selected

    def counted(reader: Reader, selections: Any) -> Any:
        found.append(len(selections))
        return real(reader, selections)

    monkeypatch.setattr(Reader, "selected", counted)
    return found


def test_features_that_look_at_one_segment_share_a_pass(film: Asset, passes: list[int]) -> None:
    graph = Graph(LOOKS, [film])
    apart = graph.unfused(SIZES[1])
    first, *others = graph.steps
    assert first.recipe.feature == "timeline"
    made, slot = graph._task([first], {first.key}, {}, SIZES[1])
    passes.clear()
    outputs = {step.key for step in others}
    together = graph._told([graph._task(others, outputs, {first.key: (0, made[0])}, SIZES[1], [slot])])
    assert passes == [3]
    assert len(together.values) == 4
    assert {k: plain(apart.values[k]) for k in together.values} == {
        k: plain(value) for k, value in together.values.items()
    }


@feature(version="1", per="segment")
@looking(lambda clip, fps, size, bad: sampled(clip, fps, size))
def choosy(clip: Clip, fps: float = 2.0, size: int = 48, bad: float = 2.0) -> float:
    """Looks at the same as `frames`, and fails at one window before it has looked."""
    if clip.start == bad:
        raise ValueError("not here")
    return float(sum(picture.rgb.mean() for picture in looked(sampled(clip, fps, size))))


@pytest.mark.parametrize(("backward", "expected"), [(False, [18]), (True, [3] * 6)])
def test_windows_of_one_film_share_a_pass_also_where_one_fails(
    film: Asset, passes: list[int], backward: bool, expected: list[int]
) -> None:
    graph = Graph((frames, changes, choosy), [film], segment_seconds=1.0)
    apart = graph.unfused(SIZES[1])
    graph.steps.sort(key=lambda step: step.unit.start_us, reverse=backward)
    passes.clear()
    together = graph.fused(SIZES[1])
    assert passes == expected
    assert len(together.values) == 17
    assert _said(together) == _said(apart)
    assert {k: plain(v) for k, v in together.values.items()} == {k: plain(v) for k, v in apart.values.items()}


def test_a_film_is_closed_behind_the_last_step_that_looks_at_it(
    film: Asset, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    real = decode.demuxed

    @contextlib.contextmanager
    def noted(*given: Any) -> Iterator[Any]:
        told.append("opened")
        try:
            with real(*given) as container:
                yield container
        finally:
            told.append("closed")

    @feature(version="1")
    def after(frames: list[Frames]) -> int:
        told.append("after")
        return len(frames)

    monkeypatch.setattr(decode, "demuxed", noted)
    graph = Graph((frames, after), [film], segment_seconds=1.0)
    assert not graph.fused(SIZES[1]).failures
    assert told == ["opened", "closed", "after"]


@pytest.mark.parametrize("params", [{"frames.fps": -2.0}, {"frames.size": -1}, {"frames.fps": 0.0}])
def test_a_look_that_is_refused_leaves_the_others_alone(film: Asset, params: dict[str, Any]) -> None:
    graph = Graph(LOOKS, [film], params)
    apart, together = graph.unfused(SIZES[1]), graph.fused(SIZES[1])
    assert {name for name, _ in together.failures} == {"frames"}
    assert [f.message for f in together.failures.values()] == [f.message for f in apart.failures.values()]
    assert {k: plain(v) for k, v in together.values.items()} == {k: plain(v) for k, v in apart.values.items()}


def test_a_feature_that_exits_when_asked_what_it_looks_at_ends_no_other(
    film: Asset, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = Graph(LOOKS, [film])
    apart = graph.unfused(SIZES[1])

    def exits(**_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(graph.registry.get("changes").target, "__look__", exits)
    together = graph.fused(SIZES[1])
    assert not together.failures
    assert {k: plain(v) for k, v in together.values.items()} == {k: plain(v) for k, v in apart.values.items()}
