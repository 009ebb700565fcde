"""Run every benchmark on one cluster; write RESULTS.md and a picture of it (`make bench`)."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bounds import reasons
from benchmarks.chart import chart
from benchmarks.measure import Measured, shown
from benchmarks.session import Session, argument_parser, opened

RESULTS = Path(__file__).parent / "RESULTS.md"
CHART = Path(__file__).parents[1] / "docs/benchmarks.svg"


def run(session: Session) -> list[Measured]:
    """All of them, each printed as it ends. Imported here: Ray reads its environment when it is imported."""
    from benchmarks import (
        arrays,
        bulk_write,
        calls,
        catalogue,
        cold_graph,
        core,
        decoding,
        export,
        film,
        found_units,
        get_many,
        growth,
        hot_read,
        noop_graph,
        pictures,
        scaling,
        shot_decoding,
        small_assets,
        spill_restore,
        stampede,
        start,
        telemetry,
        volume,
        warm,
    )

    measured: list[Measured] = []
    small_things = (
        stampede,
        hot_read,
        telemetry,
        get_many,
        export,
        arrays,
        noop_graph,
        volume,
        found_units,
        calls,
    )
    large_things = (
        spill_restore,
        bulk_write,
        start,
        small_assets,
        pictures,
        decoding,
        film,
        shot_decoding,
        cold_graph,
        catalogue,
        warm,
        core,
        scaling,
        growth,
    )
    for module in (*small_things, *large_things):
        for one in module.run(session):
            print(one.line(), flush=True)
            measured.append(one)
    return measured


def table(measured: Sequence[Measured], *, where: str, small: bool) -> str:
    """The page that is kept in the repository."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("ray", "pyarrow", "numpy"))
    lines = [
        "# Benchmark results",
        "",
        "Each row compares Amber with a peer that was measured in the same run. Smaller is better; read",
        "the ratios, not the times: the machine was doing other things as well. A ratio in bold is above",
        "its limit. `make bench` writes this page and [the picture](../docs/benchmarks.svg) from one run.",
        "In a cluster of the benchmarks' own, Ray's",
        "workers run at the priority of the peers (`RAY_worker_niceness=0`); with Ray's default of 15 they",
        "step back behind whatever else the machine does. What they mean together:",
        "[docs/speed.md](../docs/speed.md).",
        "",
        f"{datetime.date.today().isoformat()}, {where}, Python {platform.python_version()}, {versions}."
        + (" A small run: it shows that everything works and measures little." if small else ""),
        "",
        "| benchmark | ratio | limit | Amber | peer | measured | against |",
        "|---|---:|---:|---:|---:|---|---|",
    ]
    for m in measured:
        ratio = f"{m.ratio:.2f}" if m.within else f"**{m.ratio:.2f}**"
        ours, peer = shown(m.ours, m.unit), shown(m.peer, m.unit)
        lines.append(f"| {m.name} | {ratio} | {m.limit:g} | {ours} | {peer} | {m.what} | {m.against} |")
    if missed := reasons(measured):
        lines += ["", "## Above their limit, and what bounds them", "", *missed]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 1 if a ratio is above its limit."""
    parser = argument_parser()
    parser.add_argument("--output", type=Path, default=RESULTS, help="the page to write")
    parser.add_argument("--chart", type=Path, default=CHART, help="the picture to write")
    given = parser.parse_args(arguments)
    where = f"the cluster at {given.address}" if given.address else f"one machine with {os.cpu_count()} CPUs"
    with opened(given) as session:
        measured = run(session)
    given.output.write_text(table(measured, where=where, small=given.small))
    title = f"Amber against its peers, {datetime.date.today().isoformat()}, {where}"
    given.chart.write_text(chart(measured, title + (" (a small run)" if given.small else "")))
    print(f"wrote {given.output} and {given.chart}")
    return 0 if all(m.within for m in measured) else 1


if __name__ == "__main__":
    raise SystemExit(main())
