"""`amber deploy`: what is sent to the dashboard, and what is said where that can't be."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from amber_ray.cli import main

CODE = "from amber_ray import Asset, feature\n\n@feature\ndef answer(asset: Asset) -> int:\n    return {}\n"


class Dashboard(http.server.ThreadingHTTPServer):
    """Takes configurations as Ray's dashboard does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.taken: list[dict[str, Any]] = []
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Dashboard

    def do_GET(self) -> None:
        self._answer(json.dumps({"version": "4", "ray_version": "2.60.0", "ray_commit": ""}).encode())

    def do_PUT(self) -> None:
        self.server.taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._answer(b"{}")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture
def dashboard() -> Iterator[Dashboard]:
    with Dashboard() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def config(folder: Path, **args: Any) -> str:
    path = folder / "serve.yaml"
    application = {"name": "amber", "import_path": "amber_ray.serving.deployment:build", "args": args}
    path.write_text(yaml.safe_dump({"applications": [application]}))
    return str(path)


def test_the_same_file_with_new_code_is_another_configuration(tmp_path: Path, dashboard: Dashboard) -> None:
    code = tmp_path / "my_features.py"
    path = config(tmp_path, features=[str(code)], builtins=False, port=8123)
    for value in (1, 1, 2):
        code.write_text(CODE.format(value))
        assert main(["deploy", path, "-a", dashboard.address]) == 0
    first, same, new = (taken["applications"][0]["args"] for taken in dashboard.taken)
    assert first == same
    assert first["port"] == 8123
    assert new["revision"] != first["revision"]
    assert {**new, "revision": ""} == {**first, "revision": ""}


def test_a_revision_may_be_named(tmp_path: Path, dashboard: Dashboard) -> None:
    assert main(["deploy", config(tmp_path, revision="7"), "-a", dashboard.address]) == 0
    assert main(["deploy", config(tmp_path), "-a", dashboard.address, "--revision", "8"]) == 0
    assert [taken["applications"][0]["args"]["revision"] for taken in dashboard.taken] == ["7", "8"]


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        ("applications: [{import_path: other:app}]", 2, "no application in"),
        ("a: [", 2, "is not YAML"),
        ("- 1", 2, "is not a Serve config file"),
        (
            "applications: [{import_path: 'amber_ray.serving.deployment:build', args: {stor: x}}]",
            2,
            "unknown setting 'stor'",
        ),
    ],
)
def test_what_is_wrong_with_the_file_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, status: int, said: str
) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text(text)
    assert main(["deploy", str(path)]) == status
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1 or "YAML" in error


def test_a_cluster_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = config(tmp_path, builtins=False)
    assert main(["deploy", path, "-a", "http://127.0.0.1:9", "--revision", "1"]) == 3
    assert "http://127.0.0.1:9 does not take it" in capsys.readouterr().err
