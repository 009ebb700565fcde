"""What changes a feature's code digest and what does not: pairs of small projects, loaded and compared."""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from amber_ray.core.declare.loading import load
from amber_ray.core.fingerprint.live import digest

Files = dict[str, str]
DigestOf = Callable[..., str]


@pytest.fixture
def digest_of(tmp_path: Path) -> DigestOf:
    """Write a project to a folder of its own, load it, take a digest, and forget its modules."""
    numbers = itertools.count()

    def run(files: str | Files, target: str = "feats:f") -> str:
        root = tmp_path / f"project{next(numbers)}"
        for name, text in ({"feats.py": files} if isinstance(files, str) else files).items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        modules, path_before = set(sys.modules), list(sys.path)
        module, _, name = target.partition(":")
        sys.path.insert(0, str(root))
        importlib.invalidate_caches()
        try:
            file = root / f"{module}.py"
            loaded = load(str(file)) if file.exists() else importlib.import_module(module)
            return digest(functools.reduce(getattr, name.split("."), loaded))
        finally:
            sys.path[:] = path_before
            for new in set(sys.modules) - modules:
                if getattr(sys.modules[new], "__file__", None) and str(root) in str(
                    sys.modules[new].__file__
                ):
                    del sys.modules[new]

    return run


BASE = """
    RATE = 2
    def helper(x): return x * RATE
    def other(x): return x
    def f(asset): return helper(asset)
"""

SAME = {
    "comments and formatting": (
        BASE,
        """
        # A comment.
        RATE = 2


        def helper(x):
            # why
            return (x
                    * RATE)
        def other(x): return x
        def f(
            asset,
        ):
            return helper(asset)
        """,
    ),
    "docstrings": (
        BASE,
        BASE.replace("def helper(x): return", 'def helper(x):\n        "What."\n        return'),
    ),
    "what is not reached": (BASE, BASE.replace("def other(x): return x", "def other(x): return RATE + 9")),
    "the order of definitions": (
        BASE,
        """
        def f(asset): return helper(asset)
        def other(x): return x
        def helper(x): return x * RATE
        RATE = 2
        """,
    ),
    "what a feature is told about its run": (
        """
        from amber_ray import feature
        @feature(version="1", num_cpus=1)
        def f(asset) -> int: return 1
        """,
        """
        from amber_ray import feature as declare
        CPUS = 3
        @declare(version="2", num_cpus=CPUS, timeout=5, retries=0, store="never")
        def f(asset) -> int: return 1
        """,
    ),
    "a feature by a name of one's own": (
        """
        import functools
        from amber_ray import feature
        on_gpu = functools.partial(feature, num_gpus=1)
        @on_gpu(retries=1)
        def f(asset) -> int: return 1
        """,
        """
        import amber_ray as amber
        @amber.feature
        def f(asset) -> int: return 1
        """,
    ),
    "a local variable named like a helper": (
        "def helper(x): return 1\ndef f(asset, helper): return helper",
        "def helper(x): return 2\ndef f(asset, helper): return helper",
    ),
    "the order of sets and dicts": (
        "A = {'a': 1, 'b': {'x', 'y'}}\ndef f(asset): return A",
        "A = dict(b=set(['y', 'x']), a=1)\ndef f(asset): return A",
    ),
    "another name of the same module": (
        {
            "feats.py": "import helpers\ndef f(asset): return helpers.a(asset)",
            "helpers.py": "def a(x): return 1",
        },
        {
            "feats.py": "import helpers\ndef f(asset): return helpers.a(asset)",
            "helpers.py": "B = 3\ndef a(x): return 1\ndef c(): return B",
        },
    ),
    "another name of a module imported in the function": (
        {
            "feats.py": "def f(asset):\n    import helpers\n    return helpers.a(asset)",
            "helpers.py": "def a(x): return 1",
        },
        {
            "feats.py": "def f(asset):\n    import helpers\n    return helpers.a(asset)",
            "helpers.py": "B = 3\ndef a(x): return 1\ndef c(): return B",
        },
    ),
}


@pytest.mark.parametrize(("before", "after"), SAME.values(), ids=SAME)
def test_the_digest_stays_with(digest_of: DigestOf, before: str | Files, after: str | Files) -> None:
    assert digest_of(before) == digest_of(after)


def swap(text: str, old: str, new: str) -> tuple[str, str]:
    assert old in text
    return text, text.replace(old, new)


def swap_in(files: Files, name: str, old: str, new: str) -> tuple[Files, Files]:
    assert old in files[name]
    return files, {**files, name: files[name].replace(old, new)}


DECORATED = """
    import functools
    def scaled(by):
        def around(function):
            @functools.wraps(function)
            def inner(*args): return by * function(*args)
            return inner
        return around
    @scaled(2)
    def helper(x): return x + 1
    def f(asset): return helper(asset)
"""
CLASSES = """
    import functools
    SCALE = 5
    def tuned(cls):
        cls.tune = 1
        return cls
    class Base:
        def shared(self): return 10
    @tuned
    class f(Base):
        level = 20
        def __init__(self): self.x = self.shared()
        @staticmethod
        def still(): return 30
        @classmethod
        def kind(cls): return 40
        @property
        def size(self): return 50
        @functools.cached_property
        def once(self): return 60
        def __call__(self, asset): return SCALE
"""
DATA = """
    import dataclasses, enum
    class Mode(enum.Enum):
        FAST = 1
        def cost(self): return 7
    @dataclasses.dataclass
    class Face:
        x: int = 3
        def area(self): return self.x * 2
    def f(asset): return Face(), Mode.FAST.cost()
"""
PACKAGE = {
    "pkg/__init__.py": "",
    "pkg/feats.py": """
        from . import helpers
        from .deep.more import far
        def f(asset): return helpers.a(asset) + far()
    """,
    "pkg/helpers.py": "from pkg.deep import LIMIT\ndef a(x): return min(x, LIMIT)",
    "pkg/deep/__init__.py": "LIMIT = 5",
    "pkg/deep/more.py": "def far(): return near()\ndef near(): return 6",
}
LAZY = {
    "pkg/__init__.py": "from .exported import shown\nfrom .starred import *",
    "pkg/exported.py": "def shown(): return 1",
    "pkg/starred.py": "TWINKLE = 2",
    "pkg/helpers.py": """
        import pkg.deep.more as more
        RATE = 3
        START = 4
        def doubled(g): return lambda *a: 2 * g(*a)
        @doubled
        def a(x, start=START): return x * RATE + more.far()
    """,
    "pkg/deep/__init__.py": "raise RuntimeError('was imported')",
    "pkg/limits.py": "CAP = 8",
    "pkg/deep/more.py": """
        def far():
            from ..limits import CAP
            return near() + CAP
        def near(): return 6
    """,
    "pkg/feats.py": """
        def f(asset):
            import pkg
            from pkg import helpers
            from .helpers import a as again
            def inner():
                return helpers.a(asset)
            return inner() + again(1) + pkg.shown() + pkg.TWINKLE
    """,
}

DIFFERENT = {
    "the function": swap(BASE, "return helper(asset)", "return helper(asset) + 1"),
    "a helper": swap(BASE, "x * RATE", "x + RATE"),
    "a constant of a helper": swap(BASE, "RATE = 2", "RATE = 3"),
    "a helper that stands below": swap(
        "def f(asset): return helper(asset)\ndef helper(x): return 1", "return 1", "return 2"
    ),
    "a helper of a nested function": swap(
        """
        def helper(x): return 1
        def f(asset):
            def inner(): return [helper(y) for y in asset]
            return inner()
        """,
        "return 1",
        "return 2",
    ),
    "a helper of a lambda in a table": swap(
        "def helper(x): return 1\nTABLE = {'a': lambda x: helper(x)}\ndef f(asset): return TABLE['a'](asset)",
        "return 1",
        "return 2",
    ),
    "one of two lambdas on a line": swap(
        "TABLE = [lambda x: x + 1, lambda x: x + 2]\ndef f(asset): return TABLE[0](asset)", "x + 2", "x + 3"
    ),
    "helpers that call each other": swap(
        """
        def odd(x): return x and even(x - 1)
        def even(x): return not x or odd(x - 1)
        def f(asset): return f if asset else odd(asset)
        """,
        "not x or",
        "x == 0 or",
    ),
    "what a closure holds": swap(
        "def make(n):\n    def f(asset): return n\n    return f\nf = make(3)", "make(3)", "make(4)"
    ),
    "a function in a closure": swap(
        "def make(g):\n    def f(asset): return g()\n    return f\ndef h(): return 1\nf = make(h)",
        "return 1",
        "return 2",
    ),
    "a default": swap("N = 3\ndef f(asset, n=N): return n", "N = 3", "N = 4"),
    "a function that is a default": swap(
        "def h(): return 1\ndef f(asset, *, g=h): return g()", "return 1", "return 2"
    ),
    "a decorator's body": swap(DECORATED, "by * function", "by + function"),
    "a decorator's argument": swap(DECORATED, "@scaled(2)", "@scaled(3)"),
    "a decorated function": swap(DECORATED, "return x + 1", "return x + 2"),
    "a decorator that leaves the function as it is": swap(
        "def noted(g):\n    g.mark = 1\n    return g\n@noted\ndef f(asset): return f.mark",
        "mark = 1",
        "mark = 2",
    ),
    "a cached helper": swap(
        "import functools\n@functools.cache\ndef helper(x): return 1\ndef f(asset): return helper(asset)",
        "return 1",
        "return 2",
    ),
    "a wrapper from outside around one's own function": swap(
        """
        import contextlib
        @contextlib.contextmanager
        def opened(): yield 1
        def f(asset):
            with opened() as x: return x
        """,
        "yield 1",
        "yield 2",
    ),
    "a cached function in a closure": swap(
        """
        import functools
        def make(g):
            def f(asset): return g()
            return f
        @functools.cache
        def h(): return 1
        f = make(h)
        """,
        "return 1",
        "return 2",
    ),
    "a default out of a closure": swap(
        """
        def make(n):
            def f(asset, k=n): return k
            return f
        f = make(1)
        """,
        "make(1)",
        "make(2)",
    ),
    "what a class attribute is made of": swap(
        """
        import types
        SIZE = 3
        class f:
            table = types.SimpleNamespace(size=SIZE)
            def __call__(self, asset): return self.table.size
        """,
        "SIZE = 3",
        "SIZE = 4",
    ),
    "what a partial calls": swap(
        "import functools\ndef g(n, x): return 1\nh = functools.partial(g, 3)\ndef f(asset): return h(asset)",
        "return 1",
        "return 2",
    ),
    "what a partial is given": swap(
        "import functools\ndef g(n, x): return 1\nh = functools.partial(g, 3)\ndef f(asset): return h(asset)",
        "(g, 3)",
        "(g, 4)",
    ),
    "a bound method of a pattern": swap(
        "import re\nmatch = re.compile('a+').match\ndef f(asset): return match(asset)", "'a+'", "'b+'"
    ),
    "a method": swap(CLASSES, "return SCALE", "return SCALE + 1"),
    "a constant of a method": swap(CLASSES, "SCALE = 5", "SCALE = 6"),
    "a constructor": swap(CLASSES, "self.x = ", "self.y = "),
    "a base class": swap(CLASSES, "return 10", "return 11"),
    "a class attribute": swap(CLASSES, "level = 20", "level = 21"),
    "a static method": swap(CLASSES, "return 30", "return 31"),
    "a class method": swap(CLASSES, "return 40", "return 41"),
    "a property": swap(CLASSES, "return 50", "return 51"),
    "a cached property": swap(CLASSES, "return 60", "return 61"),
    "a class decorator": swap(CLASSES, "tune = 1", "tune = 2"),
    "a method of a helper class": swap(DATA, "self.x * 2", "self.x * 3"),
    "a field's default": swap(DATA, "x: int = 3", "x: int = 4"),
    "a member's value": swap(DATA, "FAST = 1", "FAST = 2"),
    "a method of an enumeration": swap(DATA, "return 7", "return 8"),
    "a class that a global is made of": swap(
        """
        class Model:
            def __init__(self, size): self.size = size
            def run(self): return 1
        MODEL = Model(3)
        def f(asset): return MODEL.run()
        """,
        "return 1",
        "return 2",
    ),
    "how a global that is no plain data is made": swap(
        """
        class Model:
            def __init__(self, size): self.size = size
        SIZE = 3
        MODEL = Model(SIZE)
        def f(asset): return MODEL.size
        """,
        "SIZE = 3",
        "SIZE = 4",
    ),
    "which library's function it is": swap(
        "from statistics import mean as middle\ndef f(asset): return middle(asset)",
        "import mean",
        "import median",
    ),
    "a module that is used as a value": swap_in(
        {
            "feats.py": "import helpers\ndef f(asset, name='a'): return getattr(helpers, name)()",
            "helpers.py": "def a(): return 1",
        },
        "helpers.py",
        "return 1",
        "return 2",
    ),
    "a feature that is called as a function": swap_in(
        {
            "feats.py": "from other import g\ndef f(asset): return g(asset)",
            "other.py": "from amber_ray import feature\n@feature(version='1')\ndef g(asset) -> int: return 1",
        },
        "other.py",
        "return 1",
        "return 2",
    ),
    "which of two helpers is which": (
        {
            "feats.py": "import a, b\ndef f(asset): return a.h() - b.h()",
            "a.py": "def h(): return 1",
            "b.py": "def h(): return 2",
        },
        {
            "feats.py": "import a, b\ndef f(asset): return a.h() - b.h()",
            "a.py": "def h(): return 2",
            "b.py": "def h(): return 1",
        },
    ),
}


@pytest.mark.parametrize(("before", "after"), DIFFERENT.values(), ids=DIFFERENT)
def test_the_digest_changes_with(digest_of: DigestOf, before: str | Files, after: str | Files) -> None:
    assert digest_of(before) != digest_of(after)


IN_PACKAGES = [
    (PACKAGE, "pkg/helpers.py", "min(x", "max(x"),
    (PACKAGE, "pkg/deep/__init__.py", "5", "6"),
    (PACKAGE, "pkg/deep/more.py", "return 6", "return 7"),
    (LAZY, "pkg/helpers.py", "x * RATE", "x + RATE"),
    (LAZY, "pkg/helpers.py", "RATE = 3", "RATE = 4"),
    (LAZY, "pkg/helpers.py", "START = 4", "START = 5"),
    (LAZY, "pkg/helpers.py", "2 * g", "3 * g"),
    (LAZY, "pkg/deep/more.py", "return 6", "return 7"),
    (LAZY, "pkg/limits.py", "CAP = 8", "CAP = 9"),
    (LAZY, "pkg/exported.py", "return 1", "return 2"),
    (LAZY, "pkg/starred.py", "TWINKLE = 2", "TWINKLE = 3"),
]


@pytest.mark.parametrize(("files", "name", "old", "new"), IN_PACKAGES)
def test_a_package_is_followed_through_its_modules(
    digest_of: DigestOf, files: Files, name: str, old: str, new: str
) -> None:
    before, after = swap_in(files, name, old, new)
    assert digest_of(before, "pkg.feats:f") != digest_of(after, "pkg.feats:f")
    assert digest_of(before, "pkg.feats:f") == digest_of({**before}, "pkg.feats:f")


def test_only_the_functions_that_reach_a_helper_change(digest_of: DigestOf) -> None:
    before, after = swap_in(
        {
            "feats.py": "import helpers\ndef f(asset): return helpers.a()\ndef g(asset): return helpers.b()",
            "helpers.py": "def a(): return 1\ndef b(): return 2",
        },
        "helpers.py",
        "return 1",
        "return 9",
    )
    assert digest_of(before, "feats:f") != digest_of(after, "feats:f")
    assert digest_of(before, "feats:g") == digest_of(after, "feats:g")


CONSTANTS = [
    "True",
    "1",
    "1.0",
    "-0.0",
    "0.0",
    "1j",
    "'1'",
    "b'1'",
    "None",
    "(1,)",
    "[1]",
    "[1, 2]",
    "[[1], 2]",
    "[[1, 2]]",
    "{1}",
    "frozenset({1})",
    "{'a': 1}",
    "{'a': '1'}",
    "{1: 'a'}",
    "range(3)",
    "float('nan')",
    "re.compile('a')",
    "re.compile('a', re.I)",
    "np.zeros(2)",
    "np.zeros(2, np.float32)",
    "np.zeros((1, 2))",
    "np.array([0, 1.0])",
    "np.array(['a', None], object)",
    "np.array(['b', None], object)",
    "np.float32(1)",
    "Point(1, 2)",
    "Point(2, 1)",
    "Colour.RED",
    "Colour.BLUE",
    "Pair(1, 2)",
    "fractions.Fraction(1, 3)",
    "datetime.timedelta(1)",
    "datetime.timedelta(2)",
    "len",
    "sum",
    "math.sin",
    "Point",
    "pathlib.Path('a')",
    "pathlib.Path('b')",
]
CONSTANT = """
    import collections, dataclasses, datetime, enum, fractions, math, pathlib, re
    import numpy as np
    @dataclasses.dataclass
    class Point:
        x: int
        y: int
    class Colour(enum.Enum):
        RED = 1
        BLUE = 2
    Pair = collections.namedtuple("Pair", "x y")
    VALUE = {}
    def f(asset): return VALUE
"""


def test_every_constant_counts_by_its_content(digest_of: DigestOf) -> None:
    once = [digest_of(CONSTANT.replace("{}", text)) for text in CONSTANTS]
    again = [digest_of(CONSTANT.replace("{}", text)) for text in CONSTANTS]
    assert once == again
    assert len(set(once)) == len(CONSTANTS)


def test_a_constant_that_contains_itself_and_one_that_is_huge_come_to_an_end(digest_of: DigestOf) -> None:
    for text in ("VALUE = []\nVALUE.append(VALUE)", "VALUE = list(range(300_000))"):
        code = f"{text}\ndef f(asset): return VALUE"
        assert digest_of(code) == digest_of(code)


def test_long_chains_of_helpers_do_not_exhaust_the_stack(digest_of: DigestOf) -> None:
    chain = "\n".join(f"def g{i}(): return g{i + 1}()" for i in range(1500))
    text = f"{chain}\ndef g1500(): return 1\ndef f(asset): return g0()"
    assert digest_of(text) != digest_of(text.replace("return 1\n", "return 2\n"))


def test_where_a_project_lies_does_not_matter(digest_of: DigestOf) -> None:
    text = """
        import os, pathlib
        HERE = os.path.dirname(__file__)
        PATHS = [pathlib.Path(HERE), os.path.join(HERE, 'weights.pt')]
        def f(asset): return HERE, PATHS, __file__, __name__
    """
    assert digest_of(text) == digest_of(text)
    assert digest_of(text) != digest_of(text.replace("weights.pt", "others.pt"))


def test_a_file_may_be_loaded_under_any_name(digest_of: DigestOf) -> None:
    text = textwrap.dedent(BASE).replace("helper(asset)", "helper(asset), __name__, __file__")
    assert digest_of({"feats.py": text}) == digest_of({"other.py": text}, "other:f")
    # `json` is taken: such a file gets a name of its own.
    assert digest_of({"json.py": text}, "json:f") == digest_of({"feats.py": text})


@pytest.mark.parametrize(("helpers", "changes"), [("mine", True), ("site-packages/theirs", False)])
def test_what_is_installed_counts_by_its_name_only(
    digest_of: DigestOf, helpers: str, changes: bool, tmp_path: Path
) -> None:
    folder, _, name = helpers.rpartition("/")
    found = []
    for number in (1, 2):
        text = f"import sys\nsys.path.insert(0, __file__.rpartition('/')[0] + '/{folder}')\n"
        text += f"import {name}\ndef f(asset): return {name}.g()"
        found.append(digest_of({"feats.py": text, f"{helpers}.py": f"def g(): return {number}"}))
    assert (found[0] != found[1]) == changes


def test_what_is_installed_beside_an_installed_feature_is_not_its_own(digest_of: DigestOf) -> None:
    found = [
        digest_of(
            {
                "site-packages/feats.py": "import theirs\ndef f(a): return theirs.g()",
                "site-packages/theirs.py": f"def g(): return {number}",
            },
            "site-packages/feats:f",
        )
        for number in (1, 2)
    ]
    assert found[0] == found[1]


def test_a_wrapper_from_outside_that_says_nothing_is_looked_into(digest_of: DigestOf) -> None:
    files = {
        "site-packages/theirs.py": "def timed(g):\n    def inner(*a): return g(*a)\n    return inner",
        "feats.py": """
            import sys
            sys.path.insert(0, __file__.rpartition('/')[0] + '/site-packages')
            from theirs import timed
            def g(asset): return 1
            def make(h):
                def f(asset): return h(asset)
                return f
            f = make(timed(g))
        """,
    }
    before, after = swap_in(files, "feats.py", "return 1", "return 2")
    assert digest_of(before) != digest_of(after)


def test_methods_that_are_generated_count_by_the_source_of_their_class(
    digest_of: DigestOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> str:
        raise AssertionError("bytecode of a generated method: it changes with Python's version")

    monkeypatch.setattr("amber_ray.core.fingerprint.live._Walk._bytecode", none)
    pair = "import typing\nclass Pair(typing.NamedTuple):\n    x: int = 1\ndef f(asset): return Pair()"
    assert digest_of(DATA)
    assert digest_of(pair) != digest_of(pair.replace("= 1", "= 2"))


def test_reading_does_not_import(digest_of: DigestOf) -> None:
    assert digest_of(LAZY, "pkg.feats:f")  # pkg.deep raises when it is imported
    files = {
        "feats.py": "def f(asset):\n    import heavy\n    return heavy.g()",
        "heavy.py": "def g(): return 1",
    }
    lazy = digest_of(files)
    loaded = digest_of({**files, "feats.py": f"{files['feats.py']}\nimport heavy"})
    assert lazy == loaded


def test_the_digest_of_running_code_is_that_of_fresh_code(digest_of: DigestOf, tmp_path: Path) -> None:
    text = "def helper(x): return x + 1\ndef f(asset): return [helper(i) for i in range(99)]"
    (tmp_path / "hot.py").write_text(text)
    hot = load(str(tmp_path / "hot.py"))
    fresh = digest(hot.f)
    for _ in range(200):
        hot.f(None)
    assert digest(hot.f) == fresh


def test_a_file_that_was_edited_after_it_was_loaded_does_not_pass_for_what_runs(
    digest_of: DigestOf, tmp_path: Path
) -> None:
    file = tmp_path / "edited.py"
    file.write_text("def f(asset): return 1\n")
    old = load(str(file)).f
    before = digest(old)
    file.write_text("def f(asset): return 2\n")
    stale = digest(old)
    new = load(str(file)).f
    assert new(None) == 2
    assert stale != digest(new)
    assert digest(new) == digest_of("# The same, elsewhere.\ndef f(asset): return 2\n")
    file.write_text("def f(asset): return 1\n")
    assert digest(old) == before


def test_a_class_that_was_edited_after_it_was_loaded_counts_by_what_runs(tmp_path: Path) -> None:
    file = tmp_path / "edited_class.py"
    file.write_text("class f:\n    def __call__(self, asset): return 1\n")
    old = load(str(file)).f
    fresh = digest(old)
    found = []
    for number in (2, 3):
        file.write_text(f"class f:\n    def __call__(self, asset): return {number}\n")
        found.append(digest(old))
    assert found[0] == found[1] != fresh


def test_code_without_source_counts_by_its_bytecode() -> None:
    def made(text: str) -> str:
        space: dict[str, object] = {"__name__": "typed"}
        exec(text, space)
        return digest(space["f"])  # type: ignore[arg-type]

    one = "def g(): return 1\nclass B:\n    def b(self): return 4\nclass C(B):\n"
    one += "    k = {'a', 'b'}\n    def m(self): return 2\n"
    one += "def f(a): return g(), C().m()"
    assert made(one) == made(one.replace("def g()", "\n\ndef g()"))
    assert made(one) == made(one.replace("def f(a):", "def f(a):\n    'What.'\n   "))
    for old, new in (
        ("return 1", "return 3"),
        ("return 2", "return 3"),
        ("return 4", "return 5"),
        ("'b'", "'c'"),
        ("C().m", "C().n"),
    ):
        assert made(one) != made(one.replace(old, new)), new


PROGRAM = """
import sys
from amber_ray.core.declare.loading import load
from amber_ray.core.fingerprint.live import digest
module = load(sys.argv[1])
print(digest(module.f), digest(module.typed))
"""


def test_every_process_finds_the_same_digest(tmp_path: Path) -> None:
    (tmp_path / "feats.py").write_text(
        textwrap.dedent(CONSTANT.replace("{}", "{'a', 'b', 'c', ('d', frozenset('efgh'))}"))
        + "TABLE = np.array(['a', None, {'b', 'c', 'd'}], object)\n"
        + "def f(asset): return VALUE, TABLE, Point, Colour, Pair, math.pi, re.I, datetime.UTC, enum.Enum\n"
        + "space = {'__name__': 'typed'}\n"
        + "exec(\"def typed(a): return a in {'x', 'y', 'z'} or VALUE\", space)\ntyped = space['typed']\n"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "feats.py")],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(found) == 1
