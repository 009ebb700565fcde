"""`loudness`: how loud an asset sounds, by the broadcasters' standard."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from amber_ray.core.declare.feature import feature
from amber_ray.core.model.units import Asset
from amber_ray.errors import MediaError
from amber_ray.media.locate import name_of
from amber_ray.media.sound import heard

SILENCE = -70.0
"""LUFS below which nothing counts as sound (the absolute gate of ITU-R BS.1770)."""


@dataclass(frozen=True, slots=True)
class Loudness:
    """EBU R 128: `integrated` in LUFS (-70: silence), `range` in LU, `true_peak` in dBTP (-inf: none)."""

    integrated: float
    range: float
    true_peak: float


@feature(version="1")
def loudness(asset: Asset) -> Loudness:
    """Programme loudness, loudness range and true peak of the whole asset (EBU R 128, Tech 3341 and 3342).

    Measured by FFmpeg's `ebur128` filter over the best audio stream. Raises `MediaError` without sound.
    """
    import av

    last: dict[str, str] = {}
    with heard(asset, "loudness") as (_, stream, frames):
        graph = av.filter.Graph()
        source = graph.add_abuffer(template=stream)
        meter = graph.add("ebur128", "peak=true:metadata=1:framelog=quiet")
        sink = graph.add("abuffersink")
        graph.link_nodes(source, meter, sink).configure()
        for frame in frames:
            source.push(frame)
            for told in _pulled(sink):
                last = told
        source.push(None)
        for told in _pulled(sink):
            last = told
    if "lavfi.r128.I" not in last:
        raise MediaError(f"{name_of(asset.uri)!r} has too little sound to measure; 0.1 s is needed at least")
    peak = float(last["lavfi.r128.true_peak"])
    return Loudness(
        integrated=max(SILENCE, float(last["lavfi.r128.I"])),
        range=float(last["lavfi.r128.LRA"]),
        true_peak=20 * math.log10(peak) if peak > 0 else -math.inf,
    )


def _pulled(sink: Any) -> Iterator[dict[str, str]]:
    """The measurements of all frames that the meter has ready; they grow as it listens."""
    import av

    while True:
        try:
            frame = sink.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        if frame.metadata:
            yield frame.metadata
