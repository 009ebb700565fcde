"""`amber deploy`: `serve deploy` that notices changed code.

Serve compares configurations: where the file is the same it does nothing, whatever became of the features. So
the digest of their code is put into the arguments of the application (`Settings.revision`).
"""

from __future__ import annotations

import argparse
import os
from typing import Any

from amber_ray.cli.terminal import note
from amber_ray.errors import BadRequest
from amber_ray.serving.deployment import submit
from amber_ray.settings import Settings

BUILDER = "amber_ray.serving.deployment:build"
DASHBOARD = "http://localhost:8265"


def run(args: argparse.Namespace) -> int:
    """Deploy a Serve config file; 0 once the cluster has taken it."""
    config = _read(args.config)
    applications = [a for a in config.get("applications") or () if a.get("import_path") == BUILDER]
    if not applications:
        raise BadRequest(f"no application in {args.config} has the import_path {BUILDER}")
    for application in applications:
        settings = Settings.from_mapping(application.get("args") or {})
        revision = args.revision or settings.revision or _code(settings)
        application["args"] = {**(application.get("args") or {}), "revision": revision}
        note(f"{application.get('name', 'default')} is deployed at revision {revision}")
    submit(config, args.address or os.environ.get("RAY_DASHBOARD_ADDRESS") or DASHBOARD)
    note("`serve status` tells how it goes on")
    return 0


def _read(path: str) -> dict[str, Any]:
    import yaml

    with open(path, encoding="utf-8") as file:
        try:
            config = yaml.safe_load(file)
        except yaml.YAMLError as error:
            raise BadRequest(f"{path} is not YAML: {error}") from error
    if not isinstance(config, dict):
        raise BadRequest(f"{path} is not a Serve config file, which has `applications`")
    return config


def _code(settings: Settings) -> str:
    """The digest of the code of all features, as it is here. Raises `DeclarationError`."""
    from amber_ray.fabric.transport.registry_blob import build

    return build(settings).digest
