"""A client made by openapi-python-client from a description, as a user makes one; its warnings are errors."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

PACKAGE = "amber_on_ray_client"


def generate(folder: Path, *source: str) -> ModuleType:
    """Make the client that `source` describes (`--url URL` or `--path FILE`) and import it from `folder`."""
    config = folder / "config.yaml"
    config.write_text("post_hooks: []\n")  # by default it runs ruff over what it made
    made = subprocess.run(
        [
            *(sys.executable, "-m", "openapi_python_client", "generate", *source, "--fail-on-warning"),
            *("--config", str(config), "--meta", "none", "--output-path", str(folder / PACKAGE)),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    try:
        importlib.invalidate_caches()
        package = importlib.import_module(PACKAGE)
        for path in sorted((folder / PACKAGE).rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            importlib.import_module(".".join(part for part in parts if part != "__init__"))
    finally:
        sys.path.remove(str(folder))
    return package
