"""The registry that settings name: the built-in features, the user's, and a program's own functions.

Must not know: how features are run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from amber_ray.core.declare.registry import Registry
from amber_ray.features import BUILTINS
from amber_ray.settings import Settings


def build(settings: Settings, features: Iterable[Any] = ()) -> Registry:
    """The registry that settings name: the built-in features and the user's, and `features` beside them.

    `features` are decorated functions or classes. Raises `DeclarationError`.
    """
    base = Registry.from_modules((*(BUILTINS if settings.builtins else ()), *settings.features))
    extra = [getattr(f, "__amber__", f) for f in features]
    return Registry((*base, *extra)) if extra else base
