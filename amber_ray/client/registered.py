"""Which features a client's requests mean, where it names them by decorated objects.

Where features can be registered (an Amber of one's own, a cluster, a server that takes them), each client has
a registry of its own: to begin with the service's, from then on with what this client registered. Its
requests name that registry, so that a feature that changes meanwhile, here or in another client, changes
nothing for them. Elsewhere (a server that takes none, or not from this client, as its first answer tells) a
request says which digests the features must have; a server that has others runs nothing and says so.

Must not know: Ray, HTTP.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from amber_ray.client.declared import differences, meant
from amber_ray.client.names import feature_name
from amber_ray.client.version_lock import remember
from amber_ray.core.declare.feature import FeatureSpec
from amber_ray.core.declare.registry import declaration, meaning
from amber_ray.core.model.service import FeatureInfo, RegistryView, Service
from amber_ray.errors import BadRequest, FeatureMismatch, Forbidden, UnknownFeature


class Registrar(Protocol):
    """What takes features from a client. Registries are named by their digests, the service's own by ""."""

    async def register(self, base: str, specs: Sequence[FeatureSpec]) -> RegistryView:
        """Make a registry of that of `base` with `specs` added or replaced; without any, tell what it has.

        Pickles the code before anything is awaited. Raises `DeclarationError`.
        """
        ...


class Remembering:
    """A registrar whose features are noted in the code book of a store, as those that `connect` was given."""

    def __init__(self, registrar: Registrar, store: str) -> None:
        self._registrar = registrar
        self._store = store

    async def register(self, base: str, specs: Sequence[FeatureSpec]) -> RegistryView:
        """See `Registrar`. Warns of a pinned version whose code is not what it was when it was first used."""
        view = await self._registrar.register(base, specs)
        names = {spec.name for spec in specs}
        pinned = [info for info in view.features if info.name in names and info.pinned]
        for change in await remember(self._store, pinned) if pinned else ():
            warnings.warn(str(change), stacklevel=2)
        return view


@dataclass(frozen=True, slots=True)
class Opened:
    """A service, what is left to do once it is closed, and what takes features for it, if anything does."""

    service: Service
    closing: Callable[[], Awaitable[None]] | None = None
    registrar: Registrar | None = None

    async def aclose(self) -> None:
        """Close the service and do what is then left."""
        try:
            await self.service.aclose()
        finally:
            if self.closing is not None:
                await self.closing()


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a request says of its features; see `ComputeRequest`."""

    registry: str = ""
    expect: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Registration:
    """What came of `register`.

    - `features`: those that were given, as they are registered now;
    - `added`, `replaced`: the names that are new, and those that had other code before; what was given again
      unchanged is in neither;
    - `recomputed`: features that take a replaced one, directly or not: their values are made anew when asked.
    """

    features: tuple[FeatureInfo, ...]
    added: tuple[str, ...]
    replaced: tuple[str, ...]
    recomputed: tuple[str, ...]

    def __repr__(self) -> str:
        """In one line: the features with their versions, and what is not empty."""
        said = [", ".join(f"{info.name} {info.version}" for info in self.features)]
        for what in ("added", "replaced", "recomputed"):
            if names := getattr(self, what):
                said.append(f"{what}: {', '.join(names)}")
        return f"<Registration {'; '.join(said)}>"


class ClientFeatures:
    """The features of one client, on its event loop.

    `own` are the names of functions that `connect` was given, which no file of the service's has.
    """

    def __init__(
        self, service: Service, registrar: Registrar | None, own: Collection[str], place: str
    ) -> None:
        self._service = service
        self._registrar = registrar
        self._own = set(own)
        self._place = place
        self._view: RegistryView | None = None
        self._refused = ""
        self._registry = ""
        self._below: dict[tuple[str, ...], dict[str, str]] = {}
        self._turn = asyncio.Lock()

    @property
    def registry(self) -> str:
        """The registry that this client's requests name; empty for the service's own."""
        return self._registry

    async def infos(self) -> list[FeatureInfo]:
        """Every feature that this client can ask for, by name."""
        if self._registry and self._view is not None:
            return list(self._view.features)
        return await self._service.features()

    async def register(self, objects: Iterable[Callable[..., Any]]) -> Registration:
        """Add features to this client's registry, or put them in the place of those of the same names."""
        given = list(objects)
        async with self._turn:
            if (registrar := await self._able()) is None:
                why = f" ({self._refused})" if self._refused else ""
                raise BadRequest(f"{self._place} takes no features from its clients; {_HOW}{why}")
            before = await self._known(registrar)
            after = await self._with(registrar, before, given)
        names = list(meant(given))
        old = {info.name: info for info in before.features}
        new = {info.name: info for info in after.features}
        added = tuple(name for name in names if name not in old)
        replaced = tuple(name for name in names if name in old and old[name].digest != new[name].digest)
        return Registration(
            tuple(new[name] for name in dict.fromkeys(map(feature_name, given))),
            added,
            replaced,
            tuple(sorted(_above(new.values(), replaced).difference(added, replaced))),
        )

    async def meaning(self, names: Sequence[str], objects: Sequence[Callable[..., Any]]) -> Meaning:
        """What a request for features says of them. Registers what is not registered, where that can be."""
        if not objects and not self._own:
            return Meaning(self._registry)
        async with self._turn:
            if (registrar := await self._able()) is None:
                return Meaning("", {name: meaning(spec) for name, spec in meant(objects).items()})
            view = await self._with(registrar, await self._known(registrar), objects)
            return Meaning(self._registry, self._expected(view, tuple(names)))

    @asynccontextmanager
    async def explaining(self, objects: Sequence[Callable[..., Any]]) -> AsyncIterator[None]:
        """Where a request inside is refused because the service has other features, say how they differ."""
        try:
            yield
        except (FeatureMismatch, UnknownFeature) as error:
            if not objects or (self._registrar is not None and not self._refused):
                raise
            said = await self._explained(objects)
            if not said:
                raise  # it has them by now: not all replicas are of one mind
            raise FeatureMismatch(said) from error

    async def _explained(self, objects: Sequence[Callable[..., Any]]) -> str:
        """How the objects differ from the service's features, in a sentence."""
        specs = meant(objects)
        there = {info.name: info for info in await self._service.features()}
        said: list[str] = []
        for name, spec in specs.items():
            if name not in there:
                said.append(f"feature {name!r} is not registered at {self._place}")
            elif found := differences(spec, there[name]):
                said.append(
                    f"feature {name!r} is not the one at {self._place}: they differ in {'; '.join(found)}"
                )
        if not said:
            return ""
        instead = [repr(name) for name in specs if name in there]
        by_name = f", or ask for the server's own by name ({', '.join(instead)})" if instead else ""
        return f"{', and '.join(said)}; {_HOW}{by_name}"

    async def _able(self) -> Registrar | None:
        """What takes features, if there is one and it takes any from this client: asked once."""
        if self._registrar is not None and not self._refused and self._view is None:
            try:
                await self._known(self._registrar)
            except (BadRequest, Forbidden) as error:
                self._refused = str(error)
        return None if self._refused else self._registrar

    async def _known(self, registrar: Registrar) -> RegistryView:
        if self._view is None:
            self._view = await registrar.register("", ())
        return self._view

    async def _with(
        self, registrar: Registrar, view: RegistryView, objects: Iterable[Callable[..., Any]]
    ) -> RegistryView:
        """Register what is not registered as it is; between the look and that nothing is awaited."""
        specs = meant(objects)
        new = [spec for name, spec in specs.items() if view.declared.get(name) != declaration(spec)]
        if new:
            view = self._view = await registrar.register(view.digest, new)
            self._registry = view.digest
            self._own.update(spec.name for spec in new)
            self._below.clear()
        return view

    def _expected(self, view: RegistryView, names: tuple[str, ...]) -> dict[str, str]:
        """The digests of this client's own features among those asked for and all under them.

        They are journaled with an accepted request: if this program is gone when a shard goes on with it, the
        service's own features of these names must not be taken for them.
        """
        found = self._below.get(names)
        if found is None:
            known = {info.name: info for info in view.features}
            seen: dict[str, None] = {}
            waiting = list(names)
            while waiting:
                name = waiting.pop()
                if name in known and name not in seen:
                    seen[name] = None
                    waiting.extend(known[name].inputs)
            found = self._below[names] = {n: known[n].digest for n in seen if n in self._own}
        return found


_HOW = "give the module that declares it to the server (`amber serve --features`)"


def _above(infos: Collection[FeatureInfo], names: Iterable[str]) -> set[str]:
    """The features that take one of these, directly or not."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        users = {info.name for info in infos if name in info.inputs} - found
        found |= users
        waiting += users
    return found
