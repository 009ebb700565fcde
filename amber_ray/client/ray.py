"""`ray://`: a `Service` reached through Ray Client, from a program outside the cluster.

The implementation is `amber_ray.fabric.adapter.gateway`, imported on the first use of such an address.
Must not know: Ray.
"""

from __future__ import annotations

from amber_ray.core.model.service import Service
from amber_ray.errors import Unavailable
from amber_ray.settings import Settings


async def connect_ray(address: str, settings: Settings) -> Service:
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
