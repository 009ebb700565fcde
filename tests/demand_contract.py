"""What the store of demands must do, whatever it is kept in; each kind of store inherits these tests."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import pytest

from amber_ray.core.model.callback import Callback
from amber_ray.core.model.demands import (
    Demand,
    DemandState,
    DemandStatus,
    FailingAsset,
    Findings,
    Message,
    Telling,
)
from amber_ray.core.model.listing import Noted
from amber_ray.errors import StoreError
from amber_ray.store.demands import FOLDER, STATES, DemandBook, DemandRecord
from amber_ray.store.files import Files
from amber_ray.store.runs import Runs
from tests.store_faults import ERRORS, Trouble

FILMS = Demand(
    "films",
    ("shots", "loudness"),
    ("/films", "s3://b/new/"),
    {"shots.threshold": 0.4},
    60.0,
    "purge",
    callback=Callback("https://hooks.example/", ("done",)),
)
RECORD = DemandRecord(FILMS, "1", 1.7e9)
STATUS = DemandStatus(seen=3, true=2, failed=1, oldest=1.6e9, failing=(FailingAsset("/films/a.mp4", "no"),))
TELLING = Telling("life", 7, 4, Findings(4, True), (Message("d7_life", "demand.done", "{}"),))
STATE = DemandState(("a" * 32, "b" * 32), "digest", 1.7e9, STATUS, 5, Findings(4, False, 1, ("f",)), TELLING)


def run_name() -> str:
    return uuid.uuid4().hex


def notes(*uris: str, by: str = "x") -> list[Noted]:
    return [Noted(uri, f"signature of {uri}", by, f"asset of {uri}") for uri in uris]


class DemandContract:
    def test_a_demand_and_its_state_are_known_by_another_process(self, url: str) -> None:
        book = DemandBook(url)
        book.write(RECORD)
        assert DemandBook(url).read() == [(RECORD, DemandState())]
        book.note(RECORD, STATE)
        assert DemandBook(url).read() == [(RECORD, STATE)]

    def test_a_store_without_demands_is_only_read(self, url: str) -> None:
        assert DemandBook(url).read() == []
        assert not Files(url).has_folder("")

    def test_what_is_said_anew_is_looked_at_anew_unless_its_state_is_handed_on(self, url: str) -> None:
        book = DemandBook(url)
        book.write(RECORD)
        book.note(RECORD, STATE)
        again = RECORD._replace(id="2")
        book.write(again)
        assert book.read() == [(again, DemandState())]
        third = RECORD._replace(id="3")
        book.write(third, STATE)
        assert book.read() == [(third, STATE)]

    def test_a_state_of_before_there_were_callbacks_has_told_nothing(self, url: str) -> None:
        book = DemandBook(url)
        book.write(RECORD)
        book.note(RECORD, STATE)
        path = f"{STATES}/films.json"
        data = json.loads(Files(url).read(path))
        for name in ("became", "findings", "telling"):
            del data[name]
        Files(url).write(path, json.dumps(data).encode())
        assert book.read() == [(RECORD, DemandState(*STATE[:4]))]

    def test_a_demand_that_is_removed_is_gone_twice_is_once(self, url: str) -> None:
        book = DemandBook(url)
        book.write(RECORD)
        book.note(RECORD, STATE)
        book.remove("films")
        book.remove("films")
        assert DemandBook(url).read() == []

    @pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b'{"demand": {}, "id": "1", "made": 0}'])
    def test_a_damaged_record_keeps_nothing_and_a_damaged_state_nothing_back(
        self, url: str, text: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        book = DemandBook(url)
        book.write(RECORD)
        Files(url).write(f"{FOLDER}/other.json", text)
        Files(url).write(f"{STATES}/films.json", text.replace(b"{}", b'{"id": "1"}'))
        assert book.read() == [(RECORD, DemandState())]
        assert "'other' is damaged" in caplog.text

    def test_a_run_is_read_in_order_and_never_changes(self, url: str) -> None:
        runs, name = Runs(url, "films"), run_name()
        rows = notes(*(f"/films/{n:06}" for n in range(20_000)))
        assert runs.write(name, iter(rows)) == len(rows)
        again = Runs(url, "films")
        assert list(again.read(name)) == rows
        assert again.count(name) == len(rows)
        assert again.names() == [name]

    def test_a_run_may_be_empty(self, url: str) -> None:
        runs, name = Runs(url, "films"), run_name()
        assert runs.write(name, []) == 0
        assert list(runs.read(name)) == []

    def test_runs_that_nobody_names_are_deleted_and_those_of_other_demands_stay(self, url: str) -> None:
        runs, other = Runs(url, "films"), Runs(url, "songs")
        first, second, third = run_name(), run_name(), run_name()
        runs.write(first, notes("/a"))
        runs.write(second, notes("/b"))
        other.write(third, notes("/c"))
        runs.keep_only([second])
        assert runs.names() == [second]
        assert other.names() == [third]
        assert Runs(url, "nothing").names() == []

    def test_a_run_that_is_not_there_is_an_error(self, url: str) -> None:
        with pytest.raises(StoreError, match="is not there"):
            next(Runs(url, "films").read(run_name()))

    def test_a_run_whose_rows_fail_is_not_there(self, url: str) -> None:
        def failing() -> Iterator[Noted]:
            yield from notes("/a", "/b")
            raise StoreError("an older run can't be read")

        runs = Runs(url, "films")
        with pytest.raises(StoreError, match="an older run"):
            runs.write(run_name(), failing())
        assert runs.names() == []


class DemandTroubleContract:
    @pytest.mark.parametrize("trouble_is", [*ERRORS, "torn"])
    def test_what_can_not_be_read_now_raises_and_is_there_later(
        self, url: str, trouble: Trouble, trouble_is: str
    ) -> None:
        book, runs, name = DemandBook(url), Runs(url, "films"), run_name()
        book.write(RECORD)
        runs.write(name, notes("/a"))
        if trouble_is == "torn":
            trouble.tear()
        else:
            trouble.fail("read", ERRORS[trouble_is])
        with pytest.raises(StoreError):
            book.read()
        with pytest.raises(StoreError):
            list(runs.read(name))
        trouble.end()
        assert [record for record, _ in book.read()] == [RECORD]
        assert list(runs.read(name)) == notes("/a")

    def test_a_run_that_can_not_be_written_is_not_there(self, url: str, trouble: Trouble) -> None:
        runs = Runs(url, "films")
        trouble.fail("write", ERRORS["input/output"])
        with pytest.raises(StoreError):
            runs.write(run_name(), notes("/a"))
        trouble.end()
        assert runs.names() == []
