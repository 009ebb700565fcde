"""Weights in packages: found without importing, and never other bytes than a version stands for."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from amber_ray.errors import FeatureError
from amber_ray.features.weights import packaged


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "a_model_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (folder / "w.bin").write_bytes(b"weights")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder.name


def test_found_and_verified_without_an_import(package: str) -> None:
    path = packaged("shots", "a-model", package, "w.bin", hashlib.sha256(b"weights").hexdigest())
    assert path.read_bytes() == b"weights"
    assert package not in sys.modules


def test_other_bytes_are_refused(package: str) -> None:
    with pytest.raises(FeatureError, match="has other weights than this version of shots stands for"):
        packaged("shots", "a-model", package, "w.bin", hashlib.sha256(b"other").hexdigest())


@pytest.mark.parametrize(("module", "file"), [("no_such_package_here", "w.bin"), (None, "gone.bin")])
def test_what_is_missing_names_the_way(package: str, module: str | None, file: str) -> None:
    with pytest.raises(
        FeatureError, match=r"shots needs the package a-model: pip install 'amber-ray\[models\]'"
    ):
        packaged("shots", "a-model", module or package, file, "")
