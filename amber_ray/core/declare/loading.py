"""Modules that declare features, loaded by their dotted name or from a `.py` file.

A file becomes a module named after it, so that a neighbour that imports it by that name finds the same
features. Where the name is taken, it gets one that follows from its path. Must not know: what features are.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import importlib.util
import re
import sys
import traceback
from types import ModuleType

from amber_ray.core.fingerprint.source import file_of, installed
from amber_ray.errors import DeclarationError

_TEXT = "__amber_text__"
"""In a module that was loaded from a path: the bytes it was made from, to notice that they have changed."""


def load(name: str) -> ModuleType:
    """A module by its name or path. Whatever goes wrong in it is a `DeclarationError` with file and line."""
    try:
        return _load_file(_absolute(name)) if name.endswith(".py") else importlib.import_module(name)
    except DeclarationError as error:
        raise DeclarationError(f"{_place(error)}{error}") from error
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise DeclarationError(
                f"there is no feature module {name!r}; give a module that can be imported, or a .py file"
            ) from error
        raise _failed(name, error) from error
    except (Exception, SystemExit) as error:
        raise _failed(name, error) from error


def _load_file(path: str) -> ModuleType:
    stem = path.rpartition("/")[2].removesuffix(".py")
    if not stem.isidentifier() or file_of(stem) not in ("", path):
        own = hashlib.blake2b(path.encode(), digest_size=4).hexdigest()
        stem = f"{re.sub(r'[^A-Za-z0-9_]', '_', stem)}_{own}"
    loader = importlib.machinery.SourceFileLoader(stem, path)
    try:
        text = loader.get_data(path)
    except OSError as error:
        raise DeclarationError(f"feature module {path!r} can't be read: {error.strerror}") from error
    known = sys.modules.get(stem)
    if known is not None and getattr(known, _TEXT, text) == text:
        return known
    spec = importlib.util.spec_from_file_location(stem, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    folder = path.rpartition("/")[0]
    if folder not in sys.path:
        sys.path.append(folder)  # its neighbours; after what is installed
    sys.modules[stem] = module
    try:
        # Not by the loader: its cached bytecode goes by whole seconds, and this file may just have changed.
        exec(loader.source_to_code(text, path), vars(module))
    except BaseException:
        if known is None:
            del sys.modules[stem]
        else:
            sys.modules[stem] = known
        raise
    setattr(module, _TEXT, text)
    return module


def _absolute(path: str) -> str:
    """The one way to write a path, links left as they are."""
    found = importlib.util.spec_from_file_location("_", path)
    parts: list[str] = []
    for part in (found.origin if found and found.origin else path).split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def _failed(name: str, error: BaseException) -> DeclarationError:
    return DeclarationError(
        f"{_place(error)}feature module {name!r} can't be loaded: {type(error).__name__}: {error}"
    )


def _place(error: BaseException) -> str:
    """`file:line: ` of the user's statement that raised; empty where no file of the user's was reached."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: "
    ours = __name__.partition(".")[0]
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        file = frame.f_code.co_filename
        top = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if top != ours and not file.startswith("<") and not installed(file):
            return f"{file}:{line}: "
    return ""
