"""The store, the journal and the lease in a bucket, set up as users do: by AWS's own variables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from amber_ray.core.model.audit import EVERY_LINE, AuditLine
from amber_ray.errors import StoreBusy, StoreError
from amber_ray.store.audit import JOIN, AuditBook
from amber_ray.store.files import Files
from amber_ray.store.journal import Journal
from amber_ray.store.lease import Lease
from amber_ray.store.parquet import ValueStore
from tests.asset_contract import AssetContract
from tests.demand_contract import DemandContract
from tests.store_contract import FLOAT, StoreContract, TroubleContract, everything, key, row
from tests.store_places import InBucket, InTroubledBucket


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of a server on this machine; gone with the module."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.delenv("AWS_PROFILE", raising=False)
        S3FileSystem.clear_instance_cache()
        S3FileSystem().mkdir("values")
        yield "values"
        S3FileSystem.clear_instance_cache()
    server.stop()


class TestAssetsOnS3(InBucket, AssetContract):
    # Each step is a call that changes the store, whichever it is: `TestMemory` goes through them in a second.
    test_a_crash_at_any_point_loses_nothing_that_was_promised = None  # type: ignore[assignment]


class TestDemandsOnS3(InBucket, DemandContract): ...


class TestS3(InBucket, StoreContract):
    def test_a_bucket_that_is_not_there_is_a_store_error(self, bucket: str) -> None:
        store = ValueStore("s3://nowhere-at-all/store")
        with pytest.raises(StoreError, match="can't be written"):
            store.write("score", "1", FLOAT, [row(0)])

    def test_many_parts_are_scanned_in_order(self, store: ValueStore, url: str) -> None:
        parts = [store.write("score", "1", FLOAT, [row(i, float(i))]) for i in range(40)]
        assert [p for p, _ in ValueStore(url).scan()] == parts
        assert everything(store) == {key(i): float(i) for i in range(40)}

    def test_the_journal(self, url: str) -> None:
        journal = Journal(url)
        assert journal.ids() == []
        journal.write("a", {"id": "a", "state": "running"})
        journal.write("b", {"id": "b", "state": "done", "created": 1.0})
        assert [r["id"] for r in Journal(url).unfinished()] == ["a"]
        assert journal.sweep(2.0) == 1
        assert journal.ids() == ["a"]
        journal.remove("a")
        journal.remove("a")
        assert journal.read("a") is None

    def test_the_audit_log(self, url: str) -> None:
        def line(number: int) -> AuditLine:
            return AuditLine(f"line-{number:03}", 1.7e9 + number, "values.purged", f"f{number}", "", "ci")

        book = AuditBook(url)
        for number in range(JOIN):
            book.write([line(number)])
        book.write([line(JOIN - 1)])  # its answer was lost: the same line again
        told = AuditBook(url).read(EVERY_LINE, None, 5)
        newest_first = [line(number).id for number in reversed(range(JOIN))]
        assert [one.id for one in told.values] == newest_first[:5]
        book.tidy(1.7e9 + JOIN)
        assert len(S3FileSystem().ls(f"{url.removeprefix('s3://')}/audit")) == 1
        assert [one.id for one in AuditBook(url).read(EVERY_LINE, None, 2 * JOIN).values] == newest_first

    def test_the_lease(self, url: str) -> None:
        times = iter(range(1000))
        first = Lease(url, clock=lambda: 1e9, sleep=lambda _: None)
        first.acquire("first")

        def beat(_: float) -> None:
            first.renew(1e9 + 10 * next(times) + 10)

        with pytest.raises(StoreBusy, match="in use by first"):
            Lease(url, clock=lambda: 1e9, sleep=beat).acquire("second")
        first.release()
        assert Files(url).read("lease.json") is None
        Lease(url, clock=lambda: 1e9, sleep=lambda _: None).acquire("second")


class TestS3InTrouble(InTroubledBucket, TroubleContract): ...
