"""Seconds of each peer in each phase as bars on a logarithmic axis, SVG by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from benchmarks.chart import STYLE

WIDTH, BAR, LEFT, RIGHT = 760, 14, 110, 90
LEAST, MOST = 0.001, 100.0


def picture(seconds: Mapping[str, Sequence[float]], phases: Sequence[str]) -> str:
    """An SVG document: a group per phase, a bar per peer; a peer that did not get so far has none."""
    height = 60 + len(phases) * (BAR * len(seconds) + 34)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<style>\n{STYLE}\n</style>",
        '<text class="title" x="16" y="24">Seconds from the question to the last value (logarithmic)</text>',
    ]
    y = 52
    for number, phase in enumerate(phases):
        parts.append(f'<text x="16" y="{y}" font-weight="600">{escape(phase)}</text>')
        y += 8
        for peer, taken in seconds.items():
            if number < len(taken):
                value = min(MOST, max(LEAST, taken[number]))
                share = math.log(value / LEAST) / math.log(MOST / LEAST)
                width = max(1.0, share * (WIDTH - LEFT - RIGHT))
                kind = "good" if peer == "amber" else "other"
                parts += [
                    f'<text class="dim" x="{LEFT - 8}" y="{y + 11}" text-anchor="end">{_name(peer)}</text>',
                    f'<rect class="{kind}" x="{LEFT}" y="{y + 2}" width="{width:.1f}" height="{BAR - 4}"/>',
                    f'<text class="dim" x="{LEFT + width + 6:.1f}" y="{y + 11}">{taken[number]:.3g} s</text>',
                ]
            y += BAR
        y += 26
    return "\n".join([*parts, "</svg>"]) + "\n"


def _name(peer: str) -> str:
    return escape(peer.replace("_", " "))
