"""What every route holds: the service, the settings, and the types that inline values are written with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from starlette.requests import Request

from amber_ray.core.model.request import RequestView
from amber_ray.core.model.service import Service
from amber_ray.core.values.annotations import ValueType, from_spec, of_value
from amber_ray.serving.drain import Drain
from amber_ray.serving.keyring import Keyring
from amber_ray.settings import Settings
from amber_ray.wire.views import encode_view


class AppContext:
    """One app's service, its settings, its tokens, its end (`drain`), and names for requests (`new_id`).

    Types of features are kept: none changes while a service runs.
    """

    def __init__(
        self,
        service: Service,
        settings: Settings,
        keyring: Keyring,
        drain: Drain,
        new_id: Callable[[], str],
    ) -> None:
        self.service = service
        self.settings = settings
        self.keyring = keyring
        self.drain = drain
        self.new_id = new_id
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
        return (self._types[feature] or of_value(value)).to_json(value)

    async def view(self, view: RequestView, request: Request, asked: Iterable[str] = ()) -> dict[str, Any]:
        """Return a request as JSON-able data; its links begin with the path that this app is mounted at."""
        await self.know({result.feature for result in view.results})
        return encode_view(view, self.to_json, features=asked, base=base(request))


def base(request: Request) -> str:
    """Return the path that this app is mounted at; empty at the root."""
    return str(request.scope.get("root_path", "")).rstrip("/")
