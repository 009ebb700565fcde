"""`connect` from programs of their own: embedded, eight at once inside a cluster, and from outside."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from amber_ray.serving import front
from tests.server import CLIP, KIT, MARK, Server

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[2]
BOUND = 150.0


class Programs:
    """Runs Python programs in an empty folder; what they start carries a mark, so that leftovers are seen."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = Server(folder)
        self.server.mark = secrets.token_hex(8)
        self.home = folder / "home"
        self.home.mkdir()
        self.environment = {
            **{k: v for k, v in os.environ.items() if k not in ("RAY_AUTH_MODE", "RAY_ADDRESS")},
            MARK: self.server.mark,
            "AMBER_TEST_DIR": str(self.server.traces),
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.home),
        }

    def start(self, text: str) -> subprocess.Popen[str]:
        path = self.folder / f"{secrets.token_hex(4)}.py"
        path.write_text(text)
        return subprocess.Popen(
            [sys.executable, str(path)],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, text: str) -> str:
        return told(self.start(text))


def told(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=BOUND)
    assert process.returncode == 0, err
    return out


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    made = Programs(tmp_path)
    yield made
    made.server.kill_everything()
    assert sorted(made.home.rglob("*")) == []  # an Amber leaves nothing but its store


def test_a_script_may_bring_features_of_its_own(programs: Programs) -> None:
    loaded = programs.folder / "loaded"
    program = f"""
import time
from pathlib import Path
import amber_ray as amber
from amber_ray import errors

clip = {str(CLIP)!r}

class Trace:
    def __reduce__(self):  # it is no more than a file where it is unpickled
        return Path.touch, (Path({str(loaded)!r}),)

trace = Trace()

@amber.feature(version="1")
def doubled(asset: amber.Asset, by: int = 2) -> int:
    return asset.bytes * by if trace is None else 0

@amber.feature(version="1")
def wrong(asset: amber.Asset) -> int:
    raise ValueError("on purpose")

with amber.connect(features=[doubled, wrong]) as client:
    client.purge(feature="doubled")  # Ray starts, and runs no feature
    until = time.monotonic() + 60
    while not Path({str(loaded)!r}).exists() and time.monotonic() < until:
        time.sleep(0.01)
    print("a worker is ready" if Path({str(loaded)!r}).exists() else "no worker has the code")
    print(client.get(doubled, clip), client.get("doubled", clip, params={{"doubled.by": 3}}))
    try:
        client.get(wrong, clip)
    except errors.FeatureError as error:
        print(error)
forgotten = amber.connect(features=[doubled])  # Closed by the interpreter's end.
print(forgotten.get_many(doubled, clip).rows[0].cached)
"""
    size = CLIP.stat().st_size
    assert programs.run(program).splitlines() == [
        "a worker is ready",
        f"{size * 2} {size * 3}",
        "wrong: ValueError: on purpose",
        "True",
    ]
    programs.server.until(lambda: not programs.server.processes(), 20)
    assert (programs.folder / "amber-store/code.json").exists()


NOTEBOOK = """
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()

def cell(text):
    shell.run_cell(text, silent=True).raise_error()

def value(text):
    cell(f"shown = {text}")
    print(shell.user_ns["shown"])
"""
CELLS = """
cell("import amber_ray as amber")
cell("def helper(n):\\n    return n * 0")
low = '''
@amber.feature
def low(asset: amber.Asset) -> int:
    return helper(asset.bytes) + %d
'''
cell(low % 1)
cell("@amber.feature\\ndef high(low: int) -> int:\\n    return low * 10")
cell("client = amber.connect(features=[low])")
value("client.get(low, clip), client.get(high, clip)")
cell("old = low")
cell(low % 2)
value("client.get(low, clip), client.get(high, clip), client.get('high', clip), client.get(old, clip)")
cell("def helper(n):\\n    return n * 0 + 100")
value("client.get('low', clip), client.get(high, clip), client.get(old, clip), client.get(low, clip)")
cell("def helper(n):\\n    return n * 0 + 100  # as it was")
value("client.register(low).replaced, client.get_many([low, high], clip).rows[1].cached")
cell('''
@amber.feature
class Scaled:
    def __init__(self, by: int = 3):
        self.by = by
    def __call__(self, low: int) -> int:
        return scale(low) * self.by
''')
cell("def scale(n):\\n    return n")
value("client.get(Scaled, clip)")
cell("def scale(n):\\n    return n * 2")
value("client.get(Scaled, clip), client.get('scaled', clip)")
pinned = '''
@amber.feature(version="1")
def pinned(asset: amber.Asset) -> int:
    return %d
'''
cell(pinned % 1)
value("client.get(pinned, clip)")
cell(pinned % 2)
cell('''
try:
    client.get(pinned, clip)
except amber.AmberError as error:
    said = str(error)
''')
value("said")
cell("client.close()")
"""


def test_a_notebook_gets_what_its_cells_say_now(programs: Programs) -> None:
    """Functions, helpers, classes and inputs defined again, an older object, and a warm model's helper."""
    programs.environment["IPYTHONDIR"] = str(programs.folder / "ipython")
    program = f"{NOTEBOOK}\nshell.user_ns['clip'] = {str(CLIP)!r}\n{CELLS}"
    assert programs.run(program).splitlines() == [
        "(1, 10)",
        "(2, 20, 20, 1)",
        "(1, 1020, 101, 102)",
        "((), True)",
        "306",
        "(612, 612)",
        "1",
        "feature 'pinned' changed and its version is still '1', under which values of the old code are "
        "stored; give it a new version, or none, so that it follows the code",
    ]
    programs.server.until(lambda: not programs.server.processes(), 20)


def test_clients_of_one_program_share_its_ray(programs: Programs) -> None:
    """Two of one store, another store, threads, one forgotten, one left open with work under way."""
    program = f"""
import gc, threading, time
import ray
import amber_ray as amber

clip = {str(CLIP)!r}

@amber.feature
def plus(asset: amber.Asset, n: int = 1) -> int:
    return asset.bytes + n

@amber.feature
def endless(asset: amber.Asset) -> int:
    while True:
        time.sleep(0.1)

def raylets():
    return len([n for n in ray.nodes() if n["Alive"]]), ray.get_runtime_context().gcs_address

first = amber.connect(features=[plus])
first.get(plus, clip)
here = raylets()
second = amber.connect()
other = amber.connect(store="other", features=[plus])
print(first.get(plus, clip), second.get(plus, clip), other.get(plus, clip))
print(second.get_many(plus, clip).rows[0].cached, other.get_many(plus, clip).rows[0].cached)
assert raylets() == here
try:
    amber.connect(settings=amber.Settings(segment_seconds=10)).get(plus, clip, params={{"plus.n": 7}})
except amber.AmberError as error:
    print(error)
first.close()
try:
    first.get(plus, clip)
except amber.AmberError as error:
    print(error)
print(second.get(plus, clip, params={{"plus.n": 2}}) - second.get(plus, clip))
auto = amber.connect("auto")
second.close()
print(auto.get_many(plus, clip).rows[0].cached)
auto.submit(plus, clip).result()
auto = None  # forgotten
gc.collect()

def thread(n):
    with amber.connect() as client:
        assert client.get(plus, clip, params={{"plus.n": n}}) == client.asset(clip).bytes + n

threads = [threading.Thread(target=thread, args=(n,)) for n in range(10, 14)]
for t in threads: t.start()
for t in threads: t.join()
assert raylets() == here
other.close()
while threading.active_count() > 1 and any(t.name == "amber-close" for t in threading.enumerate()):
    time.sleep(0.01)
assert not ray.is_initialized()
again = amber.connect(features=[plus, endless])
print(again.get_many(plus, clip).rows[0].cached)
future = again.submit(endless, clip)
amber.connect().get(plus, clip)
"""
    size = CLIP.stat().st_size
    assert programs.run(program).splitlines() == [
        f"{size + 1} {size + 1} {size + 1}",
        "True True",
        f"store {programs.folder / 'amber-store'} is open in this process with segment_seconds=60.0, not 10; "
        "close its clients first, or give another store",
        "the client is closed; connect again",
        "1",
        "True",
        "True",
    ]
    programs.server.until(lambda: not programs.server.processes(), 20)


@pytest.fixture
def head(programs: Programs) -> Iterator[dict[str, str]]:
    """A Ray of its own with tokens, outside any of the programs; its addresses."""
    # Ray puts sockets below its folder, and the path of a socket is at most 107 bytes long.
    place = Path("/tmp") / f"amber-connect-{secrets.token_hex(4)}"
    place.mkdir()
    (place / "token").write_text(secrets.token_hex(32))
    gcs, client, *others = front.free_ports((0,) * 7)
    programs.environment |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(place / "token"),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    names = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "runtime-env-agent-port")
    names += ("metrics-export-port", "dashboard-port")
    daemon = subprocess.Popen(
        [
            *(str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--num-cpus=2"),
            *("--node-ip-address=127.0.0.1", f"--port={gcs}", f"--ray-client-server-port={client}"),
            *(f"--{name}={port}" for name, port in zip(names, others, strict=True)),
            *(f"--temp-dir={place}", "--object-store-memory=200000000", "--include-dashboard=false"),
            *("--no-monitor", "--include-log-monitor=false"),
        ],
        env=programs.environment,
        cwd=programs.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    programs.server.until(lambda: listens(client) and listens(gcs), 60)
    try:
        yield {"cluster": f"127.0.0.1:{gcs}", "outside": f"ray://127.0.0.1:{client}"}
    finally:
        programs.server.kill_everything()
        daemon.wait(30)
        for log in place.glob("session_*/logs/ray_client_server*"):  # Shown when the test has failed.
            print(log.name, log.read_text(errors="replace")[-4000:], sep="\n")
        shutil.rmtree(place, ignore_errors=True)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_eight_processes_in_a_cluster_are_one_computation_and_ray_client_reads_it(
    programs: Programs, head: dict[str, str]
) -> None:
    programs.environment["RAY_ADDRESS"] = head["cluster"]
    settings = f"store={str(programs.folder / 'store')!r}, features=[{KIT!r}]"
    asking = f"""
import sys
import amber_ray
with amber_ray.connect("auto", {settings}) as client:
    before = set(sys.modules)
    value = client.get("gated", {str(CLIP)!r}, timeout=120)
    print(value, {{"av", "PIL", "pandas"}} & (sys.modules.keys() - before))
"""
    processes = [programs.start(asking) for _ in range(8)]
    programs.server.until(lambda: programs.server.runs("gated") >= 1, BOUND)
    programs.server.open("gated")
    size = CLIP.stat().st_size
    # What a question about a new file needs was imported while the program connected.
    assert [told(process) for process in processes] == [f"{size} set()\n"] * 8
    assert programs.server.runs("gated") == 1

    adopted = f"""
import amber_ray
with amber_ray.connect("auto") as client:
    print(client.get_many("gated", {str(CLIP)!r}).rows[0].cached)
"""
    assert programs.run(adopted) == "True\n"

    del programs.environment["RAY_ADDRESS"]
    # From a process that had an Amber of its own before: that Ray's token is not this one's.
    elsewhere = "\nwith amber_ray.connect(store='other') as own:\n    own.features()\nimport os\n"
    named = f"os.environ['RAY_AUTH_TOKEN_PATH'] = {programs.environment.pop('RAY_AUTH_TOKEN_PATH')!r}\n"
    joining = adopted.replace('"auto"', repr(head["cluster"])).replace("import amber_ray", "", 1)
    assert programs.run("import amber_ray" + elsewhere + named + joining) == "True\n"
    programs.environment["RAY_AUTH_TOKEN_PATH"] = named.split("'")[3]
    outside = f"""
import amber_ray
clip = {str(CLIP)!r}
with amber_ray.connect({head["outside"]!r}) as client:
    results = client.get_many(["gated", "thumbnail"], clip)
    print([row.cached for row in results.rows], results["thumbnail", clip][:3])
    print(client.submit("size", clip).result(60), client.explain("size", clip)[0].feature)

    @amber_ray.feature
    def mine(size: int) -> int:
        return size + more()

    def more():
        return 1
    print(client.get(mine, clip), client.get("mine", clip))

    def more():
        return 2
    print(client.get(mine, clip), client.register(mine))
    print([info.name for info in client.features() if info.name == "mine"])
"""
    said = programs.run(outside).splitlines()
    assert said[:2] == ["[True, False] b'\\xff\\xd8\\xff'", f"{size} size"]
    assert said[2] == f"{size + 1} {size + 1}"
    assert said[3].startswith(f"{size + 2} <Registration mine auto-")
    assert said[4] == "['mine']"
    another = f"""
import amber_ray
with amber_ray.connect({head["outside"]!r}) as client:
    print([info.name for info in client.features() if info.name == "mine"])
"""
    assert programs.run(another) == "[]\n"  # each client has its own
    assert programs.server.runs("gated") == 1
