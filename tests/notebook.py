"""A notebook: a module without a file, whose cells are known to `linecache`, as IPython has it."""

from __future__ import annotations

import itertools
import linecache
import sys
import textwrap
import types
from typing import Any

NUMBERS = itertools.count()
HEAD = """
from amber_ray import Asset, feature
"""


class Notebook:
    """Cells that are run one after the other in one namespace."""

    def __init__(self) -> None:
        self.module = types.ModuleType(f"notebook_{next(NUMBERS)}")
        sys.modules[self.module.__name__] = self.module
        self.run(HEAD)

    def run(self, cell: str) -> Notebook:
        text = textwrap.dedent(cell)
        file = f"<cell-{next(NUMBERS)}>"
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        exec(compile(text, file, "exec", dont_inherit=True), vars(self.module))
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)
