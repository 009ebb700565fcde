"""Features that come as source text, loaded as a module of their own.

What is loaded has the code digests that it had where it was written (`core.fingerprint`): the module's name
and place count for nothing there, and the text is at hand for whoever reads source (`linecache`). The same
text is loaded once. Whose text is run here is decided by the caller. Must not know: HTTP, who sends it.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import linecache
import re
import sys
import traceback
from dataclasses import dataclass
from types import ModuleType

from amber_ray.core.fingerprint.source import file_of
from amber_ray.errors import UnfitCode

SENT = "__amber_sent__"
"""In a module that was made from a text: that it is no file's, so that it travels by value."""
KEPT = 256
"""Modules of texts that stay loaded; one that went is loaded again."""

_loaded: dict[str, ModuleType] = {}


@dataclass(frozen=True, slots=True)
class SourceText:
    """One module's text.

    - `name`: what people call it, for messages and tracebacks: a file's own name, or "notebook";
    - `package`: the package that its relative imports start from; empty for none;
    - `filed`: whether the module was made from a file where it was written. The digest of a class or constant
      without code of its own hangs on that.
    """

    name: str
    text: str
    package: str = ""
    filed: bool = False


def load_text(source: SourceText) -> ModuleType:
    """The module that a text makes. Raises `UnfitCode`, naming the line, for whatever goes wrong in it."""
    digest = hashlib.blake2b(
        repr((source.name, source.text, source.package, source.filed)).encode("utf-8", "surrogatepass"),
        digest_size=8,
    ).hexdigest()
    known = _loaded.pop(digest, None)
    if known is not None:
        _loaded[digest] = known
        return known
    stem = f"{re.sub(r'[^A-Za-z0-9_]', '_', source.name.removesuffix('.py'))}_{digest}"
    module = ModuleType(f"{source.package}.{stem}" if source.package else f"amber_sent_{stem}")
    # Not a path: no folder is this code's own, as none is of code that was typed in.
    place = f"{source.name.replace('/', '_')} (sent {digest})"
    setattr(module, SENT, True)
    if source.package:
        module.__package__ = source.package
        module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None)
    if source.filed:
        module.__file__ = place
    lines = source.text.splitlines(keepends=True)
    # Without a time, so that nobody looks for a file of that name.
    linecache.cache[place] = (len(source.text), None, lines, place)
    sys.modules[module.__name__] = module
    try:
        exec(compile(source.text, place, "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        _forget(module, place)
        raise UnfitCode(_said(source, place, lines, error)) from error
    except BaseException:
        _forget(module, place)
        raise
    assert file_of(module.__name__) == (place if source.filed else "")
    _loaded[digest] = module
    while len(_loaded) > KEPT:
        oldest = _loaded.pop(next(iter(_loaded)))
        sys.modules.pop(oldest.__name__, None)
    return module


def _forget(module: ModuleType, place: str) -> None:
    sys.modules.pop(module.__name__, None)
    linecache.cache.pop(place, None)


def _said(source: SourceText, place: str, lines: list[str], error: BaseException) -> str:
    """What went wrong, with the last line of the text that was reached."""
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == place else None
    for frame, at in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename == place:
            line = at
    where, shown = source.name, ""
    if line is not None and 0 < line <= len(lines):
        where = f"{source.name}:{line}"
        shown = f" in {lines[line - 1].strip()[:200]!r}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return (
            f"{where}: there is no module {error.name!r} where this code is to run{shown}; "
            "install it there, or do without it"
        )
    return f"{where}: the code can't be loaded: {type(error).__name__}: {error}{shown}"
