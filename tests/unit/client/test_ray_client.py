"""Joining a cluster as a Ray client, when the server process that Ray forks for it is stillborn."""

from __future__ import annotations

import pytest

from amber_ray.fabric.adapter import gateway

DEAD = "Initialization failure from server:\nRuntimeError: Starting Ray client server failed. See the logs."


def joining(monkeypatch: pytest.MonkeyPatch, *outcomes: Exception | None) -> list[str]:
    """Ray's side, with these outcomes in order; returns the addresses that were tried."""
    tried: list[str] = []

    def init(*, address: str, **_: object) -> None:
        tried.append(address)
        outcome = outcomes[len(tried) - 1]
        if outcome is not None:
            raise outcome

    monkeypatch.setattr(gateway.ray, "init", init)
    return tried


def test_a_stillborn_client_server_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = joining(monkeypatch, ConnectionAbortedError(DEAD), ConnectionAbortedError(DEAD), None)
    gateway._init("ray://127.0.0.1:1", "amber")
    assert tried == ["ray://127.0.0.1:1"] * 3


def test_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = joining(monkeypatch, *[ConnectionAbortedError(DEAD)] * 100)
    with pytest.raises(ConnectionAbortedError, match="Starting Ray client server failed"):
        gateway._init("ray://127.0.0.1:1", "amber")
    assert len(tried) == gateway.ATTEMPTS


@pytest.mark.parametrize("error", [ConnectionError("no one there"), ConnectionAbortedError("another Python")])
def test_other_refusals_are_final(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    tried = joining(monkeypatch, error, None)
    with pytest.raises(type(error), match=str(error)):
        gateway._init("ray://127.0.0.1:1", "amber")
    assert len(tried) == 1
