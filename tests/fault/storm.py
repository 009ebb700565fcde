"""A storm of demands, requests and callbacks over one server, and `kill -9` of everything in the midst of it.

`python -m tests.fault.storm --kills 20` kills at so many random moments, while it starts among them, and says
at the end what it counted. What must be so whatever the moment:

- nothing twice: in one life of the server each value is made at most once, and one that was stored when all
  died is never made again;
- nothing lost: each request that anybody has made ends with every value, right, under the id that it was made
  with, and the demand says that all is true;
- each request's callback reached the receiver at least once, with one id and one body; and so did what the
  demand has to tell: of each picture that became true, and that all were in the end;
- the audit log tells of each request that was answered, and of the demand.
"""

from __future__ import annotations

import argparse
import functools
import random
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from amber_ray import connect
from tests.fault.hooks import SECRETS, Hooks, Message
from tests.server import Server

KIT = str(Path(__file__).with_name("storm_kit.py"))
FEATURES = ("light", "told", "size")
CALLERS = 3
MOST_PICTURES = 150
LIFE_SECONDS = 5.0
"""Longest time that all runs before it is killed."""
END_SECONDS = 240.0
"""Longest wait for what is to be so in the end."""

Body = dict[str, Any]
Made = tuple[str, str]
"""A feature, and the asset that it is of."""


def served(folder: Path, hooks: Hooks) -> Server:
    """A server for a storm, which may call the receiver."""
    return Server(
        folder,
        *("--features", KIT),
        *("--callback-host", hooks.origin, "--callback-address", "127.0.0.1"),
        env={"AMBER_CALLBACK_SECRETS": ",".join(SECRETS)},
    )


class Storm:
    """Callers that ask until they are answered, pictures that come, a receiver that is down now and then."""

    def __init__(self, server: Server, hooks: Hooks, seed: int) -> None:
        self._server = server
        self._hooks = hooks
        self._rng = random.Random(seed)
        self._seed = seed
        self._kept = server.media / "kept"
        self._asked = server.media / "asked"
        self._grey: dict[Path, int] = {}
        self.requests: dict[str, Body] = {}
        self.answers: Counter[int] = Counter()
        self.again = 0
        self.lives: list[Counter[Made]] = []
        """How often each value had been made, whenever all had died."""
        self.stored: dict[Made, int] = {}
        """The same of each value that was found stored then, the first time that it was."""
        self._over = threading.Event()
        self._errors: list[BaseException] = []

    # --- what goes on meanwhile

    def _picture(self, folder: Path) -> None:
        """One that no other equals; it appears at once, as a whole."""
        number = len(self._grey)
        grey = 40 + number
        pixels = np.full((32, 48, 3), grey, np.uint8)
        pixels[0, 0] = (number, 0, 7)
        path = folder / f"{number:03}.png"
        Image.fromarray(pixels).save(folder / "part", "png")
        (folder / "part").rename(path)
        self._grey[path] = grey

    def _draw_pictures(self) -> None:
        rng = random.Random(f"{self._seed}/pictures")
        while not self._over.is_set() and len(self._grey) < MOST_PICTURES:
            self._picture(rng.choice((self._kept, self._asked)))
            self._over.wait(0.2 * rng.random())

    def _call(self, number: int) -> None:
        rng = random.Random(f"{self._seed}/{number}")
        while not self._over.is_set():
            id = uuid.UUID(int=rng.getrandbits(128)).hex
            body: Body = {
                "features": rng.sample(FEATURES, rng.randint(1, 3)),
                "assets": [{"uri": str(path)} for path in rng.sample(list(self._grey), rng.randint(1, 4))],
                "callback": {"url": f"{self._hooks.origin}/{number}"},
            }
            self.requests[id] = body
            self._ask(id, body, rng.choice((0.0, 0.2, 5.0)))
            self._over.wait(0.3 * rng.random())

    def _ask(self, id: str, body: Body, wait: float) -> None:
        """Until it was answered, whoever died: the same id is the same request."""
        headers = {"X-Amber-Request-Id": id, "Prefer": f"wait={wait:g}"}
        give_up = time.monotonic() + END_SECONDS
        while time.monotonic() < give_up:
            try:
                with self._server.client() as client:
                    reply = client.post("/v1/compute", json=body, headers=headers)
            except (httpx.TransportError, httpx.InvalidURL, httpx.UnsupportedProtocol):
                time.sleep(0.2)
                continue
            self.answers[reply.status_code] += 1
            if reply.status_code in (200, 202):
                return
            assert reply.status_code in (500, 502, 503), reply.text
            time.sleep(0.2)
        raise AssertionError(f"{id} was never answered")

    def _start(self, what: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                what()
            except BaseException as error:
                self._errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    # --- lives and deaths

    def rage(self, kills: int) -> None:
        """Kill everything so many times in the midst of it; at the end the server is up again."""
        for folder in (self._kept, self._asked):
            folder.mkdir()
            for _ in range(4):
                self._picture(folder)
        self._server.start()
        with connect(self._server.url) as client:
            told = {"url": f"{self._hooks.origin}/kept", "on": ["done", "result"]}
            client.keep("kept", ["told"], self._kept, every=0.5, settle_seconds=0.0, callback=told)
        threads = [self._start(functools.partial(self._call, number)) for number in range(CALLERS)]
        threads.append(self._start(self._draw_pictures))
        try:
            for number in range(kills):
                self._hooks.down = self._rng.random() < 0.3
                time.sleep(LIFE_SECONDS * self._rng.random())
                self._die()
                if number + 1 < kills and self._rng.random() < 0.2:  # and again before it is up
                    starting = threading.Thread(target=self._in_vain)
                    starting.start()
                    time.sleep(LIFE_SECONDS * self._rng.random())
                    self._die()
                    starting.join(60)
                self._server.start()
            time.sleep(1.0)
        finally:
            self._hooks.down = False
            self._over.set()
            for thread in threads:
                thread.join(END_SECONDS)
        if self._errors:
            raise self._errors[0]

    def _in_vain(self) -> None:
        try:
            self._server.start()
        except (AssertionError, OSError):
            pass  # it was killed before it said a word

    def _runs(self) -> Counter[Made]:
        return Counter((name, line) for name in FEATURES for line in self._server.lines(name))

    def _die(self) -> None:
        self._server.kill_everything()
        self.lives.append(self._runs())
        for name in FEATURES:
            for part in (self._server.store / "values" / name).rglob("*.parquet"):
                ids = pq.read_table(part, columns=["asset"])["asset"].to_pylist()
                for id in ids:
                    self.stored.setdefault((name, id), self.lives[-1][name, id])

    # --- what must be so in the end

    def holds(self) -> str:
        """Check all that was promised; return what was counted."""
        self._call_again()
        with self._server.client() as client:
            for id, body in self.requests.items():
                self._has_ended(client, id, body)
        self._is_kept()
        self._is_audited()
        self._news_was_told()
        calls = self._everybody_was_told()
        runs = self._nothing_twice()
        return (
            f"{len(self.lives)} kills; {len(self._grey)} pictures, {len(self.requests)} requests answered "
            f"{dict(self.answers)}; {calls} calls of the receiver; {sum(runs.values())} runs for {len(runs)} "
            f"values, of which {len(self.stored)} were stored when all died; "
            f"{self.again} values of ended requests had not been written and were made again"
        )

    def _has_ended(self, client: httpx.Client, id: str, body: Body) -> None:
        """A request is there under its id, and has every value, right and in its order."""
        self._server.until(lambda: client.get(f"/v1/requests/{id}").json()["state"] == "done", END_SECONDS)
        results = client.get(f"/v1/requests/{id}").json()["results"]
        assert {result["state"] for result in results} == {"ready"}, results
        paths = [Path(asset["uri"]) for asset in body["assets"]]
        for name in body["features"]:
            keys = [result["key"] for result in results if result["feature"] == name]
            for path, key in zip(paths, keys, strict=True):
                self._right(path, name, self._value(client, key, path, name))

    def _value(self, client: httpx.Client, key: str, path: Path, name: str) -> Any:
        """A value by its key. One that was not yet written when all died is made again when somebody asks."""
        reply = client.get(f"/v1/values/{key}")
        if reply.status_code == 404:
            self.again += 1
            again = self._server.compute(name, path).json()
            assert again["results"][0]["key"] == key, again
            reply = client.get(f"/v1/values/{key}")
        assert reply.status_code == 200, (key, reply.text)
        return reply.json()

    def _right(self, path: Path, name: str, value: Any) -> None:
        size, light = path.stat().st_size, self._grey[path] / 255
        if name == "size":
            assert value == size, (path, value)
        elif name == "light":
            assert abs(value - light) < 0.01, (path, value)
        else:
            assert value.startswith(f"{size} bytes, "), (path, value)

    def _is_kept(self) -> None:
        """The demand says so of all pictures of its folder, after a look that began now."""
        since, pictures = time.time(), len(list(self._kept.glob("*.png")))
        with connect(self._server.url) as client:

            def true() -> bool:
                [view] = client.demands()
                now = view.status
                return now.all_true and now.began > since and now.seen == pictures

            self._server.until(true, END_SECONDS)

    def _is_audited(self) -> None:
        """What was answered has a line, whatever died right after: who promised what is on paper first."""
        lines: set[tuple[str, str]] = set()
        for part in (self._server.store / "audit").glob("*.parquet"):
            table = pq.read_table(part, columns=["what", "subject"])
            lines.update(zip(*(table[name].to_pylist() for name in table.column_names), strict=True))
        told = {("callback.promised", id) for id in self.requests} | {("demand.kept", "kept")}
        assert told <= lines, f"the audit log does not tell of {told - lines}"

    def _call_again(self) -> None:
        """Have sent at once what the receiver refused while it was down: it may be due in many minutes."""
        with self._server.client() as client:
            for one in client.get("/v1/deliveries?state=pending").json()["deliveries"]:
                if one["attempts"]:
                    client.post(f"/v1/deliveries/{one['id']}/replay")

    def _everybody_was_told(self) -> int:
        """Each request's end was taken by the receiver at least once: one id, one body. Return the calls."""

        def heard() -> dict[str, list[Message]]:
            about: dict[str, list[Message]] = {}
            for one in list(self._hooks.heard):
                if "request" not in one.body["data"]:
                    continue
                about.setdefault(one.body["data"]["request"], []).append(one)
            return about

        def missing() -> list[str]:
            about = heard()
            return [id for id in self.requests if not any(one.status == 204 for one in about.get(id, ()))]

        try:
            self._server.until(lambda: not missing(), END_SECONDS)
        except AssertionError:
            with self._server.client() as client:
                kept = client.get("/v1/deliveries").json()["deliveries"]
            lost = missing()
            states = [one for one in kept if one["request"] in lost]
            raise AssertionError(f"nobody was told of {lost}; of these are kept: {states}") from None
        for id, calls in heard().items():
            assert id in self.requests, f"{id} was made by nobody"
            assert {one.id for one in calls} == {f"end_{id}"}, calls
            assert len({str(one.body) for one in calls}) == 1, calls
        return len(self._hooks.heard)

    def _news_was_told(self) -> None:
        """The demand's messages were taken: that each picture became true, and at last that all were."""
        pictures = len(list(self._kept.glob("*.png")))

        def taken() -> bool:
            news = {
                one.id: one.body
                for one in list(self._hooks.heard)
                if one.status == 204 and one.body["data"].get("demand") == "kept"
            }
            became = sum(body["data"]["assets"].get("became_true", 0) for body in news.values())
            ends = [b["data"]["assets"] for b in news.values() if b["type"] == "demand.done"]
            return became >= pictures and {"seen": pictures, "true": pictures} in ends

        self._server.until(taken, END_SECONDS)
        bodies: dict[str, set[str]] = {}
        for one in list(self._hooks.heard):
            bodies.setdefault(one.id, set()).add(str(one.body))
        twice = {id: told for id, told in bodies.items() if len(told) > 1}
        assert not twice, f"said twice, and not the same: {twice}"

    def _nothing_twice(self) -> Counter[Made]:
        """No value was made twice in one life, and none that was stored ever again. Return all runs."""
        runs = self._runs()
        before: Counter[Made] = Counter()
        for number, after in enumerate((*self.lives, runs)):
            twice = [made for made in after if after[made] - before[made] > 1]
            assert not twice, f"in life {number} made twice: {twice}"
            before = after
        again = {made: (then, runs[made]) for made, then in self.stored.items() if runs[made] != then}
        assert not again, f"made again though stored: {again}"
        return runs


def main() -> int:
    """Let it rage, and say what was counted."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.storm", description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    hooks = Hooks()
    with tempfile.TemporaryDirectory(prefix="amber-storm-") as folder:
        server = served(Path(folder), hooks)
        try:
            storm = Storm(server, hooks, arguments.seed)
            storm.rage(arguments.kills)
            print(storm.holds())
            assert server.stop() == 0
        finally:
            server.kill_everything()
            hooks.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
