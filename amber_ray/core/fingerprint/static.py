"""What code reaches in modules that need not be loaded: followed in their source, by name.

A function that imports its helpers when it is called must have the same digest before and after that. So such
modules are read, never imported, and their constants count by the statements that make them. Here is also
decided which modules are the target's own. Must not know: features, live objects.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import resolve_name

from amber_ray.core.fingerprint.source import (
    DEFINITIONS,
    Chain,
    Source,
    Uses,
    file_of,
    installed,
    package_of,
    read,
    root_of,
    uses,
    uses_of,
)


class Unloaded:
    """Follows names through source and leaves a line for each thing it reaches in `lines`.

    What is still to be followed is put into `todo`, so that long chains of helpers need no deep recursion.
    """

    def __init__(self, target: str, todo: list[Callable[[], None]]) -> None:
        self.lines: set[str] = set()
        self.root = root_of(target)
        self._target = target
        self._todo = todo
        self._own: dict[str, bool] = {}
        self._read: set[tuple[str, ...]] = set()

    def owns(self, module: str) -> bool:
        """Whether a module is of the target's package or project (the folder that its package lies in)."""
        known = self._own.get(module)
        if known is None:
            top = module.partition(".")[0]
            if top == self._target.partition(".")[0]:
                known = True
            elif not top or top == "amber_ray" or top in sys.stdlib_module_names:
                known = False
            else:
                root = root_of(top)
                # Code that was typed in lies in no folder: whatever is not installed is its own.
                known = bool(root) and not installed(root) and self.root in ("", root)
            self._own[module] = known
        return known

    def label(self, module: str) -> str:
        """A module's name; the target's own is a dot, since a file may be loaded under any name."""
        return "." if module == self._target else module

    def outside(self, module: str, chain: Chain = ()) -> None:
        """Note a name of someone else's module."""
        self.lines.add(f"outside {'.'.join((module, *chain))}")

    def imported(self, package: str, level: int, module: str, chain: Chain) -> None:
        """Follow what `from module import chain[0]` would bring, and its attributes `chain[1:]`."""
        try:
            name = resolve_name("." * level + module, package) if level else module
        except ImportError:
            return  # beyond the top-level package: it can't be imported either
        if not self.owns(name):
            self.outside(name, chain)
        elif not chain:
            self.whole(name)
        elif not self.bound(name, chain):
            inner = f"{name}.{chain[0]}"
            if file_of(inner):
                self.imported("", 0, inner, chain[1:])
            else:
                self.lines.add(f"no {inner}")

    def bound(self, module: str, chain: Chain) -> bool:
        """Follow the statements that bind a module's name; False if there are none to be read."""
        name = chain[0]
        source = read(file_of(module))
        if source is None or (name.startswith("__") and name.endswith("__")):
            return False
        statements = source.bound.get(name, ())
        if (module, *chain) not in self._read:
            self._read.add((module, *chain))
            for statement in statements:
                self._todo.append(partial(self._statement, source, module, statement, chain))
            if not statements:
                for level, star in source.stars:
                    self._todo.append(partial(self.imported, package_of(module), level, star, chain))
        return bool(statements or source.stars)

    def whole(self, module: str) -> None:
        """A module that is used as a value: any of its names may be meant."""
        source = read(file_of(module))
        self.lines.add(f"module {self.label(module)}\n{source.text(source.tree) if source else ''}")

    def _statement(self, source: Source, module: str, statement: ast.stmt, chain: Chain) -> None:
        name, rest = chain[0], chain[1:]
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                # `import a.b` binds a, `import a.b as name` binds b.
                if name == (alias.asname or alias.name.partition(".")[0]):
                    self.imported("", 0, alias.name if alias.asname else name, rest)
        elif isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if name == (alias.asname or alias.name):
                    home = statement.module or ""
                    self.imported(package_of(module), statement.level, home, (alias.name, *rest))
        elif isinstance(statement, DEFINITIONS):
            word = "class" if isinstance(statement, ast.ClassDef) else "def"
            self.lines.add(f"{word} {self.label(module)}.{name}\n{source.text(statement)}")
            for code in source.codes_of(statement):
                self._follow(module, uses(code))
            for expression in source.around(statement):
                self._follow(module, uses_of(expression))
        else:
            self.lines.add(f"bind {self.label(module)}.{name}\n{source.text(statement)}")
            self._follow(module, uses_of(statement))

    def _follow(self, module: str, used: Uses) -> None:
        for chain in used.globals:
            self.bound(module, chain)
        for level, name, chain in used.imports:
            self.imported(package_of(module), level, name, chain)
