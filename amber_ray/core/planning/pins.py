"""Features that are asked for by their version: `brightness@3`.

The version that the registry makes is asked for as if it were not named. Any other one has no code here, so
its values are only found: among what is stored, by feature, version, unit and parameters. The value of a unit
that has several, made from other parameters or inputs, is the one whose parameters are most like those that
today's code would take, and of these the newest.

    names ─ pins ─→ which versions are old ─ a look into the store ─→ `Kept` ─ Planner ─→ steps that can't run

Must not know: where values are stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.kept import Kept
from amber_ray.errors import VersionGone


@dataclass(frozen=True, slots=True)
class Pin:
    """A feature as it was asked for. `version` is empty for the one that the registry makes."""

    asked: str
    feature: str
    version: str = ""


def pin(registry: Registry, asked: str) -> Pin:
    """Return what a name stands for, with a version if it is not the registry's."""
    feature, at, version = asked.partition("@")
    if not at or (feature in registry and registry.get(feature).version == version):
        return Pin(asked, feature)
    return Pin(asked, feature, version)


def old(registry: Registry, names: Iterable[str]) -> list[Pin]:
    """Return the features that are asked for in another version than the registry's."""
    return [one for one in (pin(registry, name) for name in names) if one.version]


def gone(registry: Registry, one: Pin) -> str:
    """Return why a version can't be made, for a sentence that begins with what is lacking."""
    if one.feature not in registry:
        return f"no feature {one.feature!r} is registered here any more"
    return f"its code is no longer here: version {registry.get(one.feature).version} is made now"


def nothing_kept(registry: Registry, one: Pin, kept: Kept) -> VersionGone:
    """Return the error of a version that nothing is stored of."""
    others = f"; stored are {', '.join(kept.versions)}" if kept.versions else ""
    return VersionGone(f"nothing is stored of {one.asked}, and {gone(registry, one)}{others}")
