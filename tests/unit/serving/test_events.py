"""Events over HTTP: who may send them, in whose name, and as what."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from amber_ray.core.model.demands import Demand, DemandStatus, DemandView
from amber_ray.core.model.trust import Scope
from amber_ray.serving.keyring import Keyring
from amber_ray.store.tokens import TokenBook
from tests.http_app import client, run
from tests.memory_service import MemoryService

FILMS = Demand("films", ("size",), ("s3://media/new/",), tenant="search")
RECORD = {
    "eventName": "ObjectCreated:Put",
    "s3": {"bucket": {"name": "media"}, "object": {"key": "new/red+flower.png"}},
}


def service() -> MemoryService:
    return MemoryService(kept_true={"films": DemandView(FILMS, DemandStatus(), 0.0)})


def test_a_message_of_sns_may_call_its_json_text_and_nobody_else_may(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = json.dumps({"Type": "Notification", "Message": json.dumps({"Records": [RECORD, RECORD]})})
    asks = json.dumps({"Type": "SubscriptionConfirmation", "SubscribeURL": "https://sns.example/?Token=1"})
    text = {"Content-Type": "text/plain; charset=UTF-8"}
    sns = {**text, "x-amz-sns-message-type": "Notification"}

    async def story() -> None:
        async with client(service()) as http:
            answer = await http.post("/v1/events", content=told, headers=sns)
            assert answer.json() == {"taken": 2, "uncovered": 0, "dropped": 0, "ignored": 0}
            assert (await http.post("/v1/events", content=told, headers=text)).status_code == 415
            answer = await http.post("/v1/events", content=asks, headers=sns)
            assert answer.json() == {"taken": 0, "uncovered": 0, "dropped": 0, "ignored": 0}

    run(story)
    assert "opening 'https://sns.example/?Token=1'" in caplog.text


def test_a_token_tells_of_the_demands_of_its_tenant_alone(tmp_path: Path) -> None:
    book = TokenBook(str(tmp_path))
    rights = frozenset({Scope.COMPUTE})
    mine, other = (book.add(tenant, tenant, rights, 0.0, None) for tenant in ("search", "web"))

    async def story() -> None:
        async with client(service(), keyring=Keyring((), book)) as http:
            for token, taken in ((mine, 1), (other, 0)):
                headers = {"Authorization": f"Bearer {token}"}
                answer = await http.post("/v1/events", json={"uri": "s3://media/new/a"}, headers=headers)
                assert (answer.json()["taken"], answer.json()["uncovered"]) == (taken, 1 - taken)

    run(story)


def test_a_demand_is_of_the_tenant_of_the_token_that_says_it(tmp_path: Path) -> None:
    book, kept = TokenBook(str(tmp_path)), MemoryService()
    rights = frozenset({Scope.OPERATE})
    headers = {"Authorization": f"Bearer {book.add('ops', 'search', rights, 0.0, None)}"}
    asked = {"features": ["probe"], "prefixes": ["/films"]}

    async def story() -> None:
        async with client(kept, keyring=Keyring((), book)) as http:
            for tenant, status in (({}, 200), ({"tenant": "search"}, 200), ({"tenant": "web"}, 403)):
                answer = await http.put("/v1/demands/d", json=asked | tenant, headers=headers)
                assert answer.status_code == status, tenant
            assert [view.demand.tenant for view in await kept.demands()] == ["search"]

    run(story)
