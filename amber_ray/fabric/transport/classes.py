"""Classes that can't be imported, as those of feature modules, beside values of theirs.

Such a class travels with each value (cloudpickle). To pickle one takes a tenth of a millisecond and to make
it again half of that, more than most small values take; so its pickle is made once by each process that sends
values of it, and the class once by each that reads them. What a program changes in it afterwards is not sent.

Must not know: features, values' types.
"""

from __future__ import annotations

import functools
import io
import pickle
import weakref
from collections.abc import Callable
from typing import Any

from amber_ray.fabric.transport import pickled

KEPT = 256
"""Classes that a process keeps for the next value of theirs."""

_PICKLED: weakref.WeakKeyDictionary[type, bytes] = weakref.WeakKeyDictionary()


def dumps(
    value: Any, protocol: int = 5, buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None
) -> bytes:
    """As cloudpickle's. Raises what that raises."""
    file = io.BytesIO()
    _pickler()(file, protocol, buffer_callback).dump(value)
    return file.getvalue()


@functools.cache
def _pickler() -> Any:
    import ray.cloudpickle as cloudpickle  # here: few values need it, and tests of features need no Ray

    class Pickler(cloudpickle.Pickler):
        def reducer_override(self, thing: Any) -> Any:
            """See `pickle.Pickler`."""
            reduced: Any = super().reducer_override(thing)  # type: ignore[no-untyped-call]
            if isinstance(thing, type) and isinstance(reduced, tuple) and reduced[0].__name__ in _MAKERS:
                return _class, (_pickle_of(thing, cloudpickle.dumps),)
            return reduced

    return Pickler


_MAKERS = frozenset({"_make_skeleton_class", "_make_skeleton_enum"})
"""What cloudpickle makes a class with that it can't import."""


def _pickle_of(thing: type, pickle_it: Callable[[type], bytes]) -> bytes:
    if thing not in _PICKLED:
        if len(_PICKLED) >= KEPT:
            _PICKLED.clear()
        _PICKLED[thing] = pickle_it(thing)
    return _PICKLED[thing]


@functools.lru_cache(KEPT)
def _class(data: bytes) -> type:
    made: type = pickled.loads(data)
    return made
