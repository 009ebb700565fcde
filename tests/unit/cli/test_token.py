"""`amber token`: what is printed, what is refused, and what a server then makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from amber_ray.cli import main
from amber_ray.cli.parser import build
from amber_ray.cli.serve import served_settings
from amber_ray.cli.token import seconds_of
from amber_ray.errors import BadRequest
from amber_ray.serving import deployment
from amber_ray.settings import Settings
from amber_ray.store.tokens import TokenBook

Said = tuple[int, str, str]


class Shell:
    def __init__(self, store: Path, captured: pytest.CaptureFixture[str]) -> None:
        self.store = store
        self._captured = captured

    def __call__(self, *words: str) -> Said:
        status = main(["token", *words, "--store", str(self.store)])
        out, err = self._captured.readouterr()
        return status, out, err


@pytest.fixture
def token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path / "store", capsys)


def test_limits_are_kept_and_listed_and_none_is_below_nought(token: Shell) -> None:
    assert token("new", "ci", "--scope", "read", "--rate", "2.5", "--at-once", "3")[0] == 0
    assert "2.5 a second, 3 at once" in " ".join(token("list")[1].split())
    [listed] = json.loads(token("list", "--format", "json")[1])
    assert (listed["rate"], listed["at_once"]) == (2.5, 3)
    for words in (("--rate", "0"), ("--rate", "nan"), ("--at-once", "-1")):
        status, _, err = token("new", "other", "--scope", "read", *words)
        assert (status, "above 0" in err) == (2, True)


def test_a_new_token_is_all_that_is_printed_and_is_told_once(token: Shell) -> None:
    status, out, err = token(
        "new", "ci", "--tenant", "search", "--scope", "read, compute", "--expires", "90d"
    )
    assert (status, out.count("\n")) == (0, 1)
    assert out.startswith("amber_")
    assert "can't be shown again" in err
    assert "ask everybody for a token" in err
    assert "everybody" not in token("new", "second", "--scope", "read")[2]
    status, out, err = token("list")
    assert (status, err) == (0, "")
    assert all(word in out for word in ("ci", "search", "compute, read", "active", "never"))
    assert "amber_" not in out
    status, out, _ = token("list", "--format", "json")
    first = json.loads(out)[0]
    assert (first["name"], first["tenant"], first["scopes"]) == ("ci", "search", ["compute", "read"])
    assert first["expires"] - first["made"] == pytest.approx(90 * 86_400)


def test_a_revoked_token_is_listed_as_such(token: Shell) -> None:
    token("new", "ci", "--scope", "read")
    assert token("revoke", "ci") == (0, "ci is revoked; servers refuse it within 5 s\n", "")
    assert json.loads(token("list", "--format", "json")[1])[0]["state"] == "revoked"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("new", "ci", "--scope", "read,wrte"), "there is no scope 'wrte'; the scopes are read, compute"),
        (("new", "ci", "--scope", ","), "--scope names at least one of"),
        (("new", "ci", "--scope", "read", "--expires", "soon"), "such as 90d, not 'soon'"),
        (("new", "a b", "--scope", "read"), "a token's name must be"),
        (("revoke", "ci"), "there is no store at"),
        (("list",), "there is no store at"),
        (("new", "ci"), "--scope"),
    ],
)
def test_what_can_not_be_is_refused_in_a_sentence(
    token: Shell, words: tuple[str, ...], sentence: str
) -> None:
    status, out, err = token(*words)
    assert (status, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1
    assert not token.store.exists()


@pytest.mark.parametrize(
    ("text", "seconds"), [("5m", 300), ("2h", 7200), ("90d", 7_776_000), ("1w", 604_800)]
)
def test_times_that_a_token_may_be_good_for(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds
    with pytest.raises(BadRequest):
        seconds_of(f"-{text}")


def test_a_store_with_a_token_may_be_served_to_other_machines(
    token: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AMBER_TOKENS", raising=False)
    words = ["serve", "--host", "0.0.0.0", "--port", "0", "--allow-origin", "*", "--store", str(token.store)]
    settings = served_settings(build().parse_args(words))
    with pytest.raises(BadRequest, match="amber token new"):
        deployment.environment(settings)
    token("new", "ci", "--scope", "read")
    token("revoke", "ci")
    # Nobody has a good token, and nobody is let in without one.
    served = deployment.environment(settings)
    deployment.front.remove(served.get("RAY_SERVE_HAPROXY_SERVER_STATE_BASE"))


def test_a_loopback_server_looks_at_no_store_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: TokenBook) -> None:
        raise AssertionError

    monkeypatch.setattr(TokenBook, "read", never)
    settings = Settings(port=0)
    served = deployment.environment(settings)
    deployment.front.remove(served.get("RAY_SERVE_HAPROXY_SERVER_STATE_BASE"))
