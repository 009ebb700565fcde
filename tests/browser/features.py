"""A feature whose values are what somebody wrote who means harm."""

from __future__ import annotations

from dataclasses import dataclass

from amber_ray import Asset, feature

HOSTILE = "<img src=x onerror=alert(1)>"


@dataclass
class Line:
    start: float
    end: float
    text: str
    label: str


@feature(version="1")
def graffiti(asset: Asset) -> list[Line]:
    return [Line(1.0, 2.0, f"{HOSTILE} written", f"{HOSTILE} labelled")]


@feature(version="1")
def graffiti_refused(asset: Asset) -> int:
    raise ValueError(f"{HOSTILE} said by an error")
