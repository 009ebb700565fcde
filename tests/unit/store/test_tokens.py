"""The records of API tokens: no token is kept, nothing is written twice, and damage lets nobody in."""

from __future__ import annotations

import hashlib
import json
import re

import pytest

from amber_ray.core.model.trust import Scope
from amber_ray.errors import BadRequest, StoreError
from amber_ray.store.files import Files
from amber_ray.store.tokens import TokenBook, TokenRecord
from tests.store_faults import ERRORS, Trouble
from tests.store_places import InMemory, InTroubledMemory, OnDisk, OnTroubledDisk

NOW = 1_700_000_000.0
EVERYTHING = re.compile(r".*\.json")
BOTH = frozenset({Scope.READ, Scope.COMPUTE})


class Contract:
    def test_a_token_is_kept_as_a_hash_and_known_by_another_process(self, url: str) -> None:
        token = TokenBook(url).add("ci", "search", BOTH, NOW, NOW + 60)
        found = TokenBook(url).read()
        digest = hashlib.sha256(token.encode()).hexdigest()
        assert found.records == (TokenRecord("ci", digest, "search", BOTH, NOW, NOW + 60),)
        files = Files(url)
        for name in files.sizes(EVERYTHING, "tokens", 1):
            assert token.encode() not in (files.read(name) or b"")
            assert token.removeprefix("amber_").encode() not in (files.read(name) or b"")

    def test_its_limits_are_kept_and_a_record_without_any_has_none(self, url: str) -> None:
        TokenBook(url).add("ci", "default", BOTH, NOW, rate=2.5, at_once=3)
        [record] = TokenBook(url).read().records
        assert (record.rate, record.at_once) == (2.5, 3)
        files = Files(url)
        [name] = files.sizes(EVERYTHING, "tokens", 1)
        data = json.loads(files.read(name) or b"")
        for limits, expected in (({}, [(None, None)]), ({"rate": 0}, []), ({"at_once": "many"}, [])):
            kept = {k: v for k, v in data.items() if k not in ("rate", "at_once")}
            files.put(name, json.dumps({**kept, **limits}).encode())
            found = TokenBook(url).read().records
            assert [(one.rate, one.at_once) for one in found] == expected

    def test_a_store_without_tokens_is_only_read(self, url: str) -> None:
        assert not TokenBook(url).read().any
        assert not Files(url).has_folder("")

    def test_a_token_ends_when_it_expires_or_is_revoked_and_its_record_stays(self, url: str) -> None:
        book, other = TokenBook(url), TokenBook(url)
        book.add("short", "default", BOTH, NOW, NOW + 60)
        book.add("long", "default", BOTH, NOW)
        states = {r.name: r.state(NOW + 59) for r in other.read().records}
        assert states == {"short": "active", "long": "active"}
        assert book.revoke("long", NOW + 60) == 1
        states = {r.name: r.state(NOW + 60) for r in other.read().records}
        assert states == {"short": "expired", "long": "revoked"}
        assert other.read().any

    def test_a_name_is_taken_while_its_token_is_active(self, url: str) -> None:
        book = TokenBook(url)
        first = book.add("ci", "default", BOTH, NOW)
        with pytest.raises(BadRequest, match="there is a token 'ci' already"):
            TokenBook(url).add("ci", "default", BOTH, NOW)
        book.revoke("ci", NOW)
        assert book.add("ci", "default", BOTH, NOW) != first
        assert [r.state(NOW) for r in book.read().records].count("active") == 1

    def test_what_is_not_there_can_not_be_revoked(self, url: str) -> None:
        book = TokenBook(url)
        with pytest.raises(BadRequest, match="there is no token 'ci'"):
            book.revoke("ci", NOW)
        book.add("ci", "default", BOTH, NOW)
        book.revoke("ci", NOW)
        with pytest.raises(BadRequest, match="'ci' is revoked already"):
            book.revoke("ci", NOW)

    @pytest.mark.parametrize("name", ["", ".x", "a b", "../x", "x" * 65])
    def test_names_and_tenants_are_words(self, url: str, name: str) -> None:
        with pytest.raises(BadRequest, match="a token's name must be"):
            TokenBook(url).add(name, "default", BOTH, NOW)
        with pytest.raises(BadRequest, match="a token's tenant must be"):
            TokenBook(url).add("ci", name, BOTH, NOW)

    @pytest.mark.parametrize(
        "change",
        [
            {"scopes": ["read", "everything"]},
            {"scopes": "read"},
            {"expires": "never"},
            {"tenant": None},
            {"hash": "0" * 64},
            None,
        ],
    )
    def test_a_damaged_record_lets_nobody_in_and_still_counts(
        self, url: str, change: dict[str, object] | None
    ) -> None:
        book = TokenBook(url)
        book.add("good", "default", BOTH, NOW)
        book.add("bad", "default", BOTH, NOW)
        files = Files(url)
        for name in files.sizes(EVERYTHING, "tokens", 1):
            record = json.loads(files.read(name) or b"")
            if record["name"] == "bad":
                text = b"{" if change is None else json.dumps({**record, **change}).encode()
                files.write(name, text)
        found = TokenBook(url).read()
        assert ([r.name for r in found.records], found.damaged, found.any) == (["good"], 1, True)


class TestOnDisk(OnDisk, Contract):
    pass


class TestInMemory(InMemory, Contract):
    pass


class Troubled:
    @pytest.mark.parametrize("call", ["read", "list"])
    def test_what_can_not_be_read_now_is_an_error_and_not_a_token_less(
        self, url: str, trouble: Trouble, call: str
    ) -> None:
        TokenBook(url).add("ci", "default", BOTH, NOW)
        book = TokenBook(url)
        trouble.fail(call, ERRORS["input/output"])
        with pytest.raises(StoreError):
            book.read()
        trouble.end()
        assert [r.name for r in book.read().records] == ["ci"]

    def test_half_a_record_is_no_damage(self, url: str, trouble: Trouble) -> None:
        TokenBook(url).add("ci", "default", BOTH, NOW)
        book = TokenBook(url)
        trouble.tear()
        with pytest.raises(StoreError):
            book.read()
        trouble.end()
        assert book.read().damaged == 0

    def test_a_second_look_at_known_tokens_reads_none_of_them(self, url: str, trouble: Trouble) -> None:
        book = TokenBook(url)
        book.add("ci", "default", BOTH, NOW)
        book.read()
        trouble.fail("read", ERRORS["input/output"])
        assert [r.name for r in book.read().records] == ["ci"]


class TestOnTroubledDisk(OnTroubledDisk, Troubled):
    pass


class TestInTroubledMemory(InTroubledMemory, Troubled):
    pass
