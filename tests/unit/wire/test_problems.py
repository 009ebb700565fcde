"""Errors on the wire, and that the tree that `errors` shows is the tree that there is."""

from __future__ import annotations

import re

import pytest

from amber_ray import errors
from amber_ray.errors import AmberError, Overloaded, did_you_mean
from amber_ray.wire.problems import error_of_problem, problem

CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, AmberError) and kind.__module__ == errors.__name__
}


def shown() -> dict[str, tuple[str | None, int]]:
    """The tree in the docstring of `errors`: each class's parent and status."""
    found: dict[str, tuple[str | None, int]] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ([│ ├└─]*)(\w+) \((\d+)\)", line)
        if match is not None:
            depth = len(match[1]) // 4
            above[depth:] = [match[2]]
            found[match[2]] = (above[depth - 1] if depth else None, int(match[3]))
    return found


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    told = {
        name: (None if kind is AmberError else kind.__base__.__name__, kind.status)
        for name, kind in CLASSES.items()
    }
    assert shown() == told
    assert sorted(CLASSES) == errors.__all__


def test_a_hint_names_what_is_near_or_says_something_else() -> None:
    known = {"film", "shots", "shot_ends"}
    assert did_you_mean("flim", known) == "did you mean 'film'?"
    assert did_you_mean("shot", iter(known)) == "did you mean 'shots' or 'shot_ends'?"
    assert did_you_mean("x" * 10_000, known, "there are three") == "there are three"
    assert did_you_mean("zzz", known) == ""


@pytest.mark.parametrize("name", CLASSES)
def test_every_error_keeps_its_class_and_words_on_the_wire(name: str) -> None:
    error = CLASSES[name]("what was wrong and what would be right")
    data = problem(error, "an-id")
    assert data["type"] == "urn:amber:error:" + re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()
    assert data["instance"] == "an-id"
    back = error_of_problem(data["status"], data)
    assert (type(back), str(back), back.status) == (type(error), str(error), error.status)


def test_overload_keeps_its_time() -> None:
    back = error_of_problem(429, problem(Overloaded("too much", 2.5)))
    assert isinstance(back, Overloaded)
    assert back.retry_after == 2.5


@pytest.mark.parametrize(
    ("status", "data", "name"),
    [
        (502, None, "Unavailable"),
        (503, "a proxy's page", "Unavailable"),
        (404, {"detail": "no"}, "BadRequest"),
        (429, {"error": "Overloaded", "retry_after": "soon"}, "Overloaded"),
        (500, {"error": "NoSuchError"}, "AmberError"),
        (418, {}, "BadRequest"),
    ],
)
def test_what_is_no_problem_of_ours_becomes_the_nearest_error(status: int, data: object, name: str) -> None:
    assert type(error_of_problem(status, data)).__name__ == name
