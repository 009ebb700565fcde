"""`ray://`: a `Service` reached through Ray Client, from a program outside the cluster.

The implementation is `amber_ray.fabric.adapter.gateway`, imported on the first use of such an address.
Must not know: Ray.
"""

from __future__ import annotations

from typing import Protocol

from amber_ray.client.registered import Registrar
from amber_ray.core.model.service import Service
from amber_ray.errors import Unavailable
from amber_ray.settings import Settings


class RayService(Service, Registrar, Protocol):
    """What a cluster offers through Ray Client."""


async def connect_ray(address: str, settings: Settings) -> RayService:
    """Return the service of the cluster at `ray://host:port`, through its named gateway actor.

    Raises `Unavailable` if the cluster can't be reached or serves no Amber, and if Ray is not installed here.
    """
    try:
        from amber_ray.fabric.adapter import gateway
    except ModuleNotFoundError as error:
        raise Unavailable(
            f"{address} needs the package {error.name!r} here; install 'ray[client]'"
        ) from error
    return await gateway.connect(address, settings)
