"""How feature code reaches the workers: one blob per registry, put into the object store once.

User modules travel by value, as they were when their features were registered: a file that is edited while
the service runs cannot change what a version means. Installed packages, Amber's own features among them,
travel by name. A registry that was made from another one, of which some features were replaced, shares the
pickles of the others (`layers`).
"""

from __future__ import annotations

import hashlib
import linecache
import sys
import sysconfig
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from amber_ray.core.declare.feature import FeatureSpec
from amber_ray.core.declare.registry import Registry
from amber_ray.core.declare.texts import SENT
from amber_ray.core.fingerprint import live
from amber_ray.core.fingerprint.source import file_of, installed
from amber_ray.errors import DeclarationError
from amber_ray.fabric.transport import layers
from amber_ray.features.registered import build as build

_LOADED: dict[str, Registry] = {}
_LAYERS: dict[str, dict[str, FeatureSpec]] = {}
"""Layers that this process has unpacked, by the digest of their bytes."""
_TEXTS: dict[str, str] = {}
"""The source of modules that travel by name, as it was when code was first sent from here."""
_SENT: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()
"""The code that a class had when it was last pickled here."""


def pack(registry: Registry) -> bytes:
    """The blob of a registry whose features have all been registered now."""
    return layers.bottom(registry.digest, registry.names(), pack_layer(tuple(registry)))


def pack_layer(specs: Sequence[FeatureSpec]) -> bytes:
    """Pickle sealed features with the code of their user modules. Raises `DeclarationError`.

    Call it in the same turn as they were sealed: what it pickles is the code as it is now.
    """
    import ray.cloudpickle as cloudpickle

    by_value = [m for m in _user_modules(specs) if m is not None]
    by_value += [m for m in _edited() if m not in by_value]
    for module in by_value:
        cloudpickle.register_pickle_by_value(module)  # type: ignore[no-untyped-call]
    try:
        with _classes_told_apart():
            return bytes(cloudpickle.dumps(tuple(specs)))  # type: ignore[no-untyped-call]
    except Exception as error:
        names = ", ".join(repr(spec.name) for spec in specs if spec.module.partition(".")[0] != "amber_ray")
        raise DeclarationError(
            f"the code of {names} can't be sent to workers: {type(error).__name__}: {error}; make such an "
            "object when the feature is called, not in its module"
        ) from error
    finally:
        for module in by_value:
            cloudpickle.unregister_pickle_by_value(module)  # type: ignore[no-untyped-call]


def unpack(blob: bytes) -> Registry:
    """The registry in a blob, built once per process."""
    digest, found = layers.read(blob)
    known = _LOADED.get(digest)
    if known is None:
        specs = [spec for layer in found for spec in unpack_layer(layer.code, layer.names)]
        known = _LOADED[digest] = Registry(specs)
    return known


def unpack_layer(code: bytes, names: Iterable[str]) -> list[FeatureSpec]:
    """Some of the features in a layer, which is unpickled once per process."""
    name = hashlib.blake2b(code, digest_size=16).hexdigest()
    specs = _LAYERS.get(name)
    if specs is None:
        specs = _LAYERS[name] = load_layer(code)
    return [specs[n] for n in names]


def load_layer(code: bytes) -> dict[str, FeatureSpec]:
    """The features in a layer by name.

    Not for the process that pickled it: cloudpickle would write into the very classes that it was made from.
    """
    import ray.cloudpickle as cloudpickle

    return {spec.name: spec for spec in cloudpickle.loads(code)}


def loaded(digest: str) -> Registry | None:
    """A registry that this process has unpacked before."""
    return _LOADED.get(digest)


def remember(registry: Registry) -> None:
    """Let this process use its own registry where a blob of it would be unpacked."""
    _LOADED.setdefault(registry.digest, registry)


@contextmanager
def _classes_told_apart() -> Iterator[None]:
    """Have classes pickled as new ones whose code is not what it was when they were pickled last.

    Cloudpickle gives a class one name for good, and whoever unpickles it again, with methods that see another
    helper now, changes the class that was there. A worker may still run that one for an older registry.
    """
    from ray.cloudpickle import cloudpickle as pickling

    # A private name: where it is gone, such classes are one.
    named: Any = getattr(pickling, "_DYNAMIC_CLASS_TRACKER_BY_CLASS", {})
    for cls, before in list(_SENT.items()):
        now = live.digest(cls)
        if now != before:
            named.pop(cls, None)
            del _SENT[cls]
    yield
    for cls in list(named):
        if cls not in _SENT and not _settled(cls):
            _SENT[cls] = live.digest(cls)


def _settled(cls: type) -> bool:
    """Whether a class is of a package whose code does not change while it runs.

    Ray and Serve pickle classes that they make, of a replica's actor among others. These reach most of Ray
    and of Amber, and to read all of that takes seconds of each replica's start.
    """
    return cls.__module__.partition(".")[0] == "amber_ray" or installed(file_of(cls.__module__))


def _edited() -> list[ModuleType]:
    """Modules beside the features' own that are not installed, and were edited since code was first sent.

    Unedited ones travel by name, since what they hold (locks, files) may have no pickle. A worker that has
    imported one before would go on with what it was then, under the key of what it is now.
    """
    found: list[ModuleType] = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        if not file.endswith(".py") or name.partition(".")[0] in ("amber_ray", "__main__") or installed(file):
            continue
        linecache.checkcache(file)
        text = "".join(linecache.getlines(file))
        if _TEXTS.setdefault(name, text) != text:
            found.append(module)
    return found


def _user_modules(specs: Iterable[FeatureSpec]) -> Iterable[ModuleType | None]:
    """The modules (or their top packages) of features that are not installed."""
    libraries = {sysconfig.get_path(p) for p in ("stdlib", "platstdlib", "purelib", "platlib")}
    names = {spec.module for spec in specs}
    for name in sorted(names):
        top = name.partition(".")[0]
        if top in ("amber_ray", "__main__"):
            continue
        sent = sys.modules.get(name)
        if getattr(sent, SENT, False):
            yield sent  # also below a package that is installed: no worker could import it
            continue
        module = sys.modules.get(top) or sent
        file = getattr(module, "__file__", None) or ""
        if not any(file.startswith(path) for path in libraries if path):
            yield module
