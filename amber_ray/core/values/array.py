"""Numpy arrays as values: what a declared dtype and shape accept.

Numpy is imported only when an array is met. Must not know: jaxtyping, Arrow.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from amber_ray.core.values.base import SAFE, Unfit, ValueType, plain, unfit

_INTEGERS = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
DTYPES = frozenset({"bool", "float16", "float32", "float64"} | _INTEGERS)
"""Elements that arrays may have: those with an Arrow type."""


@dataclass(frozen=True, slots=True)
class Array(ValueType):
    """A numpy array.

    `dtype` None is any, or any of `among` if that names some. `shape` None is any; in it None is any length.
    `names` are the words of the declared shape: dimensions of the same name have the same length.
    """

    dtype: str | None = None
    shape: tuple[int | None, ...] | None = None
    names: tuple[str, ...] = field(default=(), compare=False)
    among: tuple[str, ...] = ()

    def fit(self, value: Any) -> Any:
        """Return a read-only view of the array, in native byte order; the array itself if it is that already.

        The caller's own array stays as writable as it is. Subclasses become plain arrays; masked ones are
        refused. An array that is contiguous in neither C's nor Fortran's order is copied, as pickle would do.
        A numpy scalar is an array of no dimension.
        """
        import numpy as np

        if isinstance(value, np.generic):
            value = np.asarray(value)
        if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):
            raise unfit(self._words(), value)
        if type(value) is not np.ndarray:
            value = value.view(np.ndarray)
        if not value.dtype.isnative:
            value = value.astype(value.dtype.newbyteorder("="))
        dtype = value.dtype.name
        if dtype != self.dtype and (self.dtype is not None or dtype not in (self.among or DTYPES)):
            raise Unfit(f"must be {self._words()}, not an array of {dtype}")
        if self.shape is not None and not self._has_shape(value.shape):
            raise Unfit(f"must be {self._words()}, not an array of shape {value.shape}")
        if not value.flags.forc:
            value = np.ascontiguousarray(value)
        if value.flags.writeable:
            value = value.view()
            value.flags.writeable = False
        return value

    def _has_shape(self, shape: tuple[int, ...]) -> bool:
        assert self.shape is not None
        if len(shape) != len(self.shape):
            return False
        if any(want is not None and want != have for want, have in zip(self.shape, shape, strict=True)):
            return False
        lengths = {
            n: have for n, have in zip(self.names, shape, strict=False) if n.isidentifier() and n != "_"
        }
        return all(lengths.get(n, have) == have for n, have in zip(self.names, shape, strict=False))

    def _words(self) -> str:
        words = "a numpy array"
        if self.shape is not None:
            lengths = ["any" if n is None else str(n) for n in self.shape]
            lengths = [
                name if n is None else had
                for name, n, had in zip(self.names or lengths, self.shape, lengths, strict=True)
            ]
            words += f" of shape ({', '.join(lengths)})"
        if self.dtype is not None:
            words += f" of {self.dtype}"
        elif self.among:
            words += f" of {', '.join(self.among[:-1])} or {self.among[-1]}"
        elif self.shape is None:
            words += " of numbers or booleans"
        return words

    def to_json(self, value: Any) -> Any:
        """Nested lists."""
        import numpy as np

        nested = value.tolist()
        if value.dtype.kind == "f":
            return nested if np.isfinite(value).all() else plain(nested)
        wide = value.dtype.kind in "iu" and value.dtype.itemsize == 8 and value.size
        return plain(nested) if wide and (value.max() > SAFE or value.min() < -SAFE) else nested

    def spec(self) -> dict[str, Any]:
        """See `ValueType.spec`."""
        shape = None if self.shape is None else list(self.shape)
        spec: dict[str, Any] = {"type": "array", "dtype": self.dtype, "shape": shape}
        return spec | {"among": list(self.among)} if self.among else spec
