"""The account of values in memory: when they are written, and which write counts."""

from __future__ import annotations

from amber_ray.core.ledger.memory import OVERHEAD, RETRY_SECONDS, Memory
from amber_ray.settings import Settings

EASY = Settings(memory_bytes=1 << 30, spill_bytes=1 << 20)


def held(*sizes: tuple[str, int]) -> Memory:
    memory = Memory()
    for key, size in sizes:
        memory.hold(size)
        memory.write(key, size, by=10.0)
    return memory


def test_nothing_is_written_before_its_time() -> None:
    memory = held(("a", 10))
    assert memory.take_unspilled(EASY, 9.9) == ()
    assert memory.due() == 10.0
    assert memory.take_unspilled(EASY, 10.0) == ("a",)
    assert memory.due() == float("inf")
    assert memory.written("a", 11.0)


def test_a_write_counts_once() -> None:
    memory = held(("a", 10))
    memory.take_unspilled(EASY, 10.0)
    assert memory.written("a", 11.0)
    assert not memory.written("a", 12.0)
    assert not memory.written("never", 12.0)


def test_short_memory_hurries_a_write_but_not_while_one_is_under_way() -> None:
    tight = Settings(memory_bytes=100, spill_bytes=1 << 20)
    memory = held(("a", 1000))
    assert memory.take_unspilled(tight, 0.0) == ("a",)
    memory.hold(1000)
    memory.write("b", 1000, by=10.0)
    assert memory.take_unspilled(tight, 0.0) == ()
    assert memory.choked(tight)
    memory.written("a", 1.0)
    assert memory.take_unspilled(tight, 1.0) == ("b",)


def test_after_a_failed_write_nothing_is_written_until_the_pause_is_over() -> None:
    tight = Settings(memory_bytes=100, spill_bytes=1)
    memory = held(("a", 1000))
    memory.take_unspilled(tight, 0.0)
    memory.not_written("a", 1000, 5.0)
    assert memory.take_unspilled(tight, 5.0 + RETRY_SECONDS - 0.1) == ()
    assert memory.due() == 5.0 + RETRY_SECONDS
    assert memory.take_unspilled(tight, 5.0 + RETRY_SECONDS) == ("a",)


def test_a_value_let_go_while_it_is_written_makes_the_write_stale() -> None:
    memory = held(("a", 10))
    memory.take_unspilled(EASY, 10.0)
    memory.release("a", 10)
    assert memory.held == 0
    assert not memory.written("a", 11.0)
    assert not memory.spilling
    assert not memory.stale


def test_a_newer_value_waits_until_the_stale_write_has_ended_well_or_ill() -> None:
    for well in (True, False):
        memory = held(("a", 10), ("b", 10))
        memory.take_unspilled(EASY, 10.0)
        memory.release("a", 10)
        memory.hold(20)
        memory.write("a", 20, by=11.0)
        assert memory.take_unspilled(EASY, 12.0) == ()
        assert memory.unspilled_bytes == 20
        if well:
            assert not memory.written("a", 13.0)
            assert memory.take_unspilled(EASY, 13.0) == ("a",)
        else:
            memory.not_written("a", 10, 13.0)
            assert memory.take_unspilled(EASY, 13.0) == ()
            assert memory.take_unspilled(EASY, 13.0 + RETRY_SECONDS) == ("a",)


def test_every_value_is_charged_its_overhead() -> None:
    memory = held(("a", 10), ("b", 0))
    assert memory.held == 10 + 2 * OVERHEAD
