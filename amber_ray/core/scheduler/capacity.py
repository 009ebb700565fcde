"""What the cluster has, what tasks hold of it, and whether one more task is admitted.

Amounts are in Ray's resource names. Must not know: which steps wait, Ray.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

from amber_ray.core.declare.feature import Resources

SLOT = 0.01
"""The least CPU that a task is charged in admission, so that features without CPU are bounded too."""
MOST = 256
"""The largest number that `room` and `width` return."""


class Capacity:
    """The nodes, what an autoscaler could add (`attainable`, as one node), and what live tasks hold.

    Before the first `set` nothing is known: every feature counts as runnable, and only the look-ahead is
    admitted.
    """

    def __init__(self, lookahead: int) -> None:
        self.lookahead = lookahead
        self.held: dict[str, float] = {}
        self.lent = 0
        """CPUs that are idle but for tasks which use them beside their own, until they end."""
        self._nodes: tuple[Mapping[str, float], ...] = ()
        self._places: tuple[Mapping[str, float], ...] = ()
        self._total: dict[str, float] = {}

    def set(self, nodes: Sequence[Mapping[str, float]], attainable: Mapping[str, float]) -> bool:
        """Take in the cluster's resources. Return whether they changed."""
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

    @property
    def total(self) -> Mapping[str, float]:
        """What all nodes have together."""
        return self._total

    @property
    def nodes(self) -> Sequence[Mapping[str, float]]:
        """What each node has."""
        return self._nodes

    def copied(self) -> Capacity:
        """Return the same cluster, whose resources are held and released apart from this one's."""
        made = copy.copy(self)
        made.held = dict(self.held)
        return made

    def fits_a_node(self, needs: Mapping[str, float]) -> bool:
        """Return whether some node has, or can get, all of these resources."""
        return any(all(place.get(n, 0.0) >= amount for n, amount in needs.items()) for place in self._places)

    def can_run(self, needs: Mapping[str, float]) -> bool:
        """Return whether a task that holds `needs` can ever start."""
        return not self._nodes or self.fits_a_node(needs)

    def needs(self, resources: Resources) -> Mapping[str, float]:
        """Return what a run holds here: a feature that prefers a GPU holds none where there is none."""
        wants = resources.as_mapping()
        if resources.gpu == "preferred" and not self.fits_a_node(wants):
            wants = {n: a for n, a in wants.items() if n != "GPU" and not n.startswith("accelerator_type:")}
        return wants

    def lacking(self, feature: str, needs: Mapping[str, float]) -> str | None:
        """Return a sentence that names the resource which no node has or can get; None if a node has them."""
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
        """Return whether one more task that holds `needs` fits the cluster plus the look-ahead.

        With `beside`, it must also leave enough for a task that holds those: it takes nothing that such a
        task lacks.
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
        """Return how many tasks of this shape could be handed over now; at least 1."""
        free = MOST
        for name, amount in charged(needs).items():
            free = min(free, int((self._room_for(name, amount) - self.held.get(name, 0.0)) / amount + 1e-9))
        return max(1, free)

    def width(self, needs: Mapping[str, float]) -> int:
        """Return how many tasks of this shape the cluster runs at once if nothing else runs; at least 1."""
        charge = charged(needs).items()
        return max(1, min(MOST, *(int(self._total.get(n, 0.0) / a + 1e-9) for n, a in charge if a)))

    def idle(self) -> int:
        """Return how many CPUs are idle on each node, should all that is held be held on that one.

        Where tasks run is Ray's choice, so this much is certain wherever they do.
        """
        smallest = min((cpus for node in self._nodes if (cpus := node.get("CPU", 0.0)) >= 1), default=0.0)
        return max(0, int(smallest - self.held.get("CPU", 0.0) - self.lent + 1e-9))

    def _room_for(self, name: str, amount: float) -> float:
        return self._total.get(name, 0.0) + self.lookahead * amount

    def hold(self, needs: Mapping[str, float]) -> None:
        """Add what a task holds that is handed over."""
        for name, amount in charged(needs).items():
            self.held[name] = self.held.get(name, 0.0) + amount

    def release(self, needs: Mapping[str, float]) -> None:
        """Subtract what a task held that has ended."""
        for name, amount in charged(needs).items():
            left = self.held.get(name, 0.0) - amount
            if left > 1e-9:
                self.held[name] = left
            else:
                self.held.pop(name, None)


def charged(needs: Mapping[str, float]) -> Mapping[str, float]:
    """Return what a task is charged in admission."""
    return needs if needs.get("CPU", 0.0) >= SLOT else {**needs, "CPU": SLOT}


def _amount(name: str, amount: float) -> str:
    """Return an amount in words: `2 GPUs`, `64.0 GiB memory`."""
    if name == "memory":
        return f"{amount / (1 << 30):.1f} GiB memory"
    return f"{amount:g} {name}{'s' if amount != 1 and name in ('GPU', 'CPU') else ''}"
