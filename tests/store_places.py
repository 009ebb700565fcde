"""Where the contracts of stores are held: a directory, a file system of fsspec, and both in trouble.

A class of tests is a contract and one of these, which gives it the fixtures that the contract asks for.
"""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from tests.store_faults import Trouble, TroubledFileSystem, troubled_disk, troubled_url


class OnDisk:
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return str(tmp_path / "store")


class InMemory:
    """A store that is no directory: what S3 does too, at no cost. See `integration/test_store_s3.py`."""

    @pytest.fixture
    def url(self) -> str:
        return f"memory://{uuid.uuid4().hex}/store"


class InBucket:
    """On S3, in the `bucket` of the module's fixture."""

    @pytest.fixture
    def url(self, bucket: str) -> str:
        return f"s3://{bucket}/{uuid.uuid4().hex}/store"


class OnTroubledDisk(OnDisk):
    @pytest.fixture
    def trouble(self, url: str, monkeypatch: pytest.MonkeyPatch) -> Trouble:
        return troubled_disk(url, monkeypatch)


class InTroubledMemory:
    @pytest.fixture
    def url(self) -> str:
        return troubled_url(f"memory://{uuid.uuid4().hex}/store")

    @pytest.fixture
    def trouble(self, url: str) -> Trouble:
        return TroubledFileSystem.trouble


class InTroubledBucket:
    @pytest.fixture
    def url(self, bucket: str) -> str:
        return troubled_url(f"s3://{bucket}/{uuid.uuid4().hex}/store")

    @pytest.fixture
    def trouble(self, url: str) -> Trouble:
        return TroubledFileSystem.trouble
