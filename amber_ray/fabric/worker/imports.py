"""Imports that a cancelled step has broken off, made whole again.

Ray cancels a task by an interrupt, which may come in the midst of the first `import av` of a worker. Python
then forgets `av`, but not those of its modules that were loaded already. The next `import av` finds them,
seems to succeed, and has no `av.error`: every later step of that worker that looks for it fails, for whoever
asked. Modules without their package are forgotten as well, so that the next import begins anew.
Must not know: tasks, which libraries there are.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Set


@contextlib.contextmanager
def made_whole() -> Iterator[None]:
    """Run something that may be interrupted while it imports."""
    before = set(sys.modules)
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception):
            _forget_halves(before)
        raise


def _forget_halves(known: Set[str]) -> None:
    """Forget modules that are new and whose package is not loaded, as an interrupted import leaves them."""

    def half(name: str) -> bool:
        return "." in name and name not in known and name.rpartition(".")[0] not in sys.modules

    while halves := [name for name in sys.modules if half(name)]:
        for name in halves:
            del sys.modules[name]
