"""GreedyDual-Size-Frequency: what leaves memory first."""

from __future__ import annotations

from amber_ray.core.ledger.memory import Budget


def order(budget: Budget) -> list[str]:
    """Everything that may go, first to last."""
    found = []
    while (key := budget.pop()) is not None:
        found.append(key)
    return found


def test_nothing_may_go_from_an_empty_budget() -> None:
    budget = Budget()
    assert budget.pop() is None
    assert len(budget) == 0


def test_of_equal_values_the_oldest_goes_first() -> None:
    budget = Budget()
    for key in "abc":
        budget.offer(key, 1000)
    assert order(budget) == ["a", "b", "c"]


def test_a_large_value_goes_before_a_small_one_that_costs_the_same() -> None:
    budget = Budget()
    budget.offer("small", 1_000, cost=1.0)
    budget.offer("large", 1_000_000, cost=1.0)
    assert order(budget) == ["large", "small"]


def test_a_value_that_must_be_recomputed_outlives_one_that_can_be_read() -> None:
    budget = Budget()
    budget.offer("computed", 1_000_000, cost=30.0)
    budget.offer("stored", 1_000_000)
    assert order(budget) == ["stored", "computed"]


def test_what_is_used_often_stays() -> None:
    budget = Budget()
    budget.offer("often", 1000)
    budget.offer("once", 1000)
    budget.offer("often", 1000)
    assert order(budget) == ["once", "often"]


def test_what_was_useful_long_ago_ages() -> None:
    budget = Budget()
    for _ in range(5):
        budget.offer("old", 1000, cost=1.0)
    for i in range(20):  # each one that goes raises the clock, until the newcomers outrank the old one
        budget.offer(f"new{i}", 1000, cost=1.0)
        if budget.pop() == "old":
            return
    raise AssertionError("the old value never went")


def test_what_is_withheld_cannot_go_and_comes_back_with_its_uses() -> None:
    budget = Budget()
    for _ in range(3):
        budget.offer("a", 1000)
    budget.withhold("a")
    assert "a" not in budget
    assert budget.pop() is None
    budget.offer("a", 1000)
    budget.offer("b", 1000)
    assert order(budget) == ["b", "a"]


def test_a_value_that_is_gone_starts_anew() -> None:
    budget = Budget()
    for _ in range(3):
        budget.offer("a", 1000)
    budget.forget("a")
    budget.offer("a", 1000)
    budget.offer("b", 1000)
    assert order(budget) == ["a", "b"]


def test_offers_without_end_take_no_memory_without_end() -> None:
    budget = Budget()
    for _ in range(10_000):
        budget.offer("a", 1000)
        budget.offer("b", 1000)
    assert len(budget) == 2
    assert len(budget._heap) < 200
