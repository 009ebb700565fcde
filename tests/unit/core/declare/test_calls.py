"""What features say of the services that they call, and what follows from it for keys and tasks."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from amber_ray import RetryLater
from amber_ray.cli.graph import label
from amber_ray.core.declare.calls import Rate
from amber_ray.core.declare.feature import FeatureSpec, feature
from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.units import Asset
from amber_ray.core.planning.plan import Planner


def spec_of(declared: Any) -> FeatureSpec:
    spec: FeatureSpec = declared.__amber__
    return spec


async def caption(asset: Asset, model: str = "small") -> str:
    return model


class Captions:
    def __init__(self, model: str = "small") -> None:
        self.model = model

    async def __call__(self, asset: Asset) -> str:
        return self.model


def weather(asset: Asset) -> str:
    return "fine"


ASSET = Asset("a" * 32, "file:///a.mp4", "video/mp4", 1000, 30.0)


@pytest.mark.parametrize("target", [caption, Captions])
def test_a_coroutine_has_calls_in_flight_and_holds_no_cpu(target: Any) -> None:
    assert spec_of(feature(target)).calls.concurrency == 16
    spec = spec_of(feature(concurrency=32, rate="60/min", retry_status=[503, 429])(target))
    assert spec.calls.as_mapping() == {"concurrency": 32, "rate": "60/min", "retry_status": [429, 503]}
    assert (spec.resources.num_cpus, spec.returns.spec()) == (0.0, {"type": "str"})


def test_a_rate_holds_for_plain_functions_too_and_they_hold_their_cpu() -> None:
    spec = spec_of(feature(rate="1.5/s")(weather))
    assert (spec.calls.concurrency, spec.calls.rate, spec.resources.num_cpus) == (0, Rate(1.5, 1.0), 1.0)
    assert spec_of(feature(weather)).calls.as_mapping() == {}


@pytest.mark.parametrize(
    ("text", "apart"), [("20/s", 0.05), ("60/min", 1.0), ("1000/h", 3.6), (" 0.5 / min ", 120.0)]
)
def test_a_rate_is_read_as_the_time_between_two_calls(text: str, apart: float) -> None:
    rate = spec_of(feature(rate=text)(caption)).calls.rate
    assert rate is not None
    assert rate.apart == pytest.approx(apart)


def test_how_fast_calls_may_go_is_no_part_of_a_key_and_is_part_of_the_registry() -> None:
    slow = Registry([spec_of(feature(version="1")(caption))])
    fast = Registry([spec_of(feature(version="1", concurrency=64, rate="9/s", retry_status=(429,))(caption))])
    keys = set()
    for registry in (slow, fast):
        planner = Planner(registry, features=["caption"], params={}, segment_seconds=10.0)
        keys |= {target.key for target in planner.add_asset(ASSET)}
    assert len(keys) == 1
    assert slow.digest != fast.digest
    assert slow.get("caption").code_digest == fast.get("caption").code_digest


def test_a_call_is_run_by_a_warm_actor_and_shares_its_task_with_nobody() -> None:
    for target, options, pooled in (
        (caption, {}, True),
        (Captions, {}, True),
        (weather, {"rate": "1/s"}, False),
    ):
        spec = spec_of(feature(version="1", **options)(target))
        planner = Planner(Registry([spec]), features=[spec.name], params={}, segment_seconds=10.0)
        planner.add_asset(ASSET)
        [step] = planner.plan().steps.values()
        assert (step.recipe.pooled, step.recipe.pool is not None) == (pooled, pooled)
        assert not step.recipe.fusable
        assert step.recipe.calls.alone


def test_callers_are_told_how_calls_are_held_back() -> None:
    asks = feature(name="asks", concurrency=4, rate="60/min")(caption)
    told = {info.name: info for info in Registry([spec_of(asks), spec_of(feature(weather))]).info()}
    assert told["asks"].calls == {"concurrency": 4, "rate": "60/min"}
    assert told["weather"].calls == {}
    assert label(told["asks"]).endswith("per asset  concurrency=4  rate=60/min")


def test_retry_later_says_for_how_long_and_why() -> None:
    error = pickle.loads(pickle.dumps(RetryLater(10, "the job is not done")))
    assert (error.seconds, str(error)) == (10.0, "the job is not done")
    assert str(RetryLater()) == "the feature asked to be tried again later"
    for wrong in ("10", None, True):
        with pytest.raises(TypeError, match="takes seconds, such as RetryLater"):
            RetryLater(wrong)  # type: ignore[arg-type]
    for wrong in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="takes seconds from 0 up"):
            RetryLater(wrong)
