"""Asking Amber from Python: `connect`, `aconnect`, and what they give.

Importing this loads neither ray, torch nor pyarrow.
"""

from amber_ray.client.address import aconnect, connect
from amber_ray.client.api import AsyncClient
from amber_ray.client.futures import AsyncFuture, Progress
from amber_ray.client.results import Results, Row
from amber_ray.client.sync import Client, Future

__all__ = [
    "AsyncClient",
    "AsyncFuture",
    "Client",
    "Future",
    "Progress",
    "Results",
    "Row",
    "aconnect",
    "connect",
]
