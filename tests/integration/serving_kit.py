"""A server over the in-memory service, as a program: `python serving_kit.py PORT [SERVE_HOST]`.

It prints its URL when it answers and stops when its standard input ends. What happens to requests is written
to the file that KIT_LOG names. With SERVE_HOST, Serve's front listens there whatever the settings say.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from amber_ray.errors import AmberError
from amber_ray.serving import deployment, front
from amber_ray.settings import Settings
from tests.memory_service import Held, MemoryService

PAGE = "https://app.example"
"""The origin whose pages may ask."""


def log(line: str) -> None:
    with open(os.environ["KIT_LOG"], "a") as file:
        file.write(line + "\n")


class Told(MemoryService):
    """Holds everything back from a request of tenant `hold` until one of tenant `open`."""

    def admitted(self, held: Held) -> None:
        log(f"asked {held.request.tenant}")
        if held.request.tenant == "hold":
            self.gate.clear()
        if held.request.tenant == "open":
            self.gate.set()

    def left(self, held: Held) -> None:
        log("withdrawn")
        super().left(held)

    async def aclose(self) -> None:
        log("closed")


async def start(settings: Settings) -> Told:
    return Told()


def main(port: int, serve_host: str | None) -> None:
    settings = Settings(port=port, allow_origins=(PAGE,))
    os.environ.update(deployment.environment(settings), RAY_USAGE_STATS_ENABLED="0")
    import ray

    options: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 << 20}
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        **options,
    )
    try:
        if serve_host is not None:
            front.serve_host = lambda settings: serve_host  # type: ignore[assignment]
        try:
            print(deployment.run(settings, start), flush=True)
            sys.stdin.read()
        except AmberError as error:
            print(f"{type(error).__name__}: {error}", flush=True)
        deployment.shutdown()
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
