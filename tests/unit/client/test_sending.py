"""What is sent of a feature, and that it is the same feature where it is loaded: the same digests.

A notebook is a module without a file, whose cells are known to `linecache`, as IPython has it.
"""

from __future__ import annotations

import importlib.util
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amber_ray.client.declared import meant, sealed
from amber_ray.client.sending import texts_of
from amber_ray.core.declare.registry import declaration, declared
from amber_ray.core.declare.texts import SourceText, load_text
from amber_ray.errors import UnfitCode
from tests.notebook import HEAD, NUMBERS, Notebook


@pytest.fixture
def notebook() -> Iterator[Notebook]:
    made = Notebook()
    yield made
    del sys.modules[made.module.__name__]


def sent(*features: Callable[..., Any]) -> dict[str, Any]:
    """The features as a server finds them, by name; asserts that they are the same."""
    specs = meant(features)
    found = {spec.name: spec for text in texts_of(list(specs.values())) for spec in declared(load_text(text))}
    for name, spec in specs.items():
        assert declaration(found[name].sealed()) == declaration(spec), name
    return {name: found[name].target for name in specs}


def text_of(*features: Callable[..., Any]) -> str:
    [text] = texts_of(list(meant(features).values()))
    return text.text


def test_a_function_and_what_it_reaches(notebook: Notebook) -> None:
    notebook.run("""
        import numpy as np
        import os.path
        from math import tau as whole
        LIMIT = 3
        NAMES = {"a": [1, 2.5, None], "b": (True, b"x", -1j)}

        def scale(x):
            return x * LIMIT

        def other():
            return "never sent"
    """).run("""
        @feature(num_cpus=0.5)
        def longest(asset: Asset, by: int = 2) -> float:
            "How long."
            # a comment
            return scale(by) + whole + float(np.float64(1)) + len(os.path.join("a", "b"))
    """)
    made = sent(notebook.longest)["longest"]
    assert made(None, by=3) == notebook.longest(None, by=3)
    text = text_of(notebook.longest)
    assert "never sent" not in text
    assert "NAMES" not in text
    assert "num_cpus=0.5" in text


def test_what_is_redefined_is_sent_as_it_is_now_and_an_old_object_as_it_was(notebook: Notebook) -> None:
    notebook.run("""
        def by(): return 1

        @feature
        def mine(asset: Asset) -> int:
            return by()
    """)
    old = notebook.mine
    assert sent(old)["mine"](None) == 1
    notebook.run("def by(): return 2")
    assert sent(old)["mine"](None) == 2
    notebook.run("""
        @feature
        def mine(asset: Asset) -> int:
            return 10 * by()
    """)
    assert sent(old)["mine"](None) == 2
    assert sent(notebook.mine)["mine"](None) == 20


def test_classes_decorators_defaults_and_what_annotations_name(notebook: Notebook) -> None:
    notebook.run("""
        import dataclasses, enum, functools, re
        from dataclasses import dataclass
        from functools import cache

        @dataclass
        class Shot:
            start: float
            end: float

        class Colour(enum.Enum):
            RED = "red"
            BLUE = "blue"

        WORDS = re.compile("a+", re.I)
        FIRST = Shot(0.0, 1.5)
        LIKED = Colour.BLUE
        half = lambda x: x / 2

        def plain(x, y): return x + y

        PLUS = functools.partial(plain, 1)
        TABLE = {"half": half, "plain": plain}

        def loud(function):
            @functools.wraps(function)
            def called(*given, **named):
                return function(*given, **named)
            return called

        @loud
        def twice(x): return 2 * x

        @cache
        def kept(x): return x

        class Base:
            def shift(self): return FIRST.end

        @feature(batch=1)
        class Cutter(Base):
            def __init__(self, size: int = 3): self.size = size
            def __call__(self, asset: Asset) -> list[Shot]:
                ends = [half(twice(kept(self.size))), PLUS(2), TABLE["plain"](1, 1), self.shift()]
                assert WORDS.match("AA") and LIKED is Colour.BLUE
                return [Shot(0.0, end) for end in ends]

        @feature
        def ends(cutter: list[Shot]) -> list[float]:
            return [one["end"] for one in cutter]
    """)
    made = sent(notebook.Cutter, notebook.ends)
    assert [s.end for s in made["cutter"]()(None)] == [s.end for s in notebook.Cutter()(None)]


def test_postponed_annotations_and_names_that_only_they_use(notebook: Notebook) -> None:
    notebook.run("""
        from __future__ import annotations
        import numpy as np
        from typing import Annotated, Optional
        Numbers = list[float]
        Maybe = Optional[int]

        @feature
        def first(asset: Asset) -> Numbers:
            return [1.0]

        @feature
        def second(first: Numbers, most: Maybe = None) -> "Optional[int]":
            return most
    """)
    sent(notebook.first, notebook.second)


def test_arrays_and_functions_of_libraries_are_constants(notebook: Notebook) -> None:
    notebook.run("""
        import numpy as np
        from numpy import sqrt, float32 as f4
        import datetime, decimal, fractions
        WEIGHTS = np.arange(6, dtype="int16").reshape(2, 3)
        ONE = np.float32(0.1)
        SINCE = datetime.date(2026, 11, 28)
        PART = fractions.Fraction(1, 3)
        NOTHING = (float("nan"), float("-inf"), set(), {3, 1, 2}, frozenset("ab"), ())

        @feature
        def sums(asset: Asset) -> float:
            assert NOTHING[3] == {1, 2, 3} and SINCE.year == 2026 and PART.denominator == 3
            return float(sqrt(WEIGHTS.sum()) + f4(ONE))
    """)
    assert sent(notebook.sums)["sums"](None) == notebook.sums(None)


def test_functions_that_call_each_other(notebook: Notebook) -> None:
    notebook.run("""
        def even(n): return n == 0 or odd(n - 1)
        def odd(n): return n != 0 and even(n - 1)

        @feature
        def parity(asset: Asset, n: int = 5) -> bool:
            return even(n)
    """)
    assert sent(notebook.parity)["parity"](None) is False


def test_a_local_variable_is_not_taken_for_an_object_of_the_same_name(notebook: Notebook) -> None:
    notebook.run("""
        import threading
        client = threading.Lock()

        @feature
        def mine(asset: Asset) -> int:
            client = 3
            return [client for client in (client,)][0]
    """)
    assert sent(notebook.mine)["mine"](None) == 3


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (
            "MODEL = __import__('threading').Lock()",
            "it uses 'MODEL', an object of this process (_thread.lock)",
        ),
        ("MODEL = {'a': [open('/dev/null')]}", "it uses 'MODEL', an object of this process (dict)"),
        ("MODEL = __import__('numpy').zeros(1 << 20)", "it uses 'MODEL', an object of this process (numpy"),
        (
            "def make(by):\n    def MODEL(): return by\n    return MODEL\nMODEL = make(2)",
            "'MODEL' is defined inside 'make'",
        ),
        (
            "exec(compile('def MODEL(): return 1', '<nowhere>', 'exec'))",
            "the source of 'MODEL' can't be read",
        ),
    ],
)
def test_what_can_not_be_written_down_is_refused_by_its_name(
    notebook: Notebook, cell: str, said: str
) -> None:
    notebook.run(cell).run("""
        @feature
        def mine(asset: Asset) -> int:
            return int(MODEL is None)
    """)
    with pytest.raises(UnfitCode) as refused:
        text_of(notebook.mine)
    assert said in str(refused.value)
    assert "feature 'mine' can't be sent to the server" in str(refused.value)
    assert "amber serve --features" in str(refused.value)


def test_a_module_of_a_file_travels_as_the_file_s_text(tmp_path: Path) -> None:
    text = textwrap.dedent("""
        from amber_ray import Asset, feature
        import threading

        LOCK = threading.Lock()

        class Rule:
            most: int = 3

        def made(by):
            @feature(name=f"by_{by}")
            def mine(asset: Asset) -> int:
                with LOCK:
                    return by + Rule.most
            return mine

        two = made(2)

        @feature
        def plain(by_2: int) -> int:
            return by_2
    """)
    path = tmp_path / f"features_{next(NUMBERS)}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    [source] = texts_of(list(meant([module.two, module.plain]).values()))
    assert source == SourceText(path.name, text, "", filed=True)
    assert sent(module.two, module.plain)["by_2"](None) == 5
    del sys.modules[path.stem]


# Loading


def test_an_error_names_the_line(notebook: Notebook) -> None:
    for text, said in (
        (
            "x = 1\ny = nowhere\n",
            "mine.py:2: the code can't be loaded: NameError: name 'nowhere' is not defined",
        ),
        ("x = 1\ndef f(:\n", "mine.py:2: the code can't be loaded: SyntaxError"),
        ("import no_such_module_here\n", "mine.py:1: there is no module 'no_such_module_here' where"),
        ("raise SystemExit(3)\n", "mine.py:1: the code can't be loaded: SystemExit: 3"),
        (
            HEAD + "@feature\ndef f(asset: Asset): ...\n",
            "mine.py:3: the code can't be loaded: DeclarationError",
        ),
    ):
        before = set(sys.modules)
        with pytest.raises(UnfitCode) as refused:
            load_text(SourceText("mine.py", text))
        assert str(refused.value).startswith(said)
        assert not {name for name in set(sys.modules) - before if "mine" in name}


def test_the_same_text_is_loaded_once_and_another_beside_it() -> None:
    one, other = SourceText("a.py", "x = object()\n"), SourceText("a.py", "x = object()  # edited\n")
    assert load_text(one) is load_text(one)
    assert load_text(one).x is not load_text(other).x


# A property: whatever a notebook holds, what is sent has the same digest, or is refused

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.complex_numbers(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3)
        | st.frozensets(st.integers() | st.text(max_size=3), max_size=3)
    ),
    max_leaves=8,
)
BODIES = [
    "return {0}",
    "return [{0} for x in range(2)]",
    "def inner(y={0}):\n        return {1}\n    return inner()",
    "from math import pi\n    return (pi, {0}, {1})",
    "{0}; x = lambda: {1}\n    return x",
    "try:\n        return {0}\n    except Exception as error:\n        return ({1}, error)",
    "global late\n    return late, {0}",
]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_is_sent_of_any_notebook_is_the_same_feature(data: st.DataObject) -> None:
    book = Notebook()
    names: list[str] = ["late"]
    book.run("late = 1")
    for number in range(data.draw(st.integers(1, 6))):
        name = f"n{number}"
        if data.draw(st.booleans()):
            setattr(book.module, name, data.draw(values))
        else:
            used = [data.draw(st.sampled_from(names)) for _ in range(2)]
            body = data.draw(st.sampled_from(BODIES)).format(*used)
            kind = data.draw(
                st.sampled_from(["def {0}():\n    {1}", "class {0}:\n  at = {2}\n  def f(self):\n    {1}"])
            )
            text = kind.format(name, body, used[0])
            if "class" in kind:
                text = text.replace("\n    ", "\n      ")
            book.run(text)
        names.append(name)
    book.run(f"""
        @feature
        def mine(asset: Asset, by: int = 1) -> int:
            return len(repr(({", ".join(names)})))
    """)
    assert sealed(book.mine).code_digest
    sent(book.mine)
    del sys.modules[book.module.__name__]
