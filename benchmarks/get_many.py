"""Many hot values at once through the Python client, against one call of a plain actor that holds a dict."""

from __future__ import annotations

from typing import Any

from benchmarks.measure import Measured, paired, seconds
from benchmarks.session import Session, main

LAYERS = ["noop_top", "noop_left", "noop_right", "noop_leaf"]


class Holder:
    """What one writes when a cache need not compute, persist or survive anything."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def put_many(self, values: dict[str, Any]) -> None:
        self.values.update(values)

    async def get_many(self, keys: list[str]) -> list[Any]:
        return [self.values[key] for key in keys]


def run(session: Session) -> list[Measured]:
    import ray

    window, rounds = session.size((0.1, 7), (3.0, 1))
    settings = session.settings(segment_seconds=window)
    with session.client(settings) as client:
        table = client.get_many(LAYERS, [session.video], progress=False)
        values = {row.key: row.value for row in table.rows}
        keys = list(values)
        holder = ray.remote(Holder).options(num_cpus=0).remote()
        ray.get(holder.put_many.remote(values))

        def first() -> float:
            with session.joined(settings) as other:
                return seconds(lambda: other.get_many(LAYERS, [session.video], progress=False))

        def again() -> float:
            return seconds(lambda: client.get_many(LAYERS, [session.video], progress=False))

        def peer() -> float:
            return seconds(lambda: ray.get(holder.get_many.remote(keys)))

        newcomer = paired(first, peer, rounds)
        regular = paired(again, peer, rounds)
        ray.kill(holder)
    against = f"one call of a plain Ray actor for the same {len(keys)} keys of its dict"
    what = f"client.get_many of {len(keys)} hot values: 4 features of one video in {len(keys) // 4} segments"
    return [
        Measured(
            "get_many: first time", f"{what}, the client's first question", against, *newcomer, "s", 20.0
        ),
        Measured("get_many: again", f"{what}, asked before by this client", against, *regular, "s", 2.0),
    ]


if __name__ == "__main__":
    raise SystemExit(main(run))
