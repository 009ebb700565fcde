"""Parameters as callers give them: one mapping, or a list of them, which asks for the values under each.

Must not know: which parameters there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from amber_ray.errors import BadRequest

Params = Mapping[str, Any]


class ParamSet(Mapping[str, Any]):
    """One of several sets of parameters: reads and compares like a dict, and can be a key."""

    __slots__ = ("_items",)

    def __init__(self, params: Params) -> None:
        self._items = dict(params)

    def __getitem__(self, name: str) -> Any:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self._items == dict(other)

    def __repr__(self) -> str:
        return repr(self._items)


def one_set(params: Any) -> dict[str, Any]:
    """Return the parameters of a call that takes one mapping of them. Raises `BadRequest`."""
    if params is None or isinstance(params, Mapping):
        return dict(params or {})
    raise BadRequest(
        f'params must be a mapping such as {{"frames.fps": 2}}, not {type(params).__name__}; '
        "get_many also takes a list of such mappings"
    )


def param_sets(params: Params | Sequence[Params] | None) -> list[ParamSet] | None:
    """Return the sets of a list of parameters, each once; None for one mapping or none.

    Raises `BadRequest` for a list that is empty or holds something else.
    """
    if params is None or isinstance(params, Mapping):
        return None
    given: Any = params
    if not isinstance(given, (list, tuple)):
        one_set(given)  # raises
    if not given:
        raise BadRequest("params is an empty list: give at least one mapping, or leave it out")
    for one in given:
        if not isinstance(one, Mapping):
            raise BadRequest(
                f'a list of params holds mappings such as {{"frames.fps": 2}}, not {type(one).__name__}'
            )
    try:
        return list(dict.fromkeys(map(ParamSet, given)))
    except TypeError:
        raise BadRequest("a parameter's value is a number, text, true, false or none") from None
