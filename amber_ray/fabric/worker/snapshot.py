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

import io
import pickle
import sys
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from amber_ray.errors import FeatureError
from amber_ray.fabric.transport import classes

_UNCHANGEABLE = frozenset({bool, int, float, str, bytes, type(None)})
"""Types whose values need no copy."""


class Snapshot:
    """A value that no longer changes. `size` is its bytes, those of arrays included, if it is to be sent.

    `inline` is its pickle, if it is to be sent and small enough to travel in a message. A snapshot pickles as
    the value: whoever unpickles it gets a copy of that.
    """

    __slots__ = ("_buffers", "_classes", "_head", "_value", "inline", "size")

    def __init__(
        self,
        size: int,
        value: Any,
        inline: bytes | None,
        head: bytes | None = None,
        buffers: Sequence[memoryview] = (),
        classes: Sequence[type] = (),
    ) -> None:
        """Of a value that can't change, or an array (`value`), or anything else as its pickle (`head`)."""
        self.size = size
        self.inline = inline
        self._value = value
        self._head = head
        self._buffers = buffers
        self._classes = classes

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
    if type(held[0]) is np.ndarray:
        return _of_array(held, inline_bytes, sent, ours)
    if type(held[0]) not in _UNCHANGEABLE:
        return _of_object(held, inline_bytes, sent, ours)
    value = held.pop()
    if not sent:
        return Snapshot(0, value, None)
    if type(value) is bytes and len(value) > inline_bytes:
        return Snapshot(len(value), value, None)
    head = pickle.dumps(value, protocol=5)
    return Snapshot(len(head), value, head if len(head) <= inline_bytes else None)


def _of_array(held: list[Any], inline_bytes: int, sent: bool, ours: bool) -> Snapshot:
    """A snapshot of a bare array: itself, or a copy if it is small or somebody could write into it."""
    if held[0].nbytes <= inline_bytes:
        array = _copy(held.pop())
        head = pickle.dumps(array, protocol=5) if sent else b""
        return Snapshot(len(head), array, head if sent and len(head) <= inline_bytes else None)
    view = memoryview(held.pop())
    shared = ours or _safe([view])[0]
    array = cast(np.ndarray, view.obj)
    return Snapshot(array.nbytes, array if shared else _copy(array), None)


def _of_object(held: list[Any], inline_bytes: int, sent: bool, ours: bool) -> Snapshot:
    """A snapshot of anything else: its pickle, with the memory of its arrays or copies of that."""
    value = held.pop()
    made = _pickled(value, sent)
    size = len(made.head) + sum(b.raw().nbytes for b in made.buffers)
    inline = None
    if sent and size <= inline_bytes:
        # In one piece. An array that is read-only, as a checked value's is, is unpickled as a read-only one.
        inline = made.again(value, protocol=5) if made.buffers else made.head
    del value
    views = [b.raw().toreadonly() for b in made.buffers]
    made.buffers.clear()
    if views and not ours:
        # Copying a few bytes costs less than to look whether that is necessary.
        safe = _safe(views) if size > inline_bytes else [False] * len(views)
        views = [v if sure else memoryview(bytes(v)) for v, sure in zip(views, safe, strict=True)]
    return Snapshot(size, None, inline, made.head, views, made.classes)


def _copy(array: np.ndarray) -> np.ndarray:
    copy = array.copy(order="K")
    copy.flags.writeable = False
    return copy


# --- pickling


class _Pickled(NamedTuple):
    """A value's pickle, the memory of its arrays, what pickles it in one piece, and classes to keep alive."""

    head: bytes
    buffers: list[pickle.PickleBuffer]
    again: Callable[..., bytes]
    classes: Sequence[type] = ()


def _pickled(value: Any, sent: bool) -> _Pickled:
    """Pickle a value for every process or, if it is not to be sent, for this one.

    A class of a user module that travelled by value is known to this process only. Sending it along takes
    longer than most pickling does, so what stays here names classes by their identity.
    """
    buffers: list[pickle.PickleBuffer] = []
    if sent or type(value) in (list, dict):
        try:
            head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
            return _Pickled(head, buffers, pickle.dumps)
        except (pickle.PicklingError, AttributeError, TypeError):
            buffers.clear()
    if not sent:
        try:
            file = io.BytesIO()
            local = _LocalPickler(file, buffers)
            local.dump(value)
            return _Pickled(file.getvalue(), buffers, pickle.dumps, local.classes)
        except (pickle.PicklingError, AttributeError, TypeError):
            buffers.clear()
    try:
        head = classes.dumps(value, buffer_callback=buffers.append)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise FeatureError(
            f"the value can't be pickled, so it can't leave the worker: {type(error).__name__}: {error}"
        ) from error
    return _Pickled(head, buffers, classes.dumps)


_CLASSES: weakref.WeakValueDictionary[int, type] = weakref.WeakValueDictionary()
"""Classes by their ids. A snapshot holds those that its pickle names, so an id stays theirs."""


class _LocalPickler(pickle.Pickler):
    """Pickles for this process: a class by its identity, whether or not it could be imported."""

    def __init__(self, file: io.BytesIO, buffers: list[pickle.PickleBuffer]) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffers.append)
        self.classes: list[type] = []

    def reducer_override(self, thing: Any) -> Any:
        """See `pickle.Pickler`. Called for whatever is no plain value or container."""
        if not isinstance(thing, type):
            return NotImplemented
        self.classes.append(thing)
        _CLASSES[id(thing)] = thing
        return _class, (id(thing),)


def _class(id: int) -> type:
    return _CLASSES[id]


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
