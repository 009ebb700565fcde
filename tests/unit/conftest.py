"""What a test of code that loads modules from files would leave to the next one in its process."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _own_modules(request: pytest.FixtureRequest) -> Iterator[None]:
    """Forget what a test has loaded from its folder and put on Python's path: others use the same names."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    folder = request.node.funcargs.get("tmp_path")
    for name in set(sys.modules) - modules if folder else ():
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
