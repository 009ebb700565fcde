"""What source says: a module parsed and compiled once, its definitions normalised, the names that code uses.

Nothing here is imported or run to find that out, so that a module which a function imports only when it is
called (torch, as a rule) need not be loaded to be read. Compiled source is compared with the code in
memory: a file that was edited after it was imported is not what runs. Must not know: features, digests.
"""

from __future__ import annotations
import __future__

import ast
import copy
import dis
import functools
import importlib.machinery
import importlib.util
import linecache
import re
import sys
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

Chain = tuple[str, ...]
"""A dotted name as its parts: `("helpers", "f")`."""
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_HOLDERS = (ast.mod, ast.stmt, ast.ExceptHandler, ast.match_case)
"""What statements lie in."""
_FUTURE = __future__.annotations.compiler_flag
"""The one `from __future__` that still changes what Python compiles."""


def read(file: str, namespace: dict[str, Any] | None = None) -> Source | None:
    """The source of a file as it is now; None where there is none to read (a REPL, `exec`, an extension)."""
    linecache.checkcache(file)
    lines = linecache.getlines(file, namespace)
    known = _READ.get(file)
    if known is None or known[0] is not lines:  # linecache keeps a list as long as the file is the same
        known = _READ[file] = lines, parse("".join(lines)) if lines else None
    return known[1]


_READ: dict[str, tuple[list[str], Source | None]] = {}
"""What was read of each file last: joining and comparing long texts takes longer than looking at the file."""


@functools.lru_cache(maxsize=512)
def parse(text: str) -> Source | None:
    """Source by its text, made once."""
    try:
        return Source(text)
    except (SyntaxError, ValueError, RecursionError):
        return None


class Source:
    """One module's source. `bound` holds the statements that bind each name of the module, in order."""

    def __init__(self, text: str) -> None:
        tree = ast.parse(text)
        self.bound: dict[str, list[ast.stmt]] = {}
        self.stars: list[tuple[int, str]] = []
        self.classes: dict[str, list[ast.ClassDef]] = {}
        self._nodes: dict[tuple[str, int], list[Definition | ast.Lambda]] = {}
        self._codes: dict[types.CodeType, types.CodeType] = {}
        self._texts: dict[int, str] = {}
        self._compile(tree)
        self._flags: set[int] = {0}
        self._bind(tree.body)
        self._index(tree, "")
        self._declares = _declarers(tree)
        self.tree = tree

    def holds(self, code: types.CodeType) -> bool:
        """Whether code in memory was compiled from this very source.

        A cell of a notebook is compiled under the `from __future__` of the cells before it.
        """
        flags = code.co_flags & _FUTURE
        if code not in self._codes and flags not in self._flags:
            self._flags.add(flags)
            self._compile(self.tree, flags)
        return code in self._codes

    def definition(self, code: types.CodeType) -> Definition | ast.Lambda | None:
        """What a function in memory was made from; None if that is not (or no longer) in this source."""
        nodes = self._nodes.get((code.co_name, code.co_firstlineno), ()) if self.holds(code) else ()
        return nodes[0] if len(nodes) == 1 else None

    def _compile(self, tree: ast.Module, flags: int = 0) -> None:
        for code in codes(compile(tree, "<source>", "exec", flags, dont_inherit=True)):
            self._codes.setdefault(code, code)

    def codes_of(self, node: Definition) -> list[types.CodeType]:
        """The code of a definition, as compiled here."""
        key = (node.name, _first_line(node))
        return [c for c in self._codes if (c.co_name, c.co_firstlineno) == key]

    def around(self, node: ast.AST) -> list[ast.expr]:
        """The expressions of a definition that run before it is bound: decorators, bases and defaults.

        Decorators that declare a feature are left out: what they are told is not the feature's code.
        """
        found: list[ast.expr | None] = []
        if isinstance(node, DEFINITIONS):
            found += (d for d in node.decorator_list if not self.is_declarer(d))
        if isinstance(node, ast.ClassDef):
            found += [*node.bases, *(k.value for k in node.keywords)]
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            found += [*node.args.defaults, *node.args.kw_defaults]
        return [e for e in found if e is not None]

    def text(self, node: ast.AST) -> str:
        """Normalised: no comments, formatting, docstrings, or decorators that declare a feature."""
        text = self._texts.get(id(node))
        if text is None:
            text = self._texts[id(node)] = ast.unparse(_bare(self, node))
        return text

    def is_declarer(self, decorator: ast.expr) -> bool:
        """Whether a decorator is `@feature`, by whatever name this module knows it."""
        name = ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator)
        return name.rpartition(".")[2] == "feature" or name in self._declares

    def _bind(self, statements: Iterable[ast.stmt]) -> None:
        for statement in statements:
            names: Iterable[str]
            if isinstance(statement, DEFINITIONS):
                names = (statement.name,)
            elif isinstance(statement, ast.Import):
                names = [a.asname or a.name.partition(".")[0] for a in statement.names]
            elif isinstance(statement, ast.ImportFrom):
                names = [a.asname or a.name for a in statement.names if a.name != "*"]
                if not names:
                    self.stars.append((statement.level, statement.module or ""))
            else:
                inner = list(_inner(statement))
                self._bind(inner)
                inside = {id(n) for child in inner for n in ast.walk(child)}
                names = {
                    n.id
                    for n in ast.walk(statement)
                    if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store) and id(n) not in inside
                }
            for name in names:
                self.bound.setdefault(name, []).append(statement)

    def _index(self, parent: ast.AST, prefix: str) -> None:
        for node in ast.iter_child_nodes(parent):
            inner = prefix
            if isinstance(node, ast.Lambda):
                self._nodes.setdefault(("<lambda>", node.lineno), []).append(node)
                inner = f"{prefix}<lambda>.<locals>."
            elif isinstance(node, DEFINITIONS):
                self._nodes.setdefault((node.name, _first_line(node)), []).append(node)
                if isinstance(node, ast.ClassDef):
                    self.classes.setdefault(prefix + node.name, []).append(node)
                inner = f"{prefix}{node.name}." + ("" if isinstance(node, ast.ClassDef) else "<locals>.")
            self._index(node, inner)


_N = TypeVar("_N", bound=ast.AST)


def _bare(source: Source, node: _N) -> _N:
    """A node without what says nothing of what the code does when it runs.

    That is docstrings and decorators that declare a feature. Only definitions have any, and only statements
    hold definitions: those are copied, and what lies in them is shared.
    """
    if not isinstance(node, _HOLDERS):
        return node
    made = copy.copy(node)
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        held = getattr(node, name, None)
        if isinstance(held, list):
            setattr(made, name, [_bare(source, one) for one in held])
    if isinstance(made, DEFINITIONS):
        made.decorator_list = [d for d in made.decorator_list if not source.is_declarer(d)]
    if isinstance(made, (*DEFINITIONS, ast.Module)):
        match made.body:
            case [ast.Expr(value=ast.Constant(value=str())), *rest]:
                made.body = rest or [ast.Pass()]
    return made


def _statements(statement: ast.AST) -> Iterator[ast.AST]:
    """All statements in one, itself included."""
    yield statement
    for inner in _inner(statement):
        yield from _statements(inner)


def _inner(statement: ast.AST) -> Iterator[ast.stmt]:
    """The statements inside a definition, `if`, `for`, `while`, `with`, `try` and `match`."""
    for child in ast.iter_child_nodes(statement):
        if isinstance(child, ast.stmt):
            yield child
        elif isinstance(child, (ast.ExceptHandler, ast.match_case)):
            yield from child.body


def _first_line(node: Definition) -> int:
    """Where the compiler says that a definition begins: at its first decorator."""
    return min([node.lineno, *(d.lineno for d in node.decorator_list)])


def _declarers(tree: ast.Module) -> set[str]:
    """Other names of `@feature` in a module: `import feature as f`, `gpu = partial(feature, num_gpus=1)`."""
    names = {"feature"}
    for node in _statements(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "amber_ray":
            names |= {a.asname or a.name for a in node.names if a.name == "feature"}
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
            call = statement.value
            said = [ast.unparse(e) for e in (call.func, *call.args[:1])]
            if said[0] in names or (said[0].endswith("partial") and said[-1].rpartition(".")[2] in names):
                names |= {t.id for t in statement.targets if isinstance(t, ast.Name)}
    return names


# --- the names that code uses


@dataclass(frozen=True, slots=True)
class Uses:
    """Dotted names by where their first part is looked up.

    `imports` are names bound by an import inside the function: how many dots, the module, the name in it.
    """

    globals: frozenset[Chain]
    cells: frozenset[Chain]
    imports: frozenset[tuple[int, str, Chain]]


@functools.lru_cache(maxsize=8192)
def uses(code: types.CodeType) -> Uses:
    """What a function's (or class body's) code uses, that of its nested functions included.

    Read off the bytecode, where a local variable can't be taken for a global of the same name. A notebook
    asks for the same code again and again, and this takes longer than all else here.
    """
    chains: set[tuple[str, Chain]] = set()
    aliases: dict[str, tuple[int, str, Chain]] = {}
    for one in codes(code):
        _scan(one, chains, aliases)
    imports = {
        (level, module, (*name, *chain[1:]))
        for kind, chain in chains
        if kind != "global" and chain[0] in aliases
        for level, module, name in (aliases[chain[0]],)
    }
    rest = [(k, c) for k, c in chains if k == "global" or c[0] not in aliases]
    return Uses(
        frozenset(c for k, c in rest if k in ("global", "name")),
        frozenset(c for k, c in rest if k == "cell"),
        frozenset(imports),
    )


def uses_of(node: ast.expr | ast.stmt) -> Uses:
    """What an expression or a statement of a module uses when it runs."""
    alone = ast.Expression(node) if isinstance(node, ast.expr) else ast.Module([node], [])
    mode = "eval" if isinstance(node, ast.expr) else "exec"
    return uses(compile(alone, "<part>", mode, dont_inherit=True))


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object and all that are nested in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)


_LOADS = {"LOAD_GLOBAL": "global", "LOAD_NAME": "name", "LOAD_FROM_DICT_OR_GLOBALS": "name"}
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
_BETWEEN = ("PUSH_NULL", "EXTENDED_ARG", "CACHE", "NOP")
_FAST = re.compile("LOAD_FAST|STORE_FAST")


def _steps(code: types.CodeType) -> Iterator[tuple[str, Any]]:
    """Instructions and their arguments; those that newer Pythons join (`LOAD_FAST_LOAD_FAST`) taken apart."""
    for instruction in dis.get_instructions(code):
        argument = instruction.argval
        if isinstance(argument, tuple) and "_FAST" in instruction.opname:
            yield from zip(_FAST.findall(instruction.opname), argument, strict=False)
        elif instruction.opname not in _BETWEEN:
            yield instruction.opname, argument


def _scan(
    code: types.CodeType, chains: set[tuple[str, Chain]], aliases: dict[str, tuple[int, str, Chain]]
) -> None:
    kind = ""
    chain: list[str] = []
    before: list[Any] = [None, None]
    importing: tuple[int, str, Any] | None = None
    name: str | None = None
    for op, argument in _steps(code):
        if chain and op in _ATTRIBUTES:
            chain.append(argument)
            continue
        if chain:
            chains.add((kind, tuple(chain)))
            chain = []
        if op in _LOADS:
            kind, chain = _LOADS[op], [argument]
        elif op.startswith("LOAD_FAST") and isinstance(argument, str):
            kind, chain = "local", [argument]
        elif op.endswith("DEREF") and op.startswith("LOAD"):
            kind, chain = "cell", [argument]
        elif op == "IMPORT_NAME":
            level, wanted = before
            importing, name = (level, argument, wanted), None
        elif op == "IMPORT_FROM":
            name = argument
        elif op.startswith("STORE_") and importing is not None:
            level, module, wanted = importing
            if wanted:
                aliases[argument] = (level, module, (str(name),))
            else:
                # `import a.b` binds a; `import a.b as c` binds b, after an IMPORT_FROM for each dot.
                plain = argument == module.partition(".")[0] and name is None
                aliases[argument] = (level, argument if plain else module, ())
                importing = None
        elif op == "POP_TOP" and importing is not None and importing[2]:
            importing = None
        before = [before[1], argument]
    if chain:
        chains.add((kind, tuple(chain)))


# --- modules by name


def locate(name: str) -> importlib.machinery.ModuleSpec | None:
    """Where a module is or would be loaded from, without loading it or its parents."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    if spec is not None:
        return spec  # type: ignore[no-any-return]
    parent = name.rpartition(".")[0]
    if not parent:
        try:
            return importlib.util.find_spec(name)
        except (ImportError, ValueError):
            return None  # `__main__` of a script has no spec
    above = locate(parent)
    if above is None or above.submodule_search_locations is None:
        return None
    return importlib.machinery.PathFinder.find_spec(name, above.submodule_search_locations)


def file_of(name: str) -> str:
    """A module's source file; empty if it has none."""
    module = sys.modules.get(name)
    spec = locate(name)
    file = getattr(module, "__file__", None) or (spec.origin if spec and spec.has_location else None)
    return file or ""


def package_of(name: str) -> str:
    """The package that a module's relative imports start from; empty if it is in none."""
    spec = locate(name)
    return (spec.parent if spec else getattr(sys.modules.get(name), "__package__", None)) or ""


def root_of(name: str) -> str:
    """The folder that a module's top-level package lies in; empty if that can't be known."""
    spec = locate(name)
    folder = file_of(name).rpartition("/")[0]
    if not folder and spec and spec.submodule_search_locations:
        folder = next(iter(spec.submodule_search_locations), "")
    for _ in filter(None, package_of(name).split(".")):
        folder = folder.rpartition("/")[0]
    return folder


def installed(path: str) -> bool:
    """Whether a file or folder is among the packages that others made."""
    folders = path.split("/")
    library = linecache.__file__.rpartition("/")[0]
    return path.startswith(library) or "site-packages" in folders or "dist-packages" in folders
