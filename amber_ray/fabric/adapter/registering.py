"""Registering features with an engine in this process: the code is pickled as it is at that moment.

It comes as features of this process, or as source text of another one, which is run here. Whether it may be
is decided before. Must not know: who registers, HTTP.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence

from amber_ray.core.declare.feature import FeatureSpec
from amber_ray.core.declare.registry import declared, meaning
from amber_ray.core.declare.texts import SourceText, load_text
from amber_ray.core.model.service import RegistryView
from amber_ray.errors import DeclarationError, FeatureMismatch, UnfitCode
from amber_ray.fabric.engine.engine import Engine
from amber_ray.fabric.transport import registry_blob

LOAD_SECONDS = 120.0
"""How long a text may take to be run: it may import a framework."""

_ONE = threading.Lock()
"""Texts are loaded and pickled one after the other: both change what the whole process shares."""


class EngineRegistrar:
    """Implements `client.registered.Registrar` over an engine that is this client's alone."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def register(self, base: str, specs: Sequence[FeatureSpec]) -> RegistryView:
        """See `Engine.register`. Nothing is awaited between the call and the pickling of the code."""
        code = registry_blob.pack_layer(specs) if specs else b""
        return await self._engine.register(base, specs, code)


class TextRegistrar:
    """Implements `serving.app_context.TextRegistrar`: registers what texts declare."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def register(
        self, base: str, texts: Sequence[SourceText], features: Mapping[str, str]
    ) -> RegistryView:
        """See `Engine.register`; `features` are those meant, with the digests that they must have.

        Raises `UnfitCode`, `FeatureMismatch`, `UnknownRegistry`.
        """
        if not features:
            return await self._engine.register(base, (), b"")
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                specs, code = await asyncio.to_thread(_loaded, texts, features)
        except TimeoutError:
            raise UnfitCode(f"the code was not loaded within {LOAD_SECONDS:g} seconds") from None
        try:
            return await self._engine.register(base, specs, code)
        except DeclarationError as error:
            raise UnfitCode(str(error)) from error


def _loaded(
    texts: Sequence[SourceText], features: Mapping[str, str]
) -> tuple[tuple[FeatureSpec, ...], bytes]:
    """The features that are meant, of those in the texts, and their pickle."""
    with _ONE:
        found = {spec.name: spec for text in texts for spec in declared(load_text(text))}
        if missing := sorted(features.keys() - found.keys()):
            raise UnfitCode(f"the code that was sent declares no feature {missing[0]!r}")
        specs = tuple(found[name].sealed() for name in features)
        for spec in specs:
            if meaning(spec) != features[spec.name]:
                raise FeatureMismatch(
                    f"feature {spec.name!r} is another one here than where it was written, so its values "
                    "would not mean the same: a module that it uses may differ, or its file was edited after "
                    "it was loaded; give the module that declares it to the server (`amber serve --features`)"
                )
        try:
            return specs, registry_blob.pack_layer(specs)
        except DeclarationError as error:
            raise UnfitCode(str(error)) from error
