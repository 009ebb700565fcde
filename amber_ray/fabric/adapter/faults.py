"""Ray's exceptions to Amber's failures: one table, at one boundary.

A feature's own exception never gets here: the worker catches it and reports it (`fabric.worker.tasks`). What
is left is the engine's: a worker, node, owner or object that died, memory, cancellation.
"""

from __future__ import annotations

from dataclasses import dataclass

from ray import exceptions as rx

from amber_ray.core.model.request import Failure


@dataclass(frozen=True, slots=True)
class Fault:
    """What a Ray exception means.

    `inputs_lost`: an argument of the task could not be had; `crashed`: the worker's process died, which the
    task itself may have brought about; not `started`: nothing of the task has run;
    `shared`: it may as well have been another task.
    """

    type: str
    message: str
    status: int = 503
    retry: bool = True
    inputs_lost: bool = False
    crashed: bool = False
    started: bool = True
    shared: bool = False


class NotStarted(Exception):
    """A batch waited for its turn at a warm actor that died."""


class Suspected(Exception):
    """A batch was the oldest of several at a warm actor that died."""


_TABLE: tuple[tuple[type[BaseException], Fault], ...] = (
    (rx.TaskCancelledError, Fault("Cancelled", "the step was stopped", 409, retry=False)),
    (rx.OutOfMemoryError, Fault("SystemFault", "the worker ran out of memory and was stopped", crashed=True)),
    (rx.ObjectStoreFullError, Fault("SystemFault", "the object store is full")),
    (rx.OutOfDiskError, Fault("SystemFault", "the node's disk is full")),
    (
        rx.WorkerCrashedError,
        Fault("SystemFault", "the worker process died while it ran the step", crashed=True),
    ),
    (rx.ActorDiedError, Fault("SystemFault", "the warm worker died while it ran the step", crashed=True)),
    (NotStarted, Fault("SystemFault", "the warm worker died before it began the step", started=False)),
    (
        Suspected,
        Fault("SystemFault", "the warm worker died while it had the step", crashed=True, shared=True),
    ),
    (rx.ActorUnavailableError, Fault("SystemFault", "the warm worker can't be reached")),
    (rx.NodeDiedError, Fault("SystemFault", "the node died while it ran the step")),
    (rx.LocalRayletDiedError, Fault("SystemFault", "the node's Ray agent died")),
    (rx.RuntimeEnvSetupError, Fault("SystemFault", "the worker's environment could not be set up")),
    (rx.OwnerDiedError, Fault("SystemFault", "an input's owner died", inputs_lost=True)),
    (rx.ObjectLostError, Fault("SystemFault", "an input was lost with its node", inputs_lost=True)),
    (rx.ObjectFetchTimedOutError, Fault("SystemFault", "an input could not be fetched", inputs_lost=True)),
)


def translate(error: BaseException) -> Fault:
    """The fault behind an exception that Ray raised for a task or actor call."""
    cause = getattr(error, "cause", None)
    for seen in (error, cause):
        for kind, fault in _TABLE:
            if isinstance(seen, kind):
                return fault
    return Fault("SystemFault", f"{type(cause or error).__name__}: {str(cause or error).strip()[:500]}")


def as_failure(fault: Fault) -> Failure:
    """A failure without its step, which the ledger fills in."""
    return Failure(
        kind="system", type=fault.type, message=fault.message, step="", key="", unit="", status=fault.status
    )
