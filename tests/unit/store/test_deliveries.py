"""Deliveries at rest, in a directory and in an object store."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from amber_ray.core.deliveries.record import Delivery, Outcome
from amber_ray.errors import StoreError
from amber_ray.store.deliveries import DeliveryBook
from amber_ray.store.files import Files

NOW = 1_700_000_000.0


@pytest.fixture(params=["directory", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "store") if request.param == "directory" else f"memory://{uuid.uuid4().hex}"


def delivery(name: str, created: float = NOW) -> Delivery:
    return Delivery(f"end_{name}", name, "t", "https://hooks.example/", ("done",), created)


def test_a_delivery_is_there_for_the_next_process(url: str) -> None:
    book = DeliveryBook(url)
    assert book.all() == []
    later, first = delivery("a", NOW + 1), delivery("b")
    book.write(later)
    book.write(first)
    assert DeliveryBook(Files(url)).all() == [first, later]
    sent = first.pending("request.done", "{}", NOW + 2).attempted(Outcome(200), NOW + 3)
    book.write(sent)
    assert DeliveryBook(url).all() == [sent, later]
    book.remove(sent.id)
    book.remove(sent.id)
    assert DeliveryBook(url).all() == [later]


def test_a_damaged_record_keeps_no_other_from_being_read(url: str) -> None:
    book, files = DeliveryBook(url), Files(url)
    book.write(delivery("a"))
    files.write("deliveries/end_b.json", b'{"id": "end_b"')
    files.write("deliveries/end_c.json", b'{"id": "end_c"}')
    assert book.all() == [delivery("a")]
    assert files.read("deliveries/end_b.json") is None
    assert files.read("quarantine/deliveries__end_b.json") is not None
    assert files.read("deliveries/end_c.json") is not None


def test_a_process_that_may_not_own_the_store_any_more_writes_nothing(url: str) -> None:
    def lost() -> None:
        raise StoreError("the lease was not renewed in time")

    book = DeliveryBook(url, lost)
    for change in (lambda: book.write(delivery("a")), lambda: book.remove("end_a")):
        with pytest.raises(StoreError, match="lease"):
            change()
    assert DeliveryBook(url).all() == []
