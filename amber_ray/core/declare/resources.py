"""What one run of a feature holds while it runs, in Ray's words. Must not know: features, Ray, nodes."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from amber_ray.errors import DeclarationError

Gpu = Literal["required", "preferred"]
_LEAST = 0.0001
"""The smallest share of a resource that Ray counts."""
_ARGUMENTS = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}


@dataclass(frozen=True, slots=True)
class Resources:
    """What one run holds while it runs. `memory` in bytes; `custom` are Ray's custom resources."""

    num_cpus: float = 1.0
    num_gpus: float = 0.0
    memory: int = 0
    accelerator_type: str | None = None
    custom: tuple[tuple[str, float], ...] = ()
    gpu: Gpu = "required"

    @property
    def plain(self) -> bool:
        """Whether it asks for nothing but CPU, so that it may be fused with its neighbours."""
        return not (self.num_gpus or self.accelerator_type or self.custom)

    def as_mapping(self) -> dict[str, float]:
        """Ray's resource names to amounts, zeros left out."""
        wants = {
            "CPU": self.num_cpus,
            "GPU": self.num_gpus,
            "memory": float(self.memory),
            **dict(self.custom),
        }
        if self.accelerator_type:
            wants[f"accelerator_type:{self.accelerator_type}"] = 0.001
        return {name: amount for name, amount in wants.items() if amount}

    def checked(self, feature: str) -> Resources:
        """With amounts as numbers of one kind. Raises `DeclarationError` for what Ray would refuse later."""
        if self.gpu not in ("required", "preferred"):
            raise DeclarationError(
                f"feature {feature!r}: gpu must be 'required' or 'preferred', not {self.gpu!r}"
            )
        for reserved, argument in _ARGUMENTS.items():
            if reserved in dict(self.custom):
                raise DeclarationError(
                    f"feature {feature!r}: say {argument}=... instead of {reserved!r} in resources"
                )
        amounts = {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus, "memory": self.memory}
        for what, amount in (*amounts.items(), *self.custom):
            if not (is_number(amount) and (amount == 0 or amount >= _LEAST)):
                raise DeclarationError(
                    f"feature {feature!r}: {what} must be 0 or a number from {_LEAST} up, not {amount!r}"
                )
        if self.num_gpus > 1 and self.num_gpus % 1:
            raise DeclarationError(
                f"feature {feature!r}: num_gpus above 1 must be whole (Ray's rule), not {self.num_gpus:g}"
            )
        if self.memory % 1:
            raise DeclarationError(f"feature {feature!r}: memory is whole bytes, not {self.memory!r}")
        return dataclasses.replace(
            self,
            num_cpus=float(self.num_cpus),
            num_gpus=float(self.num_gpus),
            memory=int(self.memory),
            custom=tuple(sorted((name, float(amount)) for name, amount in self.custom)),
        )


def is_number(value: Any) -> bool:
    """A finite int or float; a bool is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
