"""Which exceptions of a feature are wishes to be tried again later, and when."""

from __future__ import annotations

import types

import httpx
import pytest

from amber_ray import RetryLater
from amber_ray.core.declare.calls import Calls
from amber_ray.fabric.worker.later import wish_of

ASKED = Calls(retry_status=(429, 503))
NOW = 1_700_000_000.0


def http_error(status: int, **headers: str) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "http://service/x")
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    response = httpx.Response(status, headers=names, request=request)
    return httpx.HTTPStatusError(f"{status} for /x", request=request, response=response)


def test_retry_later_is_one_whatever_was_declared() -> None:
    error = RetryLater(3)
    assert wish_of(Calls(), error) is error


@pytest.mark.parametrize("status", [429, 503])
def test_a_status_that_was_declared_is_one_with_the_seconds_that_it_names(status: int) -> None:
    wish = wish_of(ASKED, http_error(status, Retry_After="12"))
    assert wish is not None
    assert (wish.seconds, str(wish)) == (12.0, f"HTTPStatusError: {status} for /x")


def test_other_errors_are_none() -> None:
    for calls, error in (
        (Calls(), http_error(429, Retry_After="12")),
        (ASKED, http_error(500, Retry_After="12")),
        (ASKED, ValueError("the moon is full")),
        (ASKED, httpx.ConnectError("nobody is there")),
    ):
        assert wish_of(calls, error) is None


def test_an_exception_with_such_a_response_is_known_by_its_shape() -> None:
    error = OSError("429 Client Error")
    error.response = types.SimpleNamespace(status_code=429, headers={"Retry-After": "2"})  # type: ignore[attr-defined]
    wish = wish_of(ASKED, error)
    assert wish is not None
    assert wish.seconds == 2.0


def test_a_response_without_headers_says_nothing_of_when() -> None:
    error = OSError("429 Client Error")
    error.response = types.SimpleNamespace(status_code=429)  # type: ignore[attr-defined]
    wish = wish_of(ASKED, error)
    assert wish is not None
    assert wish.seconds == 0.0
