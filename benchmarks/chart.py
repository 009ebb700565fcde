"""The ratios of a run as a picture: one row each, the peer's mark at 1, the limit as a tick, SVG by hand.

A logarithmic axis, because a ratio of 0.1 is as good as 10 is bad. Must not know: how anything was measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from benchmarks.measure import Measured

WIDTH, ROW, TOP, LEFT, RIGHT = 860, 22, 64, 300, 70
LEAST, MOST = 0.02, 50.0
STYLE = """\
  text { font: 12px system-ui, sans-serif; fill: #24292f }
  .title { font-size: 15px; font-weight: 600 }
  .dim { fill: #57606a }
  .grid { stroke: #d0d7de; stroke-width: 1 }
  .peer { stroke: #57606a; stroke-width: 1.5 }
  .good { fill: #1a7f64 }
  .bad { fill: #c4490c }
  .other { fill: #8c959f }
  .limit { stroke: #24292f; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .dim { fill: #9198a1 } .grid { stroke: #3d444d } .peer { stroke: #9198a1 }
    .good { fill: #3fb393 } .bad { fill: #f0883e } .limit { stroke: #e6edf3 }
  }"""


def chart(measured: Sequence[Measured], title: str) -> str:
    """An SVG document. Ratios beyond [0.02, 50] are drawn at the edge, and their number is written."""
    height = TOP + ROW * len(measured) + 46
    bottom = TOP + ROW * len(measured)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{STYLE}\n</style>",
        f'<text class="title" x="16" y="24">{escape(title)}</text>',
        '<text class="dim" x="16" y="44">Amber over its peer: left of 1 is better than the peer</text>',
    ]
    for tick in (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0):
        x = _x(tick)
        kind = "peer" if tick == 1.0 else "grid"
        parts.append(f'<line class="{kind}" x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(f'<text class="dim" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>')
    for number, one in enumerate(measured):
        middle = TOP + ROW * number + ROW / 2
        start, end = sorted((_x(1.0), _x(one.ratio)))
        width = max(2.0, end - start)
        kind = "good" if one.within else "bad"
        limit, line = _x(one.limit), f'y="{middle + 4:.1f}" text-anchor="end"'
        parts += [
            f'<text x="{LEFT - 12}" {line}>{escape(one.name)}</text>',
            f'<rect class="{kind}" x="{start:.1f}" y="{middle - 5:.1f}" width="{width:.1f}" height="10"/>',
            f'<path class="limit" d="M{limit:.1f} {middle - 8:.1f}v16"/>',
            f'<text class="{kind}" x="{WIDTH - 16}" {line}>{one.ratio:.2f}</text>',
        ]
    parts.append(
        f'<text class="dim" x="{LEFT}" y="{bottom + 36}">the bold tick is the limit; '
        "a bar in orange has passed it</text>"
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _x(ratio: float) -> float:
    """Where a ratio is on the axis, in pixels."""
    clipped = min(MOST, max(LEAST, ratio))
    share = (math.log(clipped) - math.log(LEAST)) / (math.log(MOST) - math.log(LEAST))
    return LEFT + share * (WIDTH - LEFT - RIGHT)
