"""`amber graph`: the graph of features as a tree of text, in Graphviz's or in Mermaid's language."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping

from amber_ray.cli.registered import infos_of, known
from amber_ray.cli.terminal import say
from amber_ray.core.model.service import FeatureInfo
from amber_ray.core.model.units import is_found

Graph = Mapping[str, FeatureInfo]


def run(args: argparse.Namespace) -> int:
    """Draw what one feature stands on, or the whole graph."""
    graph = {info.name: info for info in infos_of(args)}
    if args.feature is not None:
        graph = {name: graph[name] for name in below(graph, known(graph, args.feature))}
    draw = dot if args.dot else mermaid if args.mermaid else tree
    for line in draw(graph):
        say(line)
    return 0


def below(graph: Graph, name: str) -> list[str]:
    """A feature and all that it stands on, inputs first."""
    found: dict[str, None] = {}

    def visit(one: str) -> None:
        if one not in found:
            for needed in needs(graph[one]):
                visit(needed)
            found[one] = None

    visit(name)
    return list(found)


def needs(info: FeatureInfo) -> tuple[str, ...]:
    """Its inputs, and its finder if it is for each range of one."""
    return (*info.inputs, info.per) if is_found(info.per) and info.per not in info.inputs else info.inputs


def roots(graph: Graph) -> list[str]:
    """The features that no other takes."""
    taken = {name for info in graph.values() for name in needs(info)}
    return sorted(set(graph) - taken)


def tree(graph: Graph) -> Iterator[str]:
    """Each root with what it needs indented under it; what was drawn before is named and not unfolded."""
    drawn: set[str] = set()

    def lines(name: str, first: str, rest: str) -> Iterator[str]:
        info = graph[name]
        again = name in drawn and bool(needs(info))
        yield f"{first}{label(info)}{'  (see above)' if again else ''}"
        if again:
            return
        drawn.add(name)
        below = needs(info)
        for i, needed in enumerate(below):
            last = i == len(below) - 1
            yield from lines(needed, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))

    for root in roots(graph):
        yield from lines(root, "", "")


def label(info: FeatureInfo) -> str:
    """Name, version, unit, and what is particular: resources beyond one CPU, calls, not being stored."""
    parts = [info.name, info.version, f"per {info.per}"]
    parts += [f"{n}={a:g}" for n, a in wants(info.resources) if (n, a) != ("CPU", 1.0)]
    parts += [f"{n}={info.calls[n]}" for n in ("concurrency", "rate") if n in info.calls]
    if info.store != "parquet":
        parts.append({"never": "not stored", "memory": "in memory only"}.get(info.store, info.store))
    return "  ".join(parts)


def wants(resources: Mapping[str, object]) -> Iterable[tuple[str, float]]:
    """The amounts among a feature's resources, zeros left out."""
    return [(n, float(a)) for n, a in resources.items() if isinstance(a, int | float) and a]


def dot(graph: Graph) -> Iterator[str]:
    """For `dot -Tsvg`; an arrow leads from an input to what takes it, a dashed one from a finder."""
    yield "digraph amber {"
    yield "  rankdir=LR; node [shape=box, style=rounded, fontname=sans];"
    for name, info in sorted(graph.items()):
        shape = {"asset": "box, peripheries=2", "collection": "folder"}.get(info.per, "box")
        yield f'  "{name}" [label="{name}\\n{info.version}, per {info.per}", shape={shape}];'
    for name, info in sorted(graph.items()):
        for input_name in info.inputs:
            yield f'  "{input_name}" -> "{name}";'
        if is_found(info.per):
            yield f'  "{info.per}" -> "{name}" [style=dashed, label=each];'
    yield "}"


def mermaid(graph: Graph) -> Iterator[str]:
    """For a Markdown block marked `mermaid`."""
    yield "graph LR"
    for name, info in sorted(graph.items()):
        yield f'  {name}["{name}<br/>{info.version}, per {info.per}"]'
    for name, info in sorted(graph.items()):
        for input_name in info.inputs:
            yield f"  {input_name} --> {name}"
        if is_found(info.per):
            yield f"  {info.per} -. each .-> {name}"
