"""What the cluster has, what tasks hold of it, and whether one more is admitted.

Amounts are in Ray's resource names. Must not know: which steps wait, Ray.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from amber_ray.core.declare.feature import Resources

SLOT = 0.01
"""Least CPU a task is charged in admission, so that zero-CPU features are bounded too."""
MOST = 256
"""Most tasks of one kind that `room` speaks of."""


class Capacity:
    """The nodes, what an autoscaler could add (`attainable`, as one node), and what is held by live tasks.

    Before the first `set` nothing is known: every feature then passes for runnable and only the look-ahead
    is admitted.
    """

    def __init__(self, lookahead: int) -> None:
        self.lookahead = lookahead
        self.held: dict[str, float] = {}
        self._nodes: tuple[Mapping[str, float], ...] = ()
        self._places: tuple[Mapping[str, float], ...] = ()
        self._total: dict[str, float] = {}

    def set(self, nodes: Sequence[Mapping[str, float]], attainable: Mapping[str, float]) -> bool:
        """Learn the cluster's resources; True if that changed anything."""
        nodes = tuple(dict(n) for n in nodes)
        places = (*nodes, dict(attainable)) if attainable else nodes
        if nodes == self._nodes and places == self._places:
            return False
        self._nodes, self._places = nodes, places
        self._total = {}
        for node in nodes:
            for name, amount in node.items():
                self._total[name] = self._total.get(name, 0.0) + amount
        return True

    def fits_a_node(self, needs: Mapping[str, float]) -> bool:
        """Whether some node has, or can get, all of it."""
        return any(all(place.get(n, 0.0) >= amount for n, amount in needs.items()) for place in self._places)

    def can_run(self, needs: Mapping[str, float]) -> bool:
        """Whether a task that holds `needs` will ever start."""
        return not self._nodes or self.fits_a_node(needs)

    def needs(self, resources: Resources) -> Mapping[str, float]:
        """What a run holds here: a feature that only prefers a GPU asks for none where none can be had."""
        wants = resources.as_mapping()
        if resources.gpu == "preferred" and not self.fits_a_node(wants):
            wants = {n: a for n, a in wants.items() if n != "GPU" and not n.startswith("accelerator_type:")}
        return wants

    def lacking(self, feature: str, needs: Mapping[str, float]) -> str | None:
        """A sentence that says which resource no node has or can get; None if there is a node for it."""
        if self.can_run(needs):
            return None
        for name, amount in needs.items():
            most = max((place.get(name, 0.0) for place in self._places), default=0.0)
            if most < amount:
                return (
                    f"feature {feature!r} requires {_amount(name, amount)}, but the largest node of this "
                    f"cluster has {_amount(name, most)}"
                    + ("; gpu='preferred' would run it on CPU" if name == "GPU" else "")
                )
        wanted = " and ".join(_amount(name, amount) for name, amount in needs.items())
        return f"feature {feature!r} requires {wanted}, and no single node of this cluster has all of it"

    # --- admission

    def admits(self, needs: Mapping[str, float], beside: Mapping[str, float] | None = None) -> bool:
        """Whether one more task that holds `needs` is within the cluster plus the look-ahead.

        With `beside`, what it leaves must do for a task that holds those: nothing it lacks is taken.
        """
        wanted = charged(needs)
        for name, kept in charged(beside).items() if beside else ():
            amount = wanted.get(name, 0.0)
            if amount and self.held.get(name, 0.0) + amount + kept > self._room_for(name, kept) + 1e-9:
                return False
        for name, amount in wanted.items():
            if self.held.get(name, 0.0) + amount > self._room_for(name, amount) + 1e-9:
                return False
        return True

    def room(self, needs: Mapping[str, float]) -> int:
        """How many tasks of this shape could be handed over now; at least 1."""
        free = MOST
        for name, amount in charged(needs).items():
            free = min(free, int((self._room_for(name, amount) - self.held.get(name, 0.0)) / amount + 1e-9))
        return max(1, free)

    def width(self, needs: Mapping[str, float]) -> int:
        """How many tasks of this shape the cluster runs at once, if it runs nothing else; at least 1."""
        charge = charged(needs).items()
        return max(1, min(MOST, *(int(self._total.get(n, 0.0) / a + 1e-9) for n, a in charge if a)))

    def _room_for(self, name: str, amount: float) -> float:
        return self._total.get(name, 0.0) + self.lookahead * amount

    def hold(self, needs: Mapping[str, float]) -> None:
        """A task is handed over."""
        for name, amount in charged(needs).items():
            self.held[name] = self.held.get(name, 0.0) + amount

    def release(self, needs: Mapping[str, float]) -> None:
        """A task has ended."""
        for name, amount in charged(needs).items():
            left = self.held.get(name, 0.0) - amount
            if left > 1e-9:
                self.held[name] = left
            else:
                self.held.pop(name, None)


def charged(needs: Mapping[str, float]) -> Mapping[str, float]:
    """What a task is charged in admission."""
    return needs if needs.get("CPU", 0.0) >= SLOT else {**needs, "CPU": SLOT}


def _amount(name: str, amount: float) -> str:
    """`2 GPUs`, `64.0 GiB memory`."""
    if name == "memory":
        return f"{amount / (1 << 30):.1f} GiB memory"
    return f"{amount:g} {name}{'s' if amount != 1 and name in ('GPU', 'CPU') else ''}"
