"""The digest of a feature's code: of itself and of everything of the same package that it reaches.

An omitted version is derived from it, and `amber check` compares it under an explicit one. Source is
normalised (no comments, formatting, docstrings, decorators' arguments), so only what runs counts. What lies
outside the package (numpy, the standard library) contributes its name: its versions are pinned elsewhere.

Must not know: features, registries, files.
"""

from __future__ import annotations

import ast
import enum
import functools
import hashlib
import inspect
import re
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from typing import Any

FORMAT = 1
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis))


def digest(target: Callable[..., Any]) -> str:
    """BLAKE2b-128, in hex, of the code that `target` reaches. The same in every process."""
    walk = _Walk(getattr(target, "__module__", "") or "")
    walk.visit(target)
    state = hashlib.blake2b(f"amber-code/{FORMAT}".encode(), digest_size=16)
    for line in sorted(walk.lines):
        data = line.encode("utf-8", "surrogatepass")
        state.update(len(data).to_bytes(8, "big") + data)
    return state.hexdigest()


class _Walk:
    """Collects one line for each thing reached; order does not matter, so cycles and import order do not either."""

    def __init__(self, module: str) -> None:
        self.package = module.partition(".")[0]
        self.folder = _folder(sys.modules.get(module))
        self.lines: set[str] = set()
        self._seen: set[int] = set()

    def visit(self, thing: Any) -> None:
        """Add a function, class, module attribute or constant."""
        if isinstance(thing, (staticmethod, classmethod)):
            thing = thing.__func__
        if isinstance(thing, functools.partial):
            self.visit(thing.func)
            self.lines.add(f"partial {self.constant((thing.args, thing.keywords))}")
            return
        if isinstance(thing, property):
            for part in (thing.fget, thing.fset, thing.fdel):
                if part is not None:
                    self.visit(part)
            return
        thing = inspect.unwrap(thing) if callable(thing) and not inspect.isclass(thing) else thing
        if id(thing) in self._seen:
            return
        self._seen.add(id(thing))
        if isinstance(thing, types.MethodType):
            self.visit(thing.__func__)
        elif isinstance(thing, types.FunctionType):
            self._function(thing)
        elif inspect.isclass(thing):
            self._class(thing)

    def _function(self, function: types.FunctionType) -> None:
        if not self._ours(function.__module__):
            self.lines.add(f"outside {function.__module__}.{function.__qualname__}")
            return
        self.lines.add(f"def {function.__qualname__}\n{_source(function)}")
        for value in (function.__defaults__ or ()) + tuple((function.__kwdefaults__ or {}).values()):
            self.lines.add(f"default of {function.__qualname__} {self.constant(value)}")
        names = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))
        for name, cell in names.items():
            try:
                self._global(name, cell.cell_contents)
            except ValueError:
                continue  # the cell is not filled yet
        for code in _codes(function.__code__):
            for name in code.co_names:
                if name in function.__globals__:
                    value = function.__globals__[name]
                    if isinstance(value, types.ModuleType):
                        self._module(value, code.co_names)
                    else:
                        self._global(name, value)

    def _module(self, module: types.ModuleType, names: tuple[str, ...]) -> None:
        """`helpers.f`: what is used of a module of the same package; the module's other names don't count."""
        if not self._ours(module.__name__):
            self.lines.add(f"module {module.__name__}")
            return
        for name in names:
            value = module.__dict__.get(name)
            if value is None:
                continue
            if isinstance(value, types.ModuleType):
                if value.__name__.startswith(module.__name__ + "."):
                    self._module(value, names)
            else:
                self._global(f"{module.__name__}.{name}", value)

    def _global(self, name: str, value: Any) -> None:
        if isinstance(value, types.ModuleType):
            self.lines.add(f"module {value.__name__}")
        elif inspect.isclass(value) or inspect.isroutine(value) or isinstance(value, functools.partial):
            self.visit(value)
        else:
            self.lines.add(f"global {name.rpartition('.')[2]} = {self.constant(value)}")

    def _class(self, cls: type) -> None:
        if not self._ours(cls.__module__):
            self.lines.add(f"outside {cls.__module__}.{cls.__qualname__}")
            return
        self.lines.add(f"class {cls.__qualname__}\n{_source(cls)}")
        for base in cls.__bases__:
            if base is not object:
                self.visit(base)
        for name, value in vars(cls).items():
            if name in ("__dict__", "__weakref__", "__doc__", "__amber__", "__annotations__"):
                continue
            inner = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
            if inspect.isfunction(inner) or isinstance(inner, property) or inspect.isclass(inner):
                if getattr(inner, "__module__", cls.__module__) == cls.__module__:
                    self.visit(value)

    def _ours(self, module: str | None) -> bool:
        """Whether a module is of the feature's own package, or lies beside its file when that has none."""
        if not module:
            return False
        if module == "builtins" or module in sys.builtin_module_names:
            return False
        top = module.partition(".")[0]
        if top == self.package:
            return True
        return bool(self.folder) and _folder(sys.modules.get(module)) == self.folder

    def constant(self, value: Any) -> str:
        """Plain data by its content, anything else by the name of its type."""
        if isinstance(value, enum.Enum):
            return f"{type(value).__qualname__}.{value.name}"
        if isinstance(value, _PLAIN):
            return f"{type(value).__name__}:{value!r}"
        if isinstance(value, (tuple, list)):
            return f"{type(value).__name__}({','.join(map(self.constant, value))})"
        if isinstance(value, (set, frozenset)):
            return f"{type(value).__name__}({','.join(sorted(map(self.constant, value)))})"
        if isinstance(value, dict):
            items = sorted((self.constant(k), self.constant(v)) for k, v in value.items())
            return f"dict({','.join(f'{k}={v}' for k, v in items)})"
        if isinstance(value, re.Pattern):
            return f"re({value.pattern!r},{value.flags})"
        if inspect.isclass(value) or inspect.isroutine(value):
            self.visit(value)
            return f"{value.__module__}.{value.__qualname__}"
        if (
            hasattr(value, "tobytes")
            and hasattr(value, "dtype")
            and getattr(value, "nbytes", 1 << 30) < 1 << 20
        ):
            return f"array({value.dtype},{value.shape},{hashlib.blake2b(value.tobytes()).hexdigest()})"
        fields = getattr(type(value), "__dataclass_fields__", None)
        if fields:
            inner = ",".join(f"{n}={self.constant(getattr(value, n, None))}" for n in fields)
            return f"{type(value).__qualname__}({inner})"
        return f"a {type(value).__module__}.{type(value).__qualname__}"


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _folder(module: types.ModuleType | None) -> str:
    """The folder of a user's module; empty for installed ones and for packages, which go by their name."""
    file = getattr(module, "__file__", None) or ""
    if not file or "site-packages" in file or file.startswith(sys.base_prefix):
        return ""
    return file.rpartition("/")[0]


class _Bare(ast.NodeTransformer):
    """Drop docstrings and decorators: they say nothing of what the code does when it runs.

    Functions used as decorators are reached by name like any other global.
    """

    def _strip(self, node: Any) -> Any:
        self.generic_visit(node)
        if hasattr(node, "decorator_list"):
            node.decorator_list = []
        if (
            node.body
            and isinstance(node.body[0], ast.Expr)
            and isinstance(node.body[0].value, ast.Constant)
            and isinstance(node.body[0].value.value, str)
        ):
            node.body = node.body[1:] or [ast.Pass()]
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _strip  # noqa: N815


def _source(thing: Any) -> str:
    """Normalised source, or bytecode where there is no source to read."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, TypeError, SyntaxError):
        code = getattr(thing, "__code__", None)
        if code is None:
            return f"{thing.__module__}.{thing.__qualname__}"
        parts = [
            (c.co_code.hex(), c.co_names, [x for x in c.co_consts if isinstance(x, _PLAIN)])
            for c in _codes(code)
        ]
        return repr(parts)
    return ast.unparse(_Bare().visit(tree))
