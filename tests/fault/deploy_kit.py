"""Deploys Amber on the Ray that `RAY_ADDRESS` names, prints its URL and leaves: Serve and Amber stay."""

from __future__ import annotations

import sys

import ray

from amber_ray.serving import deployment
from amber_ray.settings import Settings


def main() -> None:
    settings = Settings.from_json(sys.argv[1])
    ray.init(namespace=settings.namespace, log_to_driver=False)
    print(deployment.run(settings), flush=True)


if __name__ == "__main__":
    main()
