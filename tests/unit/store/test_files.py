"""The files of a store, as its other parts see them."""

from __future__ import annotations

import re
import uuid
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from amber_ray.errors import StoreError
from amber_ray.store.files import Files
from tests.store_faults import TroubledFileSystem, troubled_url

ANY = re.compile(".*")


class Plain(MemoryFileSystem):
    """A file system that brings no `find` of its own; fsspec's asks `ls` for each folder."""

    protocol: ClassVar[str] = "plain"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    find = fsspec.AbstractFileSystem.find
    error: ClassVar[Exception | None] = None
    at: ClassVar[str] = ""

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        if self.error is not None and path.endswith(self.at):
            raise self.error
        return super().ls(path, detail=detail, **kwargs)


@pytest.mark.parametrize("at", ["values", "score", "1"])
@pytest.mark.parametrize("error", [TimeoutError("slow"), OSError(5, "Input/output error")], ids=str)
def test_a_folder_that_can_not_be_listed_is_not_left_out(
    monkeypatch: pytest.MonkeyPatch, error: Exception, at: str
) -> None:
    fsspec.register_implementation("plain", Plain, clobber=True)
    files = Files(f"plain://{uuid.uuid4().hex}")
    files.write("values/score/1/a", b"abc")
    files.write("values/other/2/b", b"ab")
    assert files.sizes(ANY, "values", 3) == {"values/other/2/b": 2, "values/score/1/a": 3}
    monkeypatch.setattr(Plain, "error", error)
    monkeypatch.setattr(Plain, "at", at)
    with pytest.raises(StoreError, match="can't be listed"):
        files.sizes(ANY, "values", 3)
    monkeypatch.setattr(Plain, "error", FileNotFoundError("it was deleted meanwhile"))
    assert "values/score/1/a" not in files.sizes(ANY, "values", 3)
    assert ("values/other/2/b" in files.sizes(ANY, "values", 3)) == (at != "values")


def test_an_object_is_read_whole_or_not_at_all() -> None:
    files = Files(troubled_url(f"memory://{uuid.uuid4().hex}"))
    files.write("a", bytes(range(100)))
    with files.open("a") as file:
        assert file.size() == 100
        assert file.read_at(10, 95) == bytes(range(95, 100))
        TroubledFileSystem.trouble.tear()
        with pytest.raises(StoreError, match="5 of 10 bytes of a were delivered"):
            file.read_at(10, 20)
        TroubledFileSystem.trouble.end()
        assert file.read_at(10, 20) == bytes(range(20, 30))
        file.seek(98)
        assert file.read() == bytes([98, 99])
    with pytest.raises(FileNotFoundError):
        files.open("b")
    assert (files.size("a"), files.size("b")) == (100, None)
