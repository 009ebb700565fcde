"""A Ray that does not come up, as on a machine with much else to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ray

from amber_ray.errors import Unavailable
from amber_ray.fabric.adapter import cluster
from amber_ray.settings import Settings

SAID = "The current node timed out during startup. This could happen because some of the raylet failed"


class BusyMachine:
    """In the place of `ray.init`: nodes that do not come up at first; which were ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
        self.left = failures
        self.started: list[BusyMachine.Node] = []
        self.ended: list[BusyMachine.Node] = []
        monkeypatch.setattr(cluster.Node, "start_ray_processes", lambda node: self.started.append(node))
        monkeypatch.setattr(ray, "init", self.init)
        monkeypatch.setattr(ray, "is_initialized", lambda: False)

    class Node:
        def __init__(self, machine: BusyMachine) -> None:
            self.machine = machine

        def kill_all_processes(self, *, check_alive: bool, allow_graceful: bool) -> None:
            self.machine.ended.append(self)

    def init(self, **options: Any) -> None:
        cluster.Node.start_ray_processes(self.Node(self))  # type: ignore[arg-type]
        self.left -= 1
        if self.left >= 0:
            raise Exception(SAID)


def test_a_node_that_is_not_up_in_time_is_ended_and_started_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = BusyMachine(monkeypatch, cluster.TRIES - 1)
    cluster.start_local(Settings(store=str(tmp_path / "store")))
    assert len(machine.started) == cluster.TRIES
    assert machine.ended == machine.started[:-1]


def test_a_node_that_never_comes_up_is_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = BusyMachine(monkeypatch, 99)
    with pytest.raises(Unavailable, match=f"did not come up, {cluster.TRIES} times in a row"):
        cluster.start_local(Settings(store=str(tmp_path / "store")))
    assert machine.ended == machine.started
    assert len(machine.started) == cluster.TRIES
