"""Ray's own calls fail now and then: unsent, unanswered, or cut off while they are answered."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tests.fault.cluster import Caller, Cluster

pytestmark = pytest.mark.timeout(600)

EITHER_WAY = {
    "num_failures": -1,
    "req_failure_prob": 10,
    "resp_failure_prob": 10,
    "in_flight_failure_prob": 5,
}
CHAOS = {
    "NodeManagerService.grpc_client.RequestWorkerLease": EITHER_WAY,
    "NodeManagerService.grpc_client.ReturnWorkerLease": EITHER_WAY,
    "NodeManagerService.grpc_client.PinObjectIDs": EITHER_WAY,
    "CoreWorkerService.grpc_client.GetObjectStatus": EITHER_WAY,
    "CoreWorkerService.grpc_client.PubsubLongPolling": EITHER_WAY,
    "CoreWorkerService.grpc_client.PubsubCommandBatch": EITHER_WAY,
    "CoreWorkerService.grpc_client.UpdateObjectLocationBatch": EITHER_WAY,
    "ObjectManagerService.grpc_client.Pull": EITHER_WAY,
}
"""By call, percent of the requests that are never sent, of the answers that are thrown away, and of the calls
that break off while they are answered. `PushTask`, with which Ray and Serve take the other side for dead, is
not among them: what dies is in `test_processes_die`."""


@pytest.fixture(scope="module")
def chaotic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    env = {"RAY_testing_rpc_failure": json.dumps(CHAOS)}
    cluster = Cluster(tmp_path_factory.mktemp("chaos"), env=env)
    try:
        yield cluster.start()
    finally:
        cluster.stop()


def test_calls_between_rays_processes_fail_now_and_then(chaotic: Cluster, told: Callable[..., None]) -> None:
    clips = chaotic.clip(9)
    chaotic.add_node("spare")
    callers = [Caller(chaotic, "size,near,from_far", *clips[i::3], wait=50) for i in range(3)]
    callers += [Caller(chaotic, "size,near", *clips[i::3], wait=50) for i in range(3)]  # joined, not repeated
    views = [caller.done().view for caller in callers]

    assert [v["state"] for v in views] == ["done"] * len(callers)
    assert {r["state"] for v in views for r in v["results"]} == {"ready"}
    for result in views[0]["results"]:
        if result["feature"] == "near":
            (value,) = chaotic.arrays({"results": [result]})
            assert np.array_equal(value, np.full(262_144, value[0], np.float32))
    for feature in ("size", "near", "far"):
        ran = Counter(chaotic.lines(feature))
        assert set(ran.values()) == {1}, (feature, ran)
    assert chaotic.runs("size") == chaotic.runs("from_far") == len(clips)
    failed = Counter(line.split(" for ")[1].split()[0] for line in injected(chaotic))
    assert failed.keys() >= {"NodeManagerService.grpc_client.RequestWorkerLease"}, failed
    told("Ray's calls between processes fail at random", chaotic.answered(), 0)


def injected(cluster: Cluster) -> list[str]:
    """What Ray's logs say of the calls that it let fail."""
    logs = (cluster.place / "session_latest" / "logs").iterdir()
    lines = (line for log in logs if log.is_file() for line in log.read_text(errors="replace").splitlines())
    return [line for line in lines if "Inject RPC " in line]
