"""Registering features with an engine in this process: the code is pickled as it is at that moment.

Must not know: who registers, HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence

from amber_ray.core.declare.feature import FeatureSpec
from amber_ray.core.model.service import RegistryView
from amber_ray.fabric.engine.engine import Engine
from amber_ray.fabric.transport import registry_blob


class EngineRegistrar:
    """Implements `client.registered.Registrar` over an engine that is this client's alone."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def register(self, base: str, specs: Sequence[FeatureSpec]) -> RegistryView:
        """See `Engine.register`. Nothing is awaited between the call and the pickling of the code."""
        code = registry_blob.pack_layer(specs) if specs else b""
        return await self._engine.register(base, specs, code)
