"""How feature code reaches the workers: one blob per registry, put into the object store once.

User modules travel by value, as they were when the registry was built: a file that is edited while the
service runs cannot change what a version means. Installed packages, Amber's own features among them, travel
by name.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from amber_ray.core.declare.feature import FeatureSpec
from amber_ray.core.declare.registry import Registry
from amber_ray.features import BUILTINS
from amber_ray.settings import Settings

_LOADED: dict[str, Registry] = {}


def build(settings: Settings, features: Iterable[Any] = ()) -> Registry:
    """The registry that settings name: the built-in features and the user's, and `features` beside them.

    `features` are decorated functions or classes. Raises `DeclarationError`.
    """
    base = Registry.from_modules((*(BUILTINS if settings.builtins else ()), *settings.features))
    extra = [getattr(f, "__amber__", f) for f in features]
    return Registry((*base, *extra)) if extra else base


def pack(registry: Registry) -> bytes:
    """Pickle a registry with the code of its user modules."""
    import ray.cloudpickle as cloudpickle

    by_value = [m for m in _user_modules(registry) if m is not None]
    for module in by_value:
        cloudpickle.register_pickle_by_value(module)  # type: ignore[no-untyped-call]
    try:
        return bytes(cloudpickle.dumps((registry.digest, tuple(registry))))  # type: ignore[no-untyped-call]
    finally:
        for module in by_value:
            cloudpickle.unregister_pickle_by_value(module)  # type: ignore[no-untyped-call]


def unpack(blob: bytes) -> Registry:
    """The registry in a blob, built once per process."""
    import ray.cloudpickle as cloudpickle

    digest: str
    specs: tuple[FeatureSpec, ...]
    digest, specs = cloudpickle.loads(blob)
    known = _LOADED.get(digest)
    if known is None:
        known = _LOADED[digest] = Registry(specs)
    return known


def loaded(digest: str) -> Registry | None:
    """A registry that this process has unpacked before."""
    return _LOADED.get(digest)


def remember(registry: Registry) -> None:
    """Let this process use its own registry where a blob of it would be unpacked."""
    _LOADED.setdefault(registry.digest, registry)


def _user_modules(registry: Registry) -> Iterable[ModuleType | None]:
    """The modules (or their top packages) of features that are not installed."""
    installed = {sysconfig.get_path(p) for p in ("stdlib", "platstdlib", "purelib", "platlib")}
    names = {spec.module for spec in registry}
    for name in sorted(names):
        top = name.partition(".")[0]
        if top in ("amber_ray", "__main__"):
            continue
        module = sys.modules.get(top) or sys.modules.get(name)
        file = getattr(module, "__file__", None) or ""
        if not any(file.startswith(path) for path in installed if path):
            yield module
