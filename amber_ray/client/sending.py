"""Features as source text, for a server that runs what clients send: files, or what a notebook reaches.

A feature of a module that was made from a file travels as that file's text. One that was typed in (a
notebook, `__main__`) travels as a module put together of what it reaches there: functions and classes as they
were written, imports, and constants by their values, so that the server finds the same code digest. No object
travels: what can't be written down (a model, a connection, a closure) is refused by its name.

Which names code uses is read off its bytecode (`core.fingerprint.source`), where a local variable can't be
taken for a global of the same name. Must not know: HTTP, how a server loads it.
"""

from __future__ import annotations

import ast
import base64
import dataclasses
import enum
import functools
import inspect
import linecache
import math
import re
import sys
import textwrap
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NoReturn, Union, get_args, get_origin

from amber_ray.core.declare.feature import FeatureSpec
from amber_ray.core.declare.texts import SourceText
from amber_ray.core.fingerprint.constants import is_code
from amber_ray.core.fingerprint.source import (
    DEFINITIONS,
    Chain,
    file_of,
    installed,
    package_of,
    read,
    uses_of,
)
from amber_ray.errors import UnfitCode

MAIN = "__main__"
NOTEBOOK = "notebook"
PACKAGE = __name__.partition(".")[0]
ARRAY_BYTES = 256 << 10
"""The largest array that travels as a constant."""
_PLAIN = (bool, int, str, bytes, bytearray, range, type(None), type(Ellipsis))
_BY_REPR = ("datetime", "decimal", "fractions", "uuid")
_FUTURE = __import__("__future__").annotations.compiler_flag


def texts_of(specs: Sequence[FeatureSpec]) -> list[SourceText]:
    """The texts that declare these features. Raises `UnfitCode` for what can't be sent."""
    texts: list[SourceText] = []
    typed: dict[str, list[FeatureSpec]] = {}
    for spec in specs:
        whole = _file_text(spec)
        if whole is None:
            typed.setdefault(spec.target.__module__, []).append(spec)
        elif whole not in texts:
            texts.append(whole)
    return texts + [_Assembly(module, some).text() for module, some in typed.items()]


def _file_text(spec: FeatureSpec) -> SourceText | None:
    """The text of the file that a feature's module was made from; None if it makes no such feature."""
    name = spec.target.__module__
    module = sys.modules.get(name)
    file = file_of(name)
    if name == MAIN or module is None or read(file) is None:
        return None
    if spec.target.__qualname__ == spec.target.__name__ and (
        getattr(module, spec.target.__name__, None) is not spec.target
    ):
        return None  # an older object of a module that was loaded again
    text = "".join(linecache.getlines(file))
    return SourceText(file.rpartition("/")[2], text, package_of(name), filed=True)


class _Assembly:
    """A module's text, put together of what some features reach in a namespace. Definitions come in order."""

    def __init__(self, module: str, specs: Sequence[FeatureSpec]) -> None:
        self._module = module
        self._specs = specs
        self._file = file_of(module)
        self._parts: list[str] = []
        self._seen: set[str] = set()
        self._modules: set[str] = set()
        self._flags = 0
        self._for = ""
        self._names: Mapping[str, Any] = {}

    def text(self) -> SourceText:
        """The whole text. Raises `UnfitCode`."""
        for spec in self._specs:
            self._for = spec.name
            self._names = _namespace(spec.target)
            self._seen.add(spec.target.__name__)
            try:
                self._definition(spec.target.__name__, inspect.unwrap(spec.target))
            except RecursionError:
                self._refuse("it reaches code that is too deep to be written down")
        first = ["from __future__ import annotations\n"] if self._flags & _FUTURE else []
        text = "\n".join([*first, *self._parts])
        return SourceText(NOTEBOOK, text, package_of(self._module), filed=bool(self._file))

    # --- names

    def _global(self, name: str) -> None:
        """Have a name of the namespace bound in the text."""
        if name in self._seen or name not in self._names or name.startswith("__"):
            return
        self._seen.add(name)
        value = self._names[name]
        inner = inspect.unwrap(value) if callable(value) and not isinstance(value, type) else value
        own = getattr(value, "__module__", None) == self._module
        if isinstance(value, types.ModuleType):
            self._parts.append(_import(value.__name__, name))
        elif (
            inner is not value
            and isinstance(inner, types.FunctionType)
            and (inner.__module__, inner.__name__) == (self._module, name)
        ):
            self._definition(name, inner)  # its decorators stand above it
        elif isinstance(value, type | types.FunctionType) and own:
            if value.__name__ in (name, "<lambda>"):
                self._definition(name, value)
            else:
                self._parts.append(f"{name} = {self._reference(value)}\n")
        elif (place := _place_of(value, name)) is not None:
            self._parts.append(f"from {place[0]} import {place[1]} as {name}\n")
        elif self._statements(name, value):
            return
        else:
            written = self._expression(value, 0)
            if written is None:
                self._refuse(
                    f"it uses {name!r}, an object of this process ({_kind(value)}), which can't be written "
                    "down; make it inside the function, or in __init__ of a class"
                )
            self._parts.append(f"{name} = {written}\n")

    def _statements(self, name: str, value: Any) -> bool:
        """Where a script binds a name to what has no plain form: the statements that do, as they stand."""
        source = read(self._file) if self._file else None
        if source is None or name not in source.bound or self._expression(value, 0) is not None:
            return False
        for statement in source.bound[name]:
            for chain in uses_of(statement).globals:
                self._use(chain)
            self._parts.append(_segment(linecache.getlines(self._file), statement))
        return True

    def _use(self, chain: Chain) -> None:
        """Have what a dotted name begins with bound, and the modules along it imported."""
        self._global(chain[0])
        value = self._names.get(chain[0])
        for name in chain[1:]:
            if not isinstance(value, types.ModuleType):
                return
            value = getattr(value, name, None)
            if isinstance(value, types.ModuleType) and value.__name__ not in self._modules:
                self._modules.add(value.__name__)
                # Under a name of nobody's: it is there to be loaded.
                self._parts.append(f"import {value.__name__} as _amber_loaded\n")

    # --- definitions

    def _definition(self, name: str, thing: Any) -> None:
        """Write a function or class as it was written, after all that it uses."""
        named = thing.__qualname__ if isinstance(thing, type) else thing.__code__.co_qualname
        if "<locals>" in named:
            outer = named.partition(".<locals>")[0]
            self._refuse(
                f"{thing.__name__!r} is defined inside {outer!r}, whose variables are objects of this "
                "process; define it by itself, and take what varies as a parameter"
            )
        found = _class_source(thing) if isinstance(thing, type) else _function_source(thing)
        if found is None:
            self._refuse(f"the source of {thing.__name__!r} can't be read")
        lines, node = found
        if isinstance(thing, types.FunctionType):
            self._flags |= thing.__code__.co_flags
        for chain in sorted(_used(node)):
            self._use(chain)
        if isinstance(node, ast.Lambda):
            self._parts.append(f"{name} = {ast.get_source_segment(''.join(lines), node)}\n")
        else:
            self._parts.append(_segment(lines, node))

    # --- values

    def _reference(self, value: Any) -> str | None:
        """An expression for a function or class: its name here, or one that it is imported under."""
        name = getattr(value, "__name__", "")
        if getattr(value, "__module__", None) == self._module:
            if self._names.get(name) is not value:
                # A lambda, or one that goes by another name.
                name = next((n for n, one in self._names.items() if one is value), None)
                if name is None:
                    return None
            self._global(name)
            return str(name)
        place = _place_of(value, name)
        if place is None:
            return None
        module, found = place
        alias = f"_amber_{module.replace('.', '_')}_{found}"
        if alias not in self._seen:
            self._seen.add(alias)
            self._parts.append(f"from {module} import {found} as {alias}\n")
        return alias

    def _expression(self, value: Any, depth: int) -> str | None:
        """An expression that makes an equal value, with an equal text in a digest; None if there is none."""
        kind = type(value)
        if depth > 32:
            return None
        depth += 1
        if kind in _PLAIN:
            return repr(value)
        if kind is float:
            return repr(value) if math.isfinite(value) else f"float({str(value)!r})"
        if kind is complex:
            parts = (self._expression(value.real, depth), self._expression(value.imag, depth))
            return f"complex({', '.join(map(str, parts))})"
        if kind in (list, tuple, set, frozenset):
            return self._collection(kind, value, depth)
        if kind is dict:
            pairs = [(self._expression(k, depth), self._expression(v, depth)) for k, v in value.items()]
            if any(None in pair for pair in pairs):
                return None
            return f"{{{', '.join(f'{k}: {v}' for k, v in pairs)}}}"
        if isinstance(value, enum.Enum):
            named = self._reference(kind)
            return None if named is None else f"{named}[{value.name!r}]"
        if kind is re.Pattern:
            return f"__import__('re').compile({value.pattern!r}, {value.flags})"
        if is_code(value):
            return self._reference(value)
        if kind is functools.partial:
            return self._partial(value, depth)
        if get_origin(value) is not None:
            return self._alias(value, depth)
        if kind.__module__ in _BY_REPR and "tzinfo" not in repr(value):
            said = repr(value)
            return f"__import__({kind.__module__!r}).{said.removeprefix(kind.__module__ + '.')}"
        if kind.__module__.partition(".")[0] == "numpy" and hasattr(value, "tobytes"):
            return _array(value)
        if dataclasses.is_dataclass(value):
            return self._record(value, depth)
        return None

    def _collection(self, kind: type, value: Iterable[Any], depth: int) -> str | None:
        items = [self._expression(item, depth) for item in value]
        if None in items:
            return None
        if kind in (set, frozenset):
            items.sort(key=str)
        inside = ", ".join(map(str, items))
        if kind is list:
            return f"[{inside}]"
        if kind is tuple:
            return f"({inside},)" if items else "()"
        return f"{kind.__name__}([{inside}])"

    def _partial(self, value: functools.partial[Any], depth: int) -> str | None:
        given = [self._expression(part, depth) for part in (value.func, *value.args)]
        named = {name: self._expression(part, depth) for name, part in value.keywords.items()}
        if None in given or None in named.values():
            return None
        words = [*map(str, given), *(f"{name}={part}" for name, part in named.items())]
        return f"__import__('functools').partial({', '.join(words)})"

    def _alias(self, value: Any, depth: int) -> str | None:
        """`list[int]`, `Annotated[...]`, `int | None`: a type that was given a name."""
        if isinstance(value, types.UnionType):
            sides = [self._expression(side, depth) for side in get_args(value)]
            return None if None in sides else " | ".join(map(str, sides))
        origin: Any = Annotated if hasattr(value, "__metadata__") else get_origin(value)
        if origin is Annotated:
            parts = (value.__origin__, *value.__metadata__)
            named: str | None = "__import__('typing').Annotated"
        else:
            parts = get_args(value)
            special = "Union" if origin is Union else getattr(value, "_name", None)
            named = self._reference(origin) if isinstance(origin, type) else None
            if named is None:
                named = f"__import__('typing').{special or getattr(origin, '_name', '')}"
        written = [self._expression(part, depth) for part in parts]
        return None if None in written else f"{named}[{', '.join(map(str, written))}]"

    def _record(self, value: Any, depth: int) -> str | None:
        named = self._reference(type(value))
        fields = dataclasses.fields(value)
        if named is None or not all(field.init for field in fields):
            return None
        given = {field.name: self._expression(getattr(value, field.name, None), depth) for field in fields}
        if None in given.values():
            return None
        return f"{named}({', '.join(f'{name}={part}' for name, part in given.items())})"

    def _refuse(self, why: str) -> NoReturn:
        raise UnfitCode(
            f"feature {self._for!r} can't be sent to the server: {why}, or give the module that declares the "
            "feature to the server (`amber serve --features`)"
        )


# --- where things come from


def _namespace(target: Any) -> Mapping[str, Any]:
    """The names that a function or class sees."""
    for method in vars(target).values() if isinstance(target, type) else (target,):
        if isinstance(method, types.FunctionType):
            return method.__globals__
    return vars(sys.modules[target.__module__])


def _function_source(function: types.FunctionType) -> tuple[list[str], Any] | None:
    file = function.__code__.co_filename
    source = read(file, function.__globals__)
    node = source.definition(function.__code__) if source else None
    if node is None:
        return None
    return linecache.getlines(file), node


def _class_source(cls: type) -> tuple[list[str], Any] | None:
    """The source of a class: that of its methods; of one without any, the last cell that has it."""
    files = [
        method.__code__.co_filename
        for method in vars(cls).values()
        if isinstance(method, types.FunctionType) and method.__code__.co_qualname.startswith(cls.__qualname__)
    ]
    for file in [*files, file_of(cls.__module__), *_cells()]:
        source = read(file) if file else None
        for node in reversed(source.classes.get(cls.__qualname__, []) if source else []):
            fields = [
                n.target.id
                for n in node.body
                if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
            ]
            if fields == list(vars(cls).get("__annotations__", {})):
                return linecache.getlines(file), node
    return None


def _cells() -> Iterator[str]:
    """What stands for the files of cells, newest first: entries of `linecache` that no file is behind."""
    for file, entry in reversed(list(linecache.cache.items())):
        if len(entry) == 4 and entry[1] is None:
            yield file


def _used(node: ast.stmt | ast.expr) -> set[Chain]:
    """The dotted names that a definition uses when it runs and when it is made, also in annotations."""
    found = set(uses_of(node).globals)
    for inner in ast.walk(node):
        hints = [getattr(inner, name, None) for name in ("annotation", "returns")]
        for hint in filter(None, hints):
            if isinstance(hint, ast.Constant) and isinstance(hint.value, str):
                try:
                    hint = ast.parse(hint.value, mode="eval").body
                except SyntaxError:
                    continue
            found |= uses_of(hint).globals
    return found


def _segment(lines: Sequence[str], node: ast.stmt) -> str:
    """The lines of a statement, its decorators included."""
    decorators = node.decorator_list if isinstance(node, DEFINITIONS) else []
    first = min([node.lineno, *(d.lineno for d in decorators)])
    text = "".join(lines[first - 1 : node.end_lineno])
    return textwrap.dedent(text).rstrip("\n") + "\n"


def _place_of(value: Any, name: str) -> tuple[str, str] | None:
    """A module and a name in it that a value can be imported under; None for what lives in no module."""
    module, own = getattr(value, "__module__", None), getattr(value, "__name__", None)
    if isinstance(module, str) and isinstance(own, str) and own.isidentifier():
        if module.partition(".")[0] == PACKAGE and getattr(sys.modules.get(PACKAGE), own, None) is value:
            return PACKAGE, own  # by its public name: another release may keep it elsewhere
        home = sys.modules.get(module)
        if module != MAIN and vars(home).get(own) is value if home is not None else False:
            return module, own
    if type(value) in (*_PLAIN, float, complex, list, dict, tuple, set, frozenset):
        return None
    # A ufunc, an alias of a type, an object that a library made: by the name that it has there too.
    places = [
        place
        for place, one in list(sys.modules.items())
        if place != MAIN
        and getattr(one, "__dict__", {}).get(name) is value
        and (place.partition(".")[0] == PACKAGE or installed(file_of(place)))
    ]
    return (min(places, key=lambda place: (place.count("."), place)), name) if places else None


def _import(module: str, name: str) -> str:
    return f"import {module}\n" if module == name else f"import {module} as {name}\n"


def _array(value: Any) -> str | None:
    if value.dtype.hasobject or value.dtype.names or value.nbytes > ARRAY_BYTES:
        return None
    data = base64.b64encode(value.tobytes()).decode()
    made = (
        f"__import__('numpy').frombuffer(__import__('base64').b64decode({data!r}), {value.dtype.str!r})"
        f".reshape({value.shape!r})"
    )
    return f"{made}.copy()" if getattr(value, "ndim", 0) else f"{made}[()]"


def _kind(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
