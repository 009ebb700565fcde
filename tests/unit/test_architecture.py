"""The shape of the code: who may import whom, and what the core and the shell must not touch.

Each rule is a function from parsed modules to the list of its breaches. It is run twice: on the package,
where it must find nothing, and on a small broken package, where it must find the breach.
"""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "amber_ray"
Modules = Mapping[str, ast.Module]
Rule = Callable[[Modules], list[str]]

# A room may import from rooms with a smaller number, and from itself. Rooms inside `core` and `fabric` are
# rooms of their own, in the order in which their parent says they are to be read.
LEVELS = {
    "errors": 0,
    "settings": 1,
    "samples": 1,
    "core": 2,
    "core.values": 10,
    "core.model": 11,
    "core.fingerprint": 12,
    "core.declare": 13,
    "core.planning": 14,
    "core.state": 15,
    "core.scheduler": 16,
    "core.ledger": 17,
    "core.deliveries": 18,
    "store": 20,
    "wire": 21,
    "media": 21,
    "features": 30,
    "fabric": 40,
    "fabric.heap": 40,
    "fabric.transport": 41,
    "fabric.worker": 42,
    "fabric.shard": 43,
    "fabric.engine": 44,
    "fabric.demands": 45,
    "fabric.adapter": 46,
    "serving": 50,
    "client": 50,
    "testing": 55,
    "cli": 60,
    "": 70,  # amber_ray/__init__.py
}
NESTED = ("core", "fabric")
IMPURE = {
    *("asyncio", "datetime", "multiprocessing", "os", "pathlib", "random", "ray", "secrets", "shutil"),
    *("socket", "subprocess", "tempfile", "threading", "time", "uuid", "concurrent"),
}
# The shell stands on ports: the simulation runs it on virtual time, in one process, and no other way.
SHELL = ("fabric.shard", "fabric.engine", "fabric.demands")
PORTED = {"concurrent", "os", "random", "ray", "threading", "time", "uuid"}
# The command is one too; `client.embedded` is where `connect()` starts a Ray of its own.
ENTRY_POINTS = ("serving.deployment", "client.embedded")
VAGUE = {"utils", "util", "helpers", "common", "misc"}
HEAVY = ("av", "numpy", "pyarrow", "ray", "torch", "torchvision")


def parse(root: Path) -> dict[str, ast.Module]:
    """Modules by their dotted name below the package; an `__init__` has its directory's name."""
    modules = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules[name] = ast.parse(path.read_text(), str(path))
    return modules


@functools.cache
def package() -> dict[str, ast.Module]:
    """The modules of Amber itself."""
    return parse(PACKAGE)


@functools.cache
def imported(tree: ast.Module) -> tuple[tuple[int, str], ...]:
    """Line and full name of every import: at any depth, for typing only, and by `import_module("...")`."""
    return tuple(_imported(tree))


def _imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from ((node.lineno, alias.name) for alias in node.names)
            case ast.ImportFrom():
                base = "." * node.level + (node.module or "")
                yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name


def inner(modules: Modules, name: str) -> str | None:
    """The module of the package that an imported name lives in; None for other packages."""
    if name != "amber_ray" and not name.startswith("amber_ray."):
        return None
    path = name.removeprefix("amber_ray").removeprefix(".")
    while path and path not in modules:
        path = path.rpartition(".")[0]
    return path


def room(module: str) -> str:
    """The room of a module: its first folder, or the first two where rooms are nested."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] in NESTED else parts[0]


def upward_imports(modules: Modules) -> list[str]:
    breaches = []
    for module, tree in modules.items():
        for line, name in imported(tree):
            target = inner(modules, name)
            if target is None or room(target) == room(module):
                continue
            if LEVELS[room(target)] >= LEVELS[room(module)]:
                breaches.append(f"{module}:{line} imports {name}, which is not below it")
    return breaches


def unknown_rooms(modules: Modules) -> list[str]:
    return [f"{module} is in no room of the design" for module in modules if room(module) not in LEVELS]


def relative_imports(modules: Modules) -> list[str]:
    return [
        f"{module}:{line} imports {name}"
        for module, tree in modules.items()
        for line, name in imported(tree)
        if name.startswith(".")
    ]


def import_cycles(modules: Modules) -> list[str]:
    edges = {
        module: {
            target
            for _, name in imported(tree)
            if (target := inner(modules, name)) is not None and target != module
        }
        for module, tree in modules.items()
    }
    done: set[str] = set()
    breaches = []

    def visit(module: str, trail: tuple[str, ...]) -> None:
        if module in trail:
            breaches.append(" imports ".join((*trail[trail.index(module) :], module)))
        elif module not in done:
            for target in sorted(edges[module]):
                visit(target, (*trail, module))
            done.add(module)

    for module in edges:
        visit(module, ())
    return breaches


def impure_core(modules: Modules) -> list[str]:
    breaches = []
    for module, tree in modules.items():
        if module.partition(".")[0] != "core":
            continue
        breaches += [
            f"{module}:{line} imports {n}" for line, n in imported(tree) if n.split(".")[0] in IMPURE
        ]
        breaches += [
            f"{module}:{node.lineno} opens a file"
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open"
        ]
    return breaches


def ray_outside_fabric(modules: Modules) -> list[str]:
    return [
        f"{module}:{line} imports {name}"
        for module, tree in modules.items()
        if module.partition(".")[0] != "fabric" and module != "serving.deployment"
        for line, name in imported(tree)
        if name.split(".")[0] == "ray"
    ]


def shell_without_ports(modules: Modules) -> list[str]:
    """What a shard or an engine may not do itself, since a port does it."""
    ray = {
        module for module, tree in modules.items() if any(n.split(".")[0] == "ray" for _, n in imported(tree))
    }
    breaches = []
    for module, tree in modules.items():
        if room(module) not in SHELL:
            continue
        for line, name in imported(tree):
            target = inner(modules, name)
            if name.split(".")[0] in PORTED or name == "asyncio.to_thread":
                breaches.append(f"{module}:{line} imports {name}, for which there is a port")
            elif target in ray:
                breaches.append(f"{module}:{line} imports {name}, which imports ray")
            elif room(module) == "fabric.engine" and target and room(target) == "fabric.shard":
                breaches.append(f"{module}:{line} imports {name}: an engine knows shards by its ports")
        for node in ast.walk(tree):
            match node:
                case ast.Attribute(attr="to_thread" | "run_in_executor"):
                    breaches.append(f"{module}:{node.lineno} uses {node.attr}, for which there is a port")
    return breaches


def environment_reads(modules: Modules) -> list[str]:
    breaches = []
    for module, tree in modules.items():
        if room(module) == "cli" or module in ENTRY_POINTS:
            continue
        for line, name in imported(tree):
            if name in ("os.environ", "os.getenv"):
                breaches.append(f"{module}:{line} imports {name}")
        for node in ast.walk(tree):
            match node:
                case ast.Attribute(value=ast.Name(id="os"), attr="environ" | "getenv" | "environb"):
                    breaches.append(f"{module}:{node.lineno} uses os.{node.attr}")
    return breaches


def vague_names(modules: Modules) -> list[str]:
    return [f"{module} is named for no noun" for module in modules if module.rpartition(".")[2] in VAGUE]


def pickles_from_the_wire(modules: Modules) -> list[str]:
    return [
        f"{module}:{line} imports {name}"
        for module, tree in modules.items()
        if room(module) in ("serving", "client", "wire")
        for line, name in imported(tree)
        if name.split(".")[0] in ("pickle", "cloudpickle", "marshal", "shelve", "dill")
    ]


def loaded_by(statement: str, *, path: Path) -> set[str]:
    """Which heavy packages a fresh interpreter has loaded after `statement`."""
    script = f"{statement}\nimport sys\nprint(*(sys.modules.keys() & {set(HEAVY)}))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


# Each rule with a package that breaks it, and what the rule must say of it.
BROKEN: list[tuple[Rule, dict[str, str], str]] = [
    (
        upward_imports,
        {
            "core/planning/plan.py": "def f():\n    from amber_ray.store.parquet import ValueStore\n",
            "store/parquet.py": "",
        },
        "core.planning.plan:2 imports amber_ray.store.parquet.ValueStore",
    ),
    (
        upward_imports,
        {
            "core/planning/plan.py": "import importlib\n"
            "importlib.import_module('amber_ray.fabric.engine.engine')\n",
            "fabric/engine/engine.py": "",
        },
        "core.planning.plan:2 imports amber_ray.fabric.engine",
    ),
    (
        upward_imports,
        {"store/parquet.py": "from amber_ray.media import catalogue\n", "media/catalogue.py": ""},
        "store.parquet:1 imports amber_ray.media.catalogue",
    ),
    (
        upward_imports,
        {"client/http.py": "from amber_ray.serving.app import app\n", "serving/app.py": ""},
        "client.http:1 imports amber_ray.serving.app.app",
    ),
    (
        upward_imports,
        {"features/frames.py": "from amber_ray import feature\n", "__init__.py": ""},
        "features.frames:1 imports amber_ray.feature",
    ),
    (unknown_rooms, {"tools/clock.py": ""}, "tools.clock"),
    (
        relative_imports,
        {"core/planning/plan.py": "from . import keys\n", "core/planning/keys.py": ""},
        "core.planning.plan:1 imports ..keys",
    ),
    (
        import_cycles,
        {
            "core/ledger/a.py": "from amber_ray.core.ledger import b\n",
            "core/ledger/b.py": "def f():\n    import amber_ray.core.ledger.a\n",
        },
        "core.ledger.a imports core.ledger.b imports core.ledger.a",
    ),
    (
        import_cycles,
        {
            "core/ledger/a.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
            "    from amber_ray.core.ledger.b import B\n",
            "core/ledger/b.py": "from amber_ray.core.ledger import a\n",
        },
        "core.ledger.a imports core.ledger.b imports core.ledger.a",
    ),
    (
        impure_core,
        {"core/ledger/ledger.py": "from time import monotonic\n"},
        "core.ledger.ledger:1 imports time.monotonic",
    ),
    (
        impure_core,
        {"core/ledger/ledger.py": "def f():\n    import os.path\n"},
        "core.ledger.ledger:2 imports os.path",
    ),
    (
        impure_core,
        {"core/fingerprint/live.py": "text = open('a').read()\n"},
        "core.fingerprint.live:1 opens a file",
    ),
    (ray_outside_fabric, {"store/parquet.py": "def f():\n    import ray\n"}, "store.parquet:2 imports ray"),
    (ray_outside_fabric, {"serving/app.py": "from ray import serve\n"}, "serving.app:1 imports ray.serve"),
    (
        shell_without_ports,
        {"fabric/shard/spill.py": "def f():\n    from time import monotonic\n"},
        "fabric.shard.spill:2 imports time.monotonic",
    ),
    (
        shell_without_ports,
        {"fabric/engine/engine.py": "import asyncio\nasync def f():\n    await asyncio.to_thread(print)\n"},
        "fabric.engine.engine:3 uses to_thread",
    ),
    (
        shell_without_ports,
        {"fabric/shard/spill.py": "async def f(loop):\n    await loop.run_in_executor(None, print)\n"},
        "fabric.shard.spill:2 uses run_in_executor",
    ),
    (
        shell_without_ports,
        {
            "fabric/shard/dispatch.py": "from amber_ray.fabric.worker import tasks\n",
            "fabric/worker/tasks.py": "import ray.cloudpickle\n",
        },
        "fabric.shard.dispatch:1 imports amber_ray.fabric.worker.tasks, which imports ray",
    ),
    (
        shell_without_ports,
        {
            "fabric/engine/requests.py": "from amber_ray.fabric.shard.records import Record\n",
            "fabric/shard/records.py": "",
        },
        "fabric.engine.requests:1 imports amber_ray.fabric.shard.records.Record",
    ),
    (
        environment_reads,
        {"media/locate.py": "import os\nx = os.environ['A']\n"},
        "media.locate:2 uses os.environ",
    ),
    (environment_reads, {"media/locate.py": "from os import getenv\n"}, "media.locate:1 imports os.getenv"),
    (vague_names, {"store/utils.py": ""}, "store.utils"),
    (pickles_from_the_wire, {"wire/views.py": "import pickle\n"}, "wire.views:1 imports pickle"),
]
RULES = list(dict.fromkeys(rule for rule, _, _ in BROKEN))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps(rule: Rule) -> None:
    modules = package()
    assert len(modules) > 10
    assert rule(modules) == []


@pytest.mark.parametrize(("rule", "files", "breach"), BROKEN, ids=lambda x: getattr(x, "__name__", ""))
def test_a_breach_is_found(rule: Rule, files: dict[str, str], breach: str, tmp_path: Path) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = rule(parse(tmp_path))
    assert len(found) == 1
    assert breach in found[0]


@pytest.mark.parametrize(
    "module", ["amber_ray", "amber_ray.client", "amber_ray.errors", "amber_ray.settings"]
)
def test_importing_is_light(module: str) -> None:
    assert loaded_by(f"import {module}", path=PACKAGE.parent) == set()


@pytest.mark.parametrize(
    "module",
    ["amber_ray.fabric.engine.engine", "amber_ray.fabric.shard.shard", "amber_ray.fabric.worker.warm"],
)
def test_shell_and_workers_are_imported_without_ray(module: str) -> None:
    assert "ray" not in loaded_by(f"import {module}", path=PACKAGE.parent)


def test_a_heavy_import_is_found(tmp_path: Path) -> None:
    (tmp_path / "light.py").write_text("import ray\n")
    (tmp_path / "ray.py").write_text("")
    assert loaded_by("import light", path=tmp_path) == {"ray"}
