"""What every route holds: the service, the settings, and the types that inline values are written with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from starlette.requests import Request

from amber_ray.core.declare.texts import SourceText
from amber_ray.core.model.request import RequestView
from amber_ray.core.model.service import RegistryView, Service
from amber_ray.core.values.annotations import ValueType, from_spec, of_value
from amber_ray.serving.drain import Drain
from amber_ray.serving.keyring import Keyring
from amber_ray.serving.media_stream import Streams
from amber_ray.serving.sight import Sight
from amber_ray.settings import Settings
from amber_ray.wire.views import encode_view


class TextRegistrar(Protocol):
    """What takes features as source text and runs it; see `fabric.adapter.registering`."""

    async def register(
        self, base: str, texts: Sequence[SourceText], features: Mapping[str, str]
    ) -> RegistryView:
        """Make a registry of that of `base` with the features of the texts; without any, tell what it has."""
        ...


class AppContext:
    """One app's service, its settings, its tokens, its end (`drain`), and names for requests (`new_id`).

    `sight` knows which values a caller may be told of.

    `registrar` takes features as source text; None where the server takes none. Types of features are kept:
    none changes while a service runs.
    """

    def __init__(
        self,
        service: Service,
        settings: Settings,
        keyring: Keyring,
        drain: Drain,
        new_id: Callable[[], str],
        registrar: TextRegistrar | None = None,
    ) -> None:
        self.service = service
        self.settings = settings
        self.keyring = keyring
        self.drain = drain
        self.new_id = new_id
        self.registrar = registrar
        self.streams = Streams()
        self.sight = Sight(service)
        self._types: dict[str, ValueType | None] = {}

    async def know(self, features: Iterable[str]) -> None:
        """Fetch the types of these features, where they are not known yet, for `to_json`."""
        unknown = [name for name in features if name not in self._types]
        if unknown:
            # A request that outlived a restart may name a feature that is registered no more.
            self._types.update(dict.fromkeys(unknown))
            for info in await self.service.features():
                self._types[info.name] = from_spec(info.returns)

    def to_json(self, feature: str, value: Any) -> Any:
        """Return an inline value as JSON-able data; `know` must have been called with the feature."""
        type = self._types[feature]
        if type is not None:
            try:
                return type.to_json(value)
            except (TypeError, ValueError, KeyError, AttributeError):
                pass  # of a feature that a client registered under the same name, with another type
        return of_value(value).to_json(value)

    async def view(
        self, view: RequestView, request: Request, asked: Iterable[str] = (), registry: str = ""
    ) -> dict[str, Any]:
        """Return a request as JSON-able data; its links begin with the path that this app is mounted at.

        Values of the features of a `registry` that a client brought are told by what they are.
        """
        if registry:
            return encode_view(view, _plain, features=asked, base=base(request))
        await self.know({result.feature for result in view.results})
        return encode_view(view, self.to_json, features=asked, base=base(request))


def _plain(feature: str, value: Any) -> Any:
    return of_value(value).to_json(value)


def base(request: Request) -> str:
    """Return the path that this app is mounted at; empty at the root."""
    return str(request.scope.get("root_path", "")).rstrip("/")
