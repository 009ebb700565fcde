"""The watchdog of a worker: what is armed happens in time, what is disarmed never does."""

from __future__ import annotations

import threading

from amber_ray.fabric.worker.watchdog import Watchdog

BOUND = 10.0


def test_what_overruns_is_acted_on_in_order() -> None:
    dog, order, done = Watchdog(), [], threading.Event()
    dog.arm(0.05, lambda: (order.append("late"), done.set()))
    dog.arm(0.0, lambda: order.append("early"))
    assert done.wait(BOUND)
    assert order == ["early", "late"]


def test_what_ended_in_time_is_left_alone() -> None:
    dog, acted, done = Watchdog(), [], threading.Event()
    number = dog.arm(0.03, lambda: acted.append("disarmed"))
    dog.disarm(number)
    dog.disarm(number)
    dog.arm(0.06, done.set)
    assert done.wait(BOUND)
    assert acted == []


def test_an_earlier_bound_wakes_a_thread_that_sleeps_for_a_later_one() -> None:
    dog, done = Watchdog(), threading.Event()
    dog.arm(3600.0, lambda: None)
    dog.arm(0.01, done.set)
    assert done.wait(BOUND)


def test_thousands_of_steps_leave_nothing_behind() -> None:
    dog = Watchdog()
    for _ in range(5000):
        dog.disarm(dog.arm(3600.0, lambda: None))
    assert not dog._armed
    assert not dog._due
