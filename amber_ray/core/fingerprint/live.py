"""The digest of a feature's code: of itself and of everything of its own package that it reaches.

An omitted version is derived from it, and `amber check` compares it under an explicit one. Reached are
functions, classes and constants, through names, `module.name`, closures, defaults, decorators, base
classes and partials, however deep; other names of the same modules do not count. Source is normalised, so
comments, formatting, docstrings and the arguments of `@feature` change nothing. What lies outside the
package (numpy, the standard library) contributes its name: its versions are pinned elsewhere.

Live objects are followed, since constants and closures have their values there. What a function imports when
it is called is followed in source instead (`core.fingerprint.static`): it may not be loaded yet, and the
digest must not hang on that. Must not know: features, registries.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from amber_ray.core.fingerprint.constants import Constants, is_code
from amber_ray.core.fingerprint.source import Source, Uses, codes, file_of, read, uses, uses_of
from amber_ray.core.fingerprint.static import Unloaded

FORMAT = 1
_WRAPPING = (functools.partial, functools.partialmethod, functools.cached_property, property)
_Home = tuple[str, str]
"""Where a global is bound: its module and its name there."""


def digest(target: Callable[..., Any]) -> str:
    """BLAKE2b-128, in hex, of the code that `target` reaches now. The same in every process.

    Names that are not bound yet are not reached: ask once the module has been loaded.
    """
    state = hashlib.blake2b(f"amber-code/{FORMAT}".encode(), digest_size=16)
    for line in sorted(_Walk(target).lines):
        data = line.encode("utf-8", "surrogatepass")
        state.update(len(data).to_bytes(8, "big") + data)
    return state.hexdigest()


class _Walk:
    """Collects one line for each thing reached. Their order does not matter, so neither do cycles."""

    def __init__(self, target: Callable[..., Any]) -> None:
        # A list in place of recursion: helpers may call helpers a thousand deep.
        self._todo: list[Callable[[], None]] = []
        self._source = Unloaded(target.__module__, self._todo)
        self._constants = Constants(self._reach, self._source.root)
        self.lines = self._source.lines
        # Kept alive while the walk lasts, or an id could be given out twice.
        self._seen: dict[int, Any] = {}
        self._visit(target)
        while self._todo:
            self._todo.pop()()

    # --- live objects

    def _visit(self, thing: Any) -> None:
        if id(thing) not in self._seen:
            self._seen[id(thing)] = thing
            self._todo.append(functools.partial(self._expand, thing))

    def _reach(self, thing: Any) -> str:
        """Follow a function or class, and name it."""
        self._visit(thing)
        module = getattr(thing, "__module__", None) or type(thing).__module__
        return f"{self._source.label(module)}.{getattr(thing, '__qualname__', type(thing).__qualname__)}"

    def _expand(self, thing: Any) -> None:
        """Follow a function, a class, or what stands around one."""
        if isinstance(thing, types.FunctionType):
            self._function(thing)
        elif isinstance(thing, type):
            self._class(thing)
        elif isinstance(thing, (staticmethod, classmethod)):
            self._visit(thing.__func__)
        elif isinstance(thing, types.MethodType):
            self._visit(thing.__func__)
            self._value("self", thing.__self__)
        elif isinstance(thing, property):
            for part in (thing.fget, thing.fset, thing.fdel):
                self._visit(part)
        elif isinstance(thing, (functools.partial, functools.partialmethod)):
            self._visit(thing.func)
            self._value("partial", (thing.args, dict(thing.keywords)))
        elif isinstance(thing, functools.cached_property):
            self._visit(thing.func)
        elif is_code(thing):
            self.lines.add(f"outside {_qualified(thing)}")
            owner = getattr(thing, "__self__", None)
            if owner is not None and not isinstance(owner, types.ModuleType):
                self._value("self", owner)  # PATTERN.match
        # Such as the wrapper of functools.cache, which is no function.
        if not isinstance(thing, type) and "__wrapped__" in getattr(thing, "__dict__", ()):
            self._visit(thing.__wrapped__)

    def _value(self, label: str, value: Any, home: _Home | None = None) -> None:
        """Follow what a name stands for: code to its source, data to its content."""
        self._visit(value)
        if isinstance(value, _WRAPPING) or is_code(value):
            return
        self.lines.add(f"{label} = {self._constants.text(value)}")
        if self._constants.opaque and home is not None:
            # A model, a compiled function: the statement that made it tells more than its type.
            self._source.bound(home[0], home[1:])

    def _function(self, function: types.FunctionType) -> None:
        module = function.__globals__.get("__name__", "")
        code = function.__code__
        cells = _cells(function)
        if not self._source.owns(module):
            # The wrapper of a decorator from outside: what it wraps is in its closure.
            self.lines.add(f"outside {module}.{code.co_qualname}")
            for value in cells.values():
                if isinstance(value, (*_WRAPPING, types.FunctionType, types.MethodType)):
                    self._visit(value)
            return
        name = f"{self._source.label(module)}.{code.co_qualname}"
        source = read(code.co_filename, function.__globals__)
        node = source.definition(code) if source else None
        if source is not None and node is not None:
            self.lines.add(f"def {name}\n{source.text(node)}")
            for expression in source.around(node):
                self._follow(name, uses_of(expression), function.__globals__)
        else:
            self.lines.add(f"def {name}\n{self._bytecode(code, function.__doc__)}")
        defaults = (function.__defaults__, function.__kwdefaults__)
        if defaults != (None, None):
            self._value(f"defaults of {name}", defaults)
        self._follow(name, uses(code), function.__globals__, cells)

    def _class(self, cls: type) -> None:
        if not self._source.owns(cls.__module__):
            self.lines.add(f"outside {_qualified(cls)}")
            return
        name = f"{self._source.label(cls.__module__)}.{cls.__qualname__}"
        self.lines.add(f"class {name}")
        source = _source_of(cls)
        nodes = source.classes.get(cls.__qualname__, []) if source else []
        for node in nodes:
            assert source is not None
            self.lines.add(f"class {name}\n{source.text(node)}")
            for used in (*map(uses, source.codes_of(node)), *map(uses_of, source.around(node))):
                self._follow(name, used, getattr(sys.modules.get(cls.__module__), "__dict__", {}))
        for kind in (*cls.__bases__, type(cls)):
            if kind not in (object, type):
                self._visit(kind)
        for attribute, value in vars(cls).items():
            if isinstance(value, _WRAPPING) or is_code(value):
                # What the class's source says is said: the methods of a dataclass are made from that.
                if not (nodes and self._generated(value)):
                    self._visit(value)
            elif not (
                attribute.startswith(("__", "_abc_"))
                or issubclass(cls, enum.Enum)
                or inspect.isdatadescriptor(value)
            ):
                self._value(f"{name}.{attribute}", value)

    def _generated(self, value: Any) -> bool:
        """Whether a method has no source, or none of the package's."""
        inner = inspect.unwrap(value)
        if not isinstance(inner, types.FunctionType):
            return not isinstance(inner, (*_WRAPPING, staticmethod, classmethod, types.MethodType))
        return not self._source.owns(inner.__globals__.get("__name__", "")) or not read(
            inner.__code__.co_filename
        )

    def _follow(
        self, owner: str, used: Uses, namespace: Mapping[str, Any], cells: Mapping[str, Any] | None = None
    ) -> None:
        """Follow the names that code uses, each where it is looked up."""
        module = namespace.get("__name__", "")
        for first, *rest in used.globals:
            # `__file__` and `__name__` say where code lies, not what it does.
            if first in namespace and not first.startswith("__"):
                self._attribute(
                    f"{self._source.label(module)}.{first}", namespace[first], rest, (module, first)
                )
        for first, *rest in used.cells:
            if cells and first in cells:
                self._attribute(f"cell {first} of {owner}", cells[first], rest)
        for level, name, chain in used.imports:
            self._source.imported(namespace.get("__package__") or "", level, name, chain)

    def _attribute(self, label: str, value: Any, chain: Iterable[str], home: _Home | None = None) -> None:
        """Walk `helpers.f` down to what is no module, and follow that."""
        rest = list(chain)
        while isinstance(value, types.ModuleType):
            module = value.__name__
            if not self._source.owns(module):
                self._source.outside(module, tuple(rest))
                return
            if not rest:
                self._source.whole(module)
                return
            home = (module, rest.pop(0))
            label = f"{self._source.label(module)}.{home[1]}"
            try:
                value = getattr(value, home[1])
            except (AttributeError, ImportError):
                self.lines.add(f"no {label}")
                return
        self._value(label, value, home)

    def _bytecode(self, code: types.CodeType, doc: str | None) -> str:
        """In place of source that can't be read: what the interpreter runs."""
        parts = []
        for one in codes(code):
            data = [c for c in one.co_consts if not isinstance(c, types.CodeType)]
            if one is code and doc is not None and data[:1] == [doc]:
                data[0] = None
            constants = [self._constants.text(c) for c in data]
            parts.append((one.co_code.hex(), one.co_names, one.co_varnames, constants))
        return repr(parts)


def _cells(function: types.FunctionType) -> dict[str, Any]:
    """What a function's closure holds by name; a cell that is not filled yet is left out."""
    cells = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            cells[name] = cell.cell_contents
        except ValueError:
            continue
    return cells


def _source_of(cls: type) -> Source | None:
    """The source that a class in memory was made from; None if it can't be read or was edited since."""
    mine = [
        m.__code__
        for m in vars(cls).values()
        if isinstance(m, types.FunctionType) and m.__code__.co_qualname.startswith(f"{cls.__qualname__}.")
    ]
    files = [code.co_filename for code in mine if read(code.co_filename)]
    source = read(files[0] if files else file_of(cls.__module__))
    if source is None or not all(source.holds(c) for c in mine if c.co_filename in files):
        return None
    return source


def _qualified(thing: Any) -> str:
    module = getattr(thing, "__module__", None) or getattr(type(thing), "__module__", "")
    return (
        f"{module}.{getattr(thing, '__qualname__', None) or getattr(thing, '__name__', type(thing).__name__)}"
    )
