"""What runs on a worker: steps in order, each value checked, sized and sent back the cheapest way.

A task returns `(report, *slots)`. Small values travel in the report; a large one is an item of a slot, a
list of its own in the object store, so that the actor never touches its bytes. An exception of a feature
is a result like any other; only the death of the process is the engine's business (`fabric.adapter.faults`).

Every value is made a snapshot as soon as a step has returned it (`fabric.worker.snapshot`). Steps of the task
that read it, and whoever is sent it, get copies of that; arrays are read-only for all of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import functools
import os
import re
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from amber_ray.core.declare.feature import FeatureSpec
from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.naming import assets_of, unnamed
from amber_ray.core.model.request import Failure
from amber_ray.core.model.trace import Ran
from amber_ray.core.planning.fanout import Windows, windows_of
from amber_ray.core.planning.plan import Nested, Step, leaves
from amber_ray.errors import AmberError
from amber_ray.fabric.transport import pickled, registry_blob
from amber_ray.fabric.transport.messages import Made, StepResult, Work
from amber_ray.fabric.worker import snapshot
from amber_ray.fabric.worker.imports import made_whole
from amber_ray.fabric.worker.later import wish_of
from amber_ray.fabric.worker.now import RUNNING, Now
from amber_ray.fabric.worker.snapshot import Snapshot
from amber_ray.fabric.worker.watchdog import Watchdog
from amber_ray.media import bounds
from amber_ray.media.bounds import Decoding
from amber_ray.media.looks import Look, Sharing, expecting, look_of

WATCHDOG = Watchdog()
_HERE = os.path.dirname(__file__)
_READ_ONLY = re.compile(
    r"(array|destination|base|buffer)\b.* is (read-?only|not writable)"
    r"|read-?only memory|marked as readonly|WRITEABLE flag|read-write bytes-like|array must be .*writable"
)
"""What numpy, OpenCV, Cython and Python say when something is written into an array that is read-only."""
KILL_GRACE_SECONDS = 5.0
"""After a timeout, how long Python may still take to say so before the process is ended from C."""


def registry_of(digest: str, blob: bytes) -> Registry:
    """The registry to run with; unpacked once per worker process."""
    known = registry_blob.loaded(digest)
    return known if known is not None else registry_blob.unpack(blob)


def get_ready(digest: str, blob: bytes) -> None:
    """The body of a Ray task: import what the first task of a worker would wait for."""
    with made_whole():
        registry_of(digest, blob)


def run(blob: bytes, work: Work, *slots: list[Any]) -> tuple[Any, ...]:
    """The body of a Ray task: run function steps in order. Returns the report and `work.returns` slots."""
    with made_whole():
        return run_steps(registry_of(work.registry, blob), work, slots)


def run_steps(registry: Registry, work: Work, slots: Sequence[list[Any]]) -> tuple[Any, ...]:
    """Run function steps of a registry in order; see `run`."""
    box = Outbox(work)
    values = Inputs(work, slots)
    with contextlib.closing(Passes(registry, work, values)) as passes:
        for step in work.steps:
            blocked = values.blocked(step)
            if blocked is None:
                _run_step(registry.get(step.recipe.feature), work, step, values, passes, box)
            else:
                box.begin(step)
                values.fail(step, blocked)
                box.failed(step, blocked)
            passes.left(step)
    return box.close()


def _run_step(spec: FeatureSpec, work: Work, step: Step, values: Inputs, passes: Passes, box: Outbox) -> None:
    """Run one step all of whose inputs have values."""
    box.begin(step)
    started = time.perf_counter()
    try:
        with deadline(work, step) as decoding:
            sharing = passes.of(step)
            lent = sharing.lent
            with expecting(sharing):
                # No name for the value: what is referred to here has its arrays copied.
                held = [spec.returns.check(spec.target(**arguments(spec, step, values)))]
            windows = windows_of(held[0]) if spec.finds else None
            value = snapshot.take(held, work.inline_bytes, sent=step.key in work.outputs)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - user code; the failure is the result
        values.fail(step, box.raised(spec, step, error))
    else:
        values.put(step, value)
        seconds = time.perf_counter() - started - (sharing.lent - lent)
        box.made(step, value, max(0.0, seconds), decoded_by(decoding, "cpu"), windows)


def arguments(spec: FeatureSpec, step: Step, values: Inputs) -> dict[str, Any]:
    """The keyword arguments of one call: the unit, the inputs in their shape, the parameters."""
    given: dict[str, Any] = dict(step.recipe.params)
    for name, nested in zip(step.recipe.inputs, step.inputs, strict=True):
        given[name] = values.get(nested)
    if spec.unit_argument is not None:
        given[spec.unit_argument] = step.unit
    return given


class Inputs:
    """Values that steps read: sent along, or made earlier in the task and dropped after their last use.

    What `get` returns is the caller's own: nobody else sees a change of it, and its arrays are read-only.
    `repeated`: inputs may be asked for again after their last use, by a step that is run again.
    """

    def __init__(self, work: Work, slots: Sequence[list[Any]], *, repeated: bool = False) -> None:
        self._work = work
        self._slots = slots
        self._repeated = repeated
        self._made: dict[str, Snapshot] = {}
        self._sent: dict[str, Snapshot] = {}
        self._failed: dict[str, Failure] = {}
        self._uses: dict[str, int] = {}
        for step in work.steps:
            for need in _uses(step):
                self._uses[need] = self._uses.get(need, 0) + 1

    def get(self, nested: Nested) -> Any:
        """The value of a key, or a list of them for a gather."""
        if not isinstance(nested, str):
            return [self.get(part) for part in nested]
        value = self._made.get(nested) or self._sent.get(nested)
        if value is not None:
            return value.open()
        data = self._work.inline.get(nested)
        return self._from_slot(nested) if data is None else pickled.loads(data)

    def _from_slot(self, key: str) -> Any:
        """Return a value of the object store: a copy, or to its last reader the object that Ray made."""
        argument, place = self._work.slots[key]
        value = self._slots[argument][place]
        if snapshot.unchangeable(value) or (self._uses[key] == 1 and not self._repeated):
            return value
        self._sent[key] = snapshot.take([value], self._work.inline_bytes, sent=False, ours=True)
        return self._sent[key].open()

    def sent(self, step: Step) -> bool:
        """Whether all that a step reads was sent along."""
        return all(need in self._work.inline or need in self._work.slots for need in step.needs)

    def blocked(self, step: Step) -> Failure | None:
        """The failure of an input made in this task, if there is one."""
        return next((self._failed[n] for n in step.needs if n in self._failed), None)

    def put(self, step: Step, value: Snapshot) -> None:
        """Keep a value for the steps that follow, and let go of what this step was the last to use."""
        if self._uses.get(step.key):
            self._made[step.key] = value
        self._used(step)

    def fail(self, step: Step, failure: Failure) -> None:
        """What follows from this step is blocked."""
        self._failed[step.key] = failure
        self._used(step)

    def _used(self, step: Step) -> None:
        for need in _uses(step):
            self._uses[need] -= 1
            if not self._uses[need]:
                self._made.pop(need, None)
                self._sent.pop(need, None)


class Passes:
    """Passes over films that steps of one task share, one for each asset at a time.

    Windows of an asset that follow each other in the task are decoded by one reader that stays open, from one
    to the next. It is closed behind the last step that was to look at the asset.
    """

    def __init__(self, registry: Registry, work: Work, values: Inputs) -> None:
        self._registry = registry
        self._values = values
        self._lookers: dict[str, dict[str, Step]] = {}
        for step in work.steps:
            if step.recipe.looks and step.asset_id is not None:
                self._lookers.setdefault(step.asset_id, {})[step.key] = step
        self._looks: dict[str, Look] = {}
        self._sharing: dict[str, Sharing] = {}

    def of(self, step: Step) -> Sharing:
        """What a step that is about to run shares with others that look at its asset."""
        asset = step.asset_id
        coming = self._lookers.get(asset or "", {})
        if asset is None or step.key not in coming:
            return Sharing(())
        if asset not in self._sharing:
            looks = {} if len(coming) == 1 else looks_of(self._registry, coming.values(), self._values)
            self._looks |= looks
            self._sharing[asset] = Sharing(looks.values())
        return self._sharing[asset]

    def left(self, step: Step) -> None:
        """Note that a step has run, or never will: nothing is kept for it any more."""
        asset = step.asset_id
        coming = self._lookers.get(asset or "", {})
        if asset is None or coming.pop(step.key, None) is None:
            return
        sharing = self._sharing.get(asset)
        if sharing is not None and (look := self._looks.pop(step.key, None)) is not None:
            sharing.leave(look)
        if sharing is not None and not coming:
            self._sharing.pop(asset).end()

    def close(self) -> None:
        """Close what is open."""
        for sharing in self._sharing.values():
            sharing.end()


def looks_of(registry: Registry, steps: Iterable[Step], values: Inputs) -> dict[str, Look]:
    """What steps will look at, by their keys, as far as that is known before any of them has run."""
    found: dict[str, Look] = {}
    for step in steps:
        spec = registry.get(step.recipe.feature)
        tell = look_of(spec.target)
        if tell is not None and values.sent(step):
            # What is wrong with its parameters or inputs is the step's own to tell.
            with contextlib.suppress(Exception, SystemExit):
                look = tell(**arguments(spec, step, values))
                found |= {} if look is None else {step.key: look}
    return found


def _uses(step: Step) -> Sequence[Any]:
    """The keys that a step reads, as often as it reads them."""
    if all(type(nested) is str for nested in step.inputs):
        return step.inputs
    return [key for nested in step.inputs for key in leaves(nested)]


class Outbox:
    """Collects a task's results and decides how each value travels."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._began = 0.0
        self._results: list[StepResult] = []
        self._slots: list[list[Any]] = [[] for _ in range(work.returns)]
        self._next = 0

    def begin(self, step: Step) -> None:
        """A step begins, or several of its feature together: what is told of next."""
        self._began = time.time()
        RUNNING.set(Now(step.recipe.feature, self._work.request))

    def _ran(self) -> Ran | None:
        if not self._work.traced:
            return None
        now = time.time()
        return Ran(self._began or now, now, os.getpid(), os.uname().nodename)

    def made(
        self, step: Step, value: Snapshot, seconds: float, device: str, windows: Windows | None = None
    ) -> None:
        """A step has a value; `seconds` is its own share."""
        made = Made(seconds, device, time.time())
        if step.key not in self._work.outputs:
            self._results.append(StepResult(step.key, made=made, ran=self._ran()))
            return
        placed = self.place(step.key, value, made, windows)
        self._results.append(placed._replace(ran=self._ran()) if self._work.traced else placed)

    def place(self, key: str, value: Snapshot, made: Made, windows: Windows | None = None) -> StepResult:
        """Send a value: inline if it is small, else in the emptiest slot."""
        if value.inline is not None:
            return StepResult(key, value.size, made, inline=value.inline, windows=windows)
        slot = self._next % len(self._slots)
        self._next += 1
        self._slots[slot].append(value.sent())
        place = len(self._slots[slot]) - 1
        return StepResult(key, value.size, made, slot=slot, place=place, windows=windows)

    def failed(self, step: Step, failure: Failure, later: float | None = None) -> None:
        """A step has no value. `later`: it asked to be tried again, see `StepReport`."""
        self._results.append(StepResult(step.key, failure=failure, later=later, ran=self._ran()))

    def raised(self, spec: FeatureSpec, step: Step, error: BaseException) -> Failure:
        """A step's feature raised: return that as a failure."""
        wish = wish_of(spec.calls, error)
        failure = failure_of(step, error)
        if wish is not None:
            # What is told should the step have been put off for too long; meant for nobody before that.
            failure = dataclasses.replace(
                failure,
                kind="system",
                type="SystemFault",
                message=unnamed(str(wish)[:2000], assets_of(step.unit)),
                status=503,
            )
        self.failed(step, failure, None if wish is None else wish.seconds)
        return failure

    def close(self) -> tuple[Any, ...]:
        """What the Ray task returns."""
        RUNNING.set(None)
        return (self._results, *self._slots)


def failure_of(step: Step, error: BaseException) -> Failure:
    """A feature's exception as a failure, with its own traceback, in which media has no names.

    A write into a read-only array is explained: the exception does not say why it is read-only or what to do.
    """
    kind = getattr(error, "kind", None)
    if isinstance(error, MemoryError):
        kind = "system"
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if os.path.dirname(f.filename) != _HERE] or list(frames)
    text = "".join(traceback.format_list(own[-20:])) + "".join(traceback.format_exception_only(error))
    message = str(error).strip() or type(error).__name__
    amber = isinstance(error, AmberError)
    if not amber:
        message = f"{type(error).__name__}: {message}"
        if step.recipe.inputs and _is_write_into_read_only(error):
            one = step.recipe.inputs[0]
            message = (
                f"feature {step.recipe.feature!r} wrote into an array that is read-only. A feature's inputs"
                " are read-only, because other features read the same memory: copy an array before you change"
                f" it, as in {one} = {one}.copy() ({message})"
            )
    assets = assets_of(step.unit)
    return Failure(
        kind=kind if kind in ("input", "feature", "system") else "feature",
        type=type(error).__name__ if amber else "FeatureError",
        message=unnamed(message[:2000], assets),
        step=step.recipe.feature,
        key=step.key,
        unit=step.unit_id,
        status=getattr(error, "status", 422) if amber else 422,
        traceback=unnamed(text[-8000:], assets),
    )


def provenance_of(model: Any, otherwise: str) -> str:
    """What a class feature says of where its values come from, such as its weights, if it says anything."""
    provenance = getattr(model, "provenance", None)
    return str(provenance()) if callable(provenance) else otherwise


def decoded_by(decoding: Decoding, device: str) -> str:
    """Where a value was made, with the GPU's decoder if pictures came from it."""
    return f"{device}; nvdec" if decoding.nvdec else device


def _is_write_into_read_only(error: BaseException) -> bool:
    """Return whether an exception says that. OpenCV's is told by its name, so that nothing is imported."""
    kinds = (ValueError, TypeError, BufferError)
    of_opencv = (type(error).__module__, type(error).__name__) == ("cv2", "error")
    return (isinstance(error, kinds) or of_opencv) and _READ_ONLY.search(str(error)) is not None


@contextlib.contextmanager
def deadline(work: Work, *steps: Step) -> Iterator[Decoding]:
    """End this process when the step runs past its timeout: a hung call can't be stopped any other way.

    A Python thread says which step it was and exits. Should the call hold the interpreter lock, a watchdog in
    C (faulthandler) ends the process a little later, where the feature sets a timeout of its own. Work that
    names no actor is run in somebody's own process (`amber_ray.testing`), which is not ended.
    """
    if not work.actor:
        with bounds.within(work.limits, work.threads, work.gpu) as decoding:
            yield decoding
        return
    own = [s.recipe.timeout for s in steps if s.recipe.timeout is not None]
    timeout = sum(own) + work.limits.step_seconds * (len(steps) - len(own))
    number = WATCHDOG.arm(timeout, functools.partial(give_up, work, steps[0].key))
    if own:
        faulthandler.dump_traceback_later(timeout + KILL_GRACE_SECONDS, exit=True)
    try:
        with bounds.within(work.limits, work.threads, work.gpu) as decoding:
            yield decoding
    finally:
        WATCHDOG.disarm(number)
        if own:
            faulthandler.cancel_dump_traceback_later()


def give_up(work: Work, key: str) -> None:
    """Runs in the watchdog's thread: report the timeout, then end the process."""
    import ray

    try:
        actor = ray.get_actor(work.actor, namespace=work.namespace)
        ray.get(actor.timed_out.remote(work.task, key), timeout=KILL_GRACE_SECONDS / 2)
    finally:
        os._exit(17)
