"""Code on its way to workers: each layer is what it was when it was registered, whatever was edited since."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ray import cloudpickle

from amber_ray.core.fingerprint import live
from amber_ray.fabric.transport import registry_blob

PROGRAM = """
import importlib, json
from amber_ray.core.declare.registry import Registry
from amber_ray.fabric.transport import layers, registry_blob
from amber_ray import Asset, feature
import beside

@feature
def through(asset: Asset) -> int:
    return helper() + beside.number()

@feature
class Through2:
    def __call__(self, asset: Asset) -> int:
        return helper() + beside.number()

def helper():
    return 1

def blob():
    specs = [f.__amber__.sealed() for f in (through, Through2)]
    registry = Registry(specs)
    return layers.bottom(registry.digest, registry.names(), registry_blob.pack_layer(specs))

blobs = [blob(), blob()]

def helper():
    return 2

blobs.append(blob())
with open("beside.py", "w") as file:
    file.write("def number():\\n    return 20\\n")
importlib.reload(beside)
blobs.append(blob())
for number, data in enumerate(blobs):
    with open(f"{number}.blob", "wb") as file:
        file.write(data)
print(json.dumps([through(None), Through2()(None)]))
"""
WORKER = """
import json, sys
from amber_ray.fabric.transport import registry_blob
import beside

beside.number = lambda: 10  # as a worker has it that imported it before the edit
registries = []
for number in map(int, sys.argv[1:]):
    with open(f"{number}.blob", "rb") as file:
        registries.append(registry_blob.unpack(file.read()))
told = []
for registry in registries:
    told.append([registry.get("through").target(None), registry.get("through2").target()(None)])
print(json.dumps(told))
"""


def run(folder: Path, text: str, *arguments: str) -> list[list[int]]:
    # -B: of two texts as long, written in the same second, Python would take the one that it compiled.
    ran = subprocess.run(
        [sys.executable, "-B", "-c", text, *arguments], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    found: list[list[int]] = json.loads(ran.stdout)
    return found


def test_each_layer_is_what_it_was_when_it_was_registered(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("def number():\n    return 10\n")
    assert run(tmp_path, PROGRAM) == [22, 22]
    for order in ("023", "320", "203"):
        expected = {"0": [11, 11], "2": [12, 12], "3": [22, 22]}
        assert run(tmp_path, WORKER, *order) == [expected[number] for number in order]


def made(name: str, module: str) -> type:
    """A class that some function makes, so that it has no name to be found by and is pickled by value."""
    return type(name, (), {"__module__": module, "__qualname__": f"made.<locals>.{name}"})


def test_what_serve_and_ray_pickle_is_not_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """They make classes of a replica's, which reach most of their code and of Amber's."""
    own, rays = made("Replica", "amber_ray.serving.deployment"), made("Wrapped", "ray.serve.api")
    other = made("Other", __name__)
    cloudpickle.dumps((own, rays, other))
    looked: list[object] = []
    monkeypatch.setattr(live, "digest", lambda cls: looked.append(cls) or "")
    registry_blob.pack_layer(())
    assert other in looked
    assert not {own, rays} & set(looked)
