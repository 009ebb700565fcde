"""Values made of values: dataclasses, lists, and what may be None."""

from __future__ import annotations

import copy
import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from amber_ray.core.values.base import Unfit, ValueType, unfit
from amber_ray.errors import FeatureError


@dataclass(frozen=True, slots=True)
class Struct(ValueType):
    """A dataclass, or the plain dict that stands for one where its class is not known."""

    name: str
    fields: tuple[tuple[str, ValueType], ...]
    cls: type | None = field(default=None, compare=False)

    def fit(self, value: Any) -> Any:
        """Every field, by its own type; a copy if one had to be normalised."""
        if self.cls is None:
            if not isinstance(value, Mapping) or set(value) != {name for name, _ in self.fields}:
                raise unfit(f"a {self.name}", value)
        elif type(value) is not self.cls and not self._is_twin(type(value)):
            raise unfit(f"a {self.name}", value)
        get = self.getter(value)
        parts, changed = {}, []
        for name, type_ in self.fields:
            had = get(value, name)
            try:
                parts[name] = type_.fit(had)
            except Unfit as problem:
                raise problem.at(f".{name}") from None
            if parts[name] is not had:
                changed.append(name)
        if self.cls is None:
            return parts
        if changed:
            value = copy.copy(value)
            for name in changed:
                object.__setattr__(value, name, parts[name])  # whatever its constructor did is done
        return value

    def _is_twin(self, other: type) -> bool:
        """A class that travelled by value is another object in each process."""
        mine = self.cls
        assert mine is not None
        return (
            dataclasses.is_dataclass(other)
            and (other.__qualname__, other.__module__) == (mine.__qualname__, mine.__module__)
            and [f.name for f in dataclasses.fields(other)] == [name for name, _ in self.fields]
        )

    def make(self, parts: Mapping[str, Any]) -> Any:
        """An instance from its fields, or a dict. Raises `FeatureError` if the class refuses them."""
        if self.cls is None:
            return dict(parts)
        late = _late(self.cls)
        try:
            made = self.cls(**{n: v for n, v in parts.items() if n not in late})
        except Exception as error:  # the class is the user's: whatever it raises is told
            raise FeatureError(f"{self.name} can't be made from its own fields: {error}") from error
        for name in late:
            object.__setattr__(made, name, parts[name])
        return made

    @staticmethod
    def getter(value: Any) -> Callable[[Any, str], Any]:
        """How fields are read from values like this one: an instance or a dict."""
        return operator.getitem if isinstance(value, Mapping) else getattr

    def to_json(self, value: Any) -> Any:
        """An object."""
        get = self.getter(value)
        return {n: t.to_json(get(value, n)) for n, t in self.fields}

    def spec(self) -> dict[str, Any]:
        """See `ValueType.spec`."""
        return {"type": "struct", "name": self.name, "fields": [[n, t.spec()] for n, t in self.fields]}


@dataclass(frozen=True, slots=True)
class ListOf(ValueType):
    """A list of one type."""

    item: ValueType

    def fit(self, value: Any) -> Any:
        """A list or tuple, each item by its type."""
        if not isinstance(value, (list, tuple)):
            raise unfit("a list", value)
        fit, made = self.item.fit, []
        try:
            for item in value:
                made.append(fit(item))
        except Unfit as problem:
            raise problem.at(f"[{len(made)}]") from None
        return made

    def to_json(self, value: Any) -> Any:
        """An array."""
        return [self.item.to_json(v) for v in value]

    def spec(self) -> dict[str, Any]:
        """See `ValueType.spec`."""
        return {"type": "list", "item": self.item.spec()}


@dataclass(frozen=True, slots=True)
class Optional(ValueType):
    """A type or None."""

    item: ValueType

    @property
    def media_type(self) -> str | None:
        """The media type of what may be there."""
        return self.item.media_type

    def fit(self, value: Any) -> Any:
        """None passes."""
        return None if value is None else self.item.fit(value)

    def to_json(self, value: Any) -> Any:
        """Null for None."""
        return None if value is None else self.item.to_json(value)

    def spec(self) -> dict[str, Any]:
        """See `ValueType.spec`."""
        return {"type": "optional", "item": self.item.spec()}


@functools.lru_cache(maxsize=1024)
def _late(cls: type) -> tuple[str, ...]:
    """Fields that a dataclass's constructor does not take."""
    return tuple(f.name for f in dataclasses.fields(cls) if not f.init)
