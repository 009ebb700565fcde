"""Odd media of our own making, each made once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.odd.made import MADE


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The file of `MADE` with a name; it is shared, so whoever registers it copies it."""
    folder = tmp_path_factory.mktemp("made")

    @functools.cache
    def file(name: str) -> Path:
        MADE[name][0](folder / name)
        return folder / name

    return file
