"""What is logged of requests: those that failed or were slow, and every one by a setting; one line each."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from amber_ray.errors import Unavailable
from amber_ray.settings import Settings
from tests.http_app import client, compute_body, run
from tests.memory_service import MemoryService

Logged = list[tuple[str, str, str, int, str]]


def logged(caplog: pytest.LogCaptureFixture, *calls: tuple[str, str], **settings: Any) -> Logged:
    """What lines say of calls: level, method, path, status, why."""

    async def story() -> None:
        async with client(MemoryService(), Settings(**settings)) as http:
            for method, path in calls:
                body = compute_body("brightness") if method == "POST" else None
                await http.request(method, path, json=body)

    with caplog.at_level(logging.INFO, "amber.http"):
        run(story)
    return [
        (r.levelname, r.method, r.path, r.status, r.getMessage())
        for r in caplog.records
        if r.name == "amber.http"
    ]


FINE = ("POST", "/v1/compute")


def test_what_went_well_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert logged(caplog, FINE, ("GET", "/healthz"), ("GET", "/v1/features")) == []


def test_what_failed_is_logged_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    [line] = logged(caplog, FINE, ("GET", "/v1/values/x"))
    assert line[:4] == ("WARNING", "GET", "/v1/values/x", 400)
    assert "a key is 32 lower-case hex digits" in line[4]


def test_what_was_slow_is_logged_and_what_lasts_as_its_caller_likes_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = (FINE, ("GET", "/v1/requests/rq-000000/events"))
    assert logged(caplog, *calls, slow_seconds=0.0) == [
        ("WARNING", "POST", "/v1/compute", 200, "slow, 0 s or longer")
    ]


def test_an_access_log_has_every_request_and_its_ids(caplog: pytest.LogCaptureFixture) -> None:
    assert logged(caplog, FINE, ("GET", "/healthz"), access_log=True) == [
        ("INFO", "POST", "/v1/compute", 200, ""),
        ("INFO", "GET", "/healthz", 200, ""),
    ]
    first, second = (r for r in caplog.records if r.name == "amber.http")
    assert (first.request, second.request) == ("rq-000000", None)
    assert len(first.id) == 24
    assert 0 <= first.seconds < 20


def test_a_fault_of_the_service_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with client(MemoryService(error=Unavailable("the cluster is restarting"))) as http:
            await http.get("/v1/stats", headers={"X-Request-Id": "trace-1"})

    run(story)
    [line] = caplog.records
    assert (line.levelname, line.id, line.getMessage()) == ("ERROR", "trace-1", "the cluster is restarting")


def test_a_stranger_writes_no_lines_of_his_own(caplog: pytest.LogCaptureFixture) -> None:
    [line] = logged(caplog, ("GET", "/nope%0A2026 ERROR all is lost%1b[31m" + "x" * 1000))
    assert line[2].startswith(r"/nope\n2026 ERROR all is lost\x1b[31mxxx")
    assert "\n" not in line[4]
    assert len(line[2]) < 350
