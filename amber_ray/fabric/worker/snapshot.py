"""What a step returned, as it was when it returned it: what is stored, sent and read is made from that.

Steps share processes and arrays share memory. The object that a feature returned may be changed later, by a
step that reads it and by the feature itself, if it kept it (a buffer that is used again, a cache). So `take`
pickles a value as soon as it is there, and each reader unpickles a copy of its own, in the task that made the
value as in any other. What leaves the worker is the same bytes: a feature can't tell with what it was fused.

Arrays are the exception, since copying them would cost more than most features do. Pickle (protocol 5) leaves
their memory apart, and all copies of one value read the same memory, through buffers that are read-only. That
is safe only if nobody can write into it by another way, which can be shown in two cases:

- the memory is read-only from the view down to its owner, as all is that came from Amber;
- numpy owns the memory and nothing refers to the array, its base or another view of it, once the value has
  been let go of. References are counted for that.

Else the memory is copied: the feature kept the array or a view, or the memory is a tensor's, a table's, or a
mapped file's. What can't be prevented is code that ignores numpy's flag, as tensors of `torch.from_numpy` and
`np.add.at` do.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import ray.cloudpickle as cloudpickle

from amber_ray.errors import FeatureError

_UNCHANGEABLE = frozenset({bool, int, float, str, bytes, type(None)})
"""Types whose values need no copy."""


class Snapshot:
    """A value that no longer changes. `size` is its bytes, those of arrays included.

    `inline` is its pickle, if that was asked for and is small enough to travel in a message. A snapshot
    pickles as the value: whoever unpickles it gets a copy of that.
    """

    __slots__ = ("_buffers", "_head", "_value", "inline", "size")

    def __init__(
        self,
        size: int,
        value: Any,
        inline: bytes | None,
        head: bytes | None = None,
        buffers: Sequence[memoryview] = (),
    ) -> None:
        """Of a value that can't change, or an array (`value`), or anything else as its pickle (`head`)."""
        self.size = size
        self.inline = inline
        self._value = value
        self._head = head
        self._buffers = buffers

    def open(self) -> Any:
        """Return the value: another copy for each call, its arrays read-only views of one memory."""
        if self._head is not None:
            return opened(self._head, *self._buffers)
        return self._value.view() if type(self._value) is np.ndarray else self._value

    def sent(self) -> Any:
        """Return what Ray is given to send, which arrives as the value."""
        return self._value if self._head is None else self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the value. Ray writes the buffers into its object store without another copy."""
        if self._head is None:
            return opened, (pickle.dumps(self._value, protocol=5),)
        return opened, (pickle.PickleBuffer(self._head), *map(pickle.PickleBuffer, self._buffers))


def opened(head: Any, *buffers: Any) -> Any:
    """Return the value that `take` pickled into `head`, its arrays on `buffers`."""
    return pickle.loads(head, buffers=buffers)  # noqa: S301 - from a worker of this cluster


def unchangeable(value: Any) -> bool:
    """Return whether a value can be handed to several readers as it is."""
    return type(value) in _UNCHANGEABLE


def take(held: list[Any], inline_bytes: int, *, sent: bool = True, ours: bool = False) -> Snapshot:
    """Take the one value out of the list `held` and return a snapshot of it.

    The caller must keep no other reference to the value, or its arrays are copied. `sent`: the value leaves
    the worker, so it is pickled for a message if that takes `inline_bytes` at most. `ours`: only Amber can
    write into the memory of its arrays, so nothing has to be shown. Raises `FeatureError` if it can't be
    pickled.
    """
    value = held.pop()
    if type(value) in _UNCHANGEABLE:
        if not sent or (type(value) is bytes and len(value) > inline_bytes):
            return Snapshot(0 if not sent else len(value), value, None)
        head = pickle.dumps(value, protocol=5)
        return Snapshot(len(head), value, head if len(head) <= inline_bytes else None)
    if type(value) is np.ndarray:
        if value.nbytes > inline_bytes:
            view = memoryview(value)  # type: ignore[arg-type]
            del value
            shared = ours or _safe([view])[0]
            array = cast(np.ndarray, view.obj)
            return Snapshot(array.nbytes, array if shared else _copy(array), None)
        array = _copy(value)
        head = pickle.dumps(array, protocol=5) if sent else b""
        size = len(head) if sent else array.nbytes
        return Snapshot(size, array, head if sent and size <= inline_bytes else None)
    head, buffers, by_reference = _pickled(value)
    size = len(head) + sum(b.raw().nbytes for b in buffers)
    inline = None
    if size <= inline_bytes and sent:
        # In one piece. An array that is read-only, as a checked value's is, is unpickled as a read-only one.
        inline = head if not buffers else (pickle if by_reference else cloudpickle).dumps(value, protocol=5)
    del value
    views = [b.raw().toreadonly() for b in buffers]
    buffers.clear()
    if views and not ours:
        safe = (
            _safe(views) if size > inline_bytes else [False] * len(views)
        )  # a copy is cheaper than the proof
        views = [v if sure else memoryview(bytes(v)) for v, sure in zip(views, safe, strict=True)]
    return Snapshot(size, None, inline, head, views)


def _copy(array: np.ndarray) -> np.ndarray:
    copy = array.copy(order="K")
    copy.flags.writeable = False
    return copy


def _pickled(value: Any) -> tuple[bytes, list[pickle.PickleBuffer], bool]:
    """Return a value's pickle, the memory of its arrays, and whether classes are pickled by reference."""
    buffers: list[pickle.PickleBuffer] = []
    try:
        return pickle.dumps(value, protocol=5, buffer_callback=buffers.append), buffers, True
    except (pickle.PicklingError, AttributeError, TypeError):
        # A class of a user module that travelled by value is known to this process only.
        buffers.clear()
    try:
        head = cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)  # type: ignore[no-untyped-call]
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise FeatureError(
            f"the value can't be pickled, so it can't leave the worker: {type(error).__name__}: {error}"
        ) from error
    return head, buffers, False


# --- whose memory it is


def _safe(views: list[memoryview]) -> list[bool]:
    """Return for each buffer whether it can be shown that nobody can write into its memory.

    Arrays that only the buffers refer to are made read-only, down to the owner of their memory. So a feature
    that returns a part of its input has nothing copied.
    """
    chains = [_chain(view.obj) for view in views]
    alone: set[int] | None = None
    safe = []
    for i, (arrays, root) in enumerate(chains):
        sure = _read_only(arrays, root)
        if not sure:
            alone = _alone(chains) if alone is None else alone
            sure = i in alone
            for n in range(len(arrays) if sure else 0):
                arrays[n].flags.writeable = False
        safe.append(sure)
    return safe


_Chain = tuple[list[np.ndarray], Any]
"""An array, its base, that one's base and so on; and what owns the last one's memory, None for itself."""


def _chain(at: Any) -> _Chain:
    arrays = []
    while isinstance(at, np.ndarray):
        arrays.append(at)
        at = at.base
    return arrays, at


def _read_only(arrays: list[np.ndarray], root: Any) -> bool:
    """Return whether the arrays are read-only, and all that lies between them and their memory's owner."""
    while True:
        if any(array.flags.writeable for array in arrays):
            return False
        if isinstance(root, memoryview):
            if not root.readonly:
                return False
            arrays, root = _chain(root.obj)
            continue
        if root is None:
            return bool(arrays)
        # Ray's buffers lie in its object store.
        return type(root) is bytes or type(root).__module__ == "ray._raylet"


def _alone(chains: list[_Chain]) -> set[int]:
    """Return the places of those chains whose arrays are referred to by the chains and their buffers alone.

    Arrays that share an owner are alone together or not at all: they may overlap.
    """
    holders: dict[int, int] = {}
    counted: set[int] = set()
    for arrays, _ in chains:
        for depth, name in enumerate(map(id, arrays)):
            holders[name] = holders.get(name, 0) + 1  # this list
            above = id(arrays[depth - 1]) if depth else None
            if above is None or above not in counted:  # its buffer, or the array that it is the base of
                holders[name] += 1
            if above is not None:
                counted.add(above)
    shared = {
        id(arrays[-1])
        for arrays, _ in chains
        # One reference more is the argument of `getrefcount`.
        if any(sys.getrefcount(arrays[i]) - 1 != holders[id(arrays[i])] for i in range(len(arrays)))
    }
    return {
        i
        for i, (arrays, root) in enumerate(chains)
        if arrays and root is None and id(arrays[-1]) not in shared
    }
