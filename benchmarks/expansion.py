"""A picture of found units, `docs/expansion.svg`: which shots another threshold computes, by their real keys.

Measures nothing: `python -m benchmarks.expansion` finds the shots of the sample trailer, plans `shot_vector`
for two thresholds of `shots`, and draws the windows. Keys that the first threshold had are not computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.units import Asset, Segment, segments
from amber_ray.core.planning.fanout import expand, windows_of
from amber_ray.core.planning.plan import Planner
from amber_ray.features import BUILTINS
from amber_ray.samples import trailer
from amber_ray.testing import asset, run
from benchmarks.chart import STYLE
from benchmarks.session import ROOT

PICTURE = ROOT / "docs/expansion.svg"
THRESHOLDS = 0.5, 0.7
SEGMENT_SECONDS = 10.0
LEFT, WIDTH, TALL, TOP = 190, 640, 26, 66


def main() -> None:
    """Find, plan, and draw."""
    film = asset(trailer())
    given = {"timeline": run("timeline", trailer()), "transitions": run("transitions", trailer())}
    found = [run("shots", given=given, params={"shots.threshold": t}) for t in THRESHOLDS]
    first, second = (planned(film, shots, t) for shots, t in zip(found, THRESHOLDS, strict=True))
    PICTURE.write_text(drawn(film, first, second))
    print(
        f"{len(first)} shots at {THRESHOLDS[0]}; of {len(second)} at {THRESHOLDS[1]} there were "
        f"{len(first.keys() & second.keys())}; {PICTURE}"
    )


def planned(film: Asset, shots: object, threshold: float) -> dict[str, Segment]:
    """The key of `shot_vector` for each shot, and its window, as the ledger would expand them."""
    planner = Planner(
        Registry.from_modules(BUILTINS),
        features=("shot_vector",),
        params={"shots.threshold": threshold},
        segment_seconds=SEGMENT_SECONDS,
    )
    planner.add_asset(film, None)
    plan = planner.plan()
    windows = windows_of(shots)
    assert windows is not None
    made = expand(plan.steps, plan.steps[plan.targets[0].key], windows, 1000)
    return dict(zip(made.keys, made.units, strict=True))


def drawn(film: Asset, first: Mapping[str, Segment], second: Mapping[str, Segment]) -> str:
    """An SVG document: the grid, and the windows of both thresholds under each other."""
    length = film.duration or 1.0
    title = f"The shots of a trailer of {length:.0f} s, and what another threshold computes"
    rows: list[tuple[str, Sequence[tuple[Segment, str]]]] = [
        (f"segments of {SEGMENT_SECONDS:g} s", [(s, "plain") for s in segments(film, SEGMENT_SECONDS)]),
        (f"shots.threshold {THRESHOLDS[0]}", [(s, "good") for s in first.values()]),
        (
            f"shots.threshold {THRESHOLDS[1]}",
            [(s, "other" if k in first else "good") for k, s in second.items()],
        ),
    ]
    new = len(second.keys() - first.keys())
    note = f"computed: {len(first)} shots, then {new} of {len(second)}; grey: their key was there"
    height = TOP + len(rows) * (TALL + 16) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{STYLE}\n  .plain {{ fill: none; stroke: #8c959f }}\n</style>",
        f'<text class="title" x="16" y="24">{escape(title)}</text>',
        f'<text class="dim" x="16" y="44">{escape(note)}</text>',
    ]
    for number, (name, windows) in enumerate(rows):
        top = TOP + number * (TALL + 16)
        parts.append(
            f'<text x="{LEFT - 14}" y="{top + TALL / 2 + 4}" text-anchor="end">{escape(name)}</text>'
        )
        for window, kind in windows:
            x = LEFT + window.start / length * WIDTH
            wide = max(2.0, (window.end - window.start) / length * WIDTH - 2)
            told = f"{window.start:g} to {window.end:g} s"
            parts.append(
                f'<rect class="{kind}" x="{x:.1f}" y="{top}" width="{wide:.1f}" height="{TALL}" rx="3">'
                f"<title>{told}</title></rect>"
            )
    bottom = TOP + len(rows) * (TALL + 16) + 6
    for seconds in range(0, int(length) + 1, 10):
        x = LEFT + seconds / length * WIDTH
        parts.append(f'<text class="dim" x="{x:.1f}" y="{bottom}" text-anchor="middle">{seconds} s</text>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    main()
