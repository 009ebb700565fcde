"""Ray's exceptions as `Fault`s: one table, at one boundary.

A feature's own exception never gets here: the worker catches it and reports it (`fabric.worker.tasks`). What
is left is the engine's: a worker, node, owner or object that died, memory, cancellation. Not in the table on
purpose: `KeyboardInterrupt`, `SystemExit` and `asyncio.CancelledError`, which concern this process itself.

Must not know: the shell.
"""

from __future__ import annotations

from ray import exceptions as rx

from amber_ray.fabric.shard.ports import Fault

_TABLE: tuple[tuple[type[BaseException], Fault], ...] = (
    (
        rx.TaskCancelledError,
        Fault("Cancelled", "the step was stopped", 409, retry=False, cancelled=True),
    ),
    (rx.OutOfMemoryError, Fault("SystemFault", "the worker ran out of memory and was stopped", crashed=True)),
    (rx.ObjectStoreFullError, Fault("SystemFault", "the object store is full")),
    (rx.OutOfDiskError, Fault("SystemFault", "the node's disk is full")),
    (
        rx.WorkerCrashedError,
        Fault("SystemFault", "the worker process died while it ran the step", crashed=True),
    ),
    (
        rx.ActorDiedError,
        Fault("SystemFault", "the warm worker died while it ran the step", crashed=True, gone=True),
    ),
    (rx.ActorUnavailableError, Fault("SystemFault", "the warm worker can't be reached", gone=True)),
    (rx.NodeDiedError, Fault("SystemFault", "the node died while it ran the step")),
    (rx.LocalRayletDiedError, Fault("SystemFault", "the node's Ray agent died")),
    (rx.RuntimeEnvSetupError, Fault("SystemFault", "the worker's environment could not be set up")),
    (rx.OwnerDiedError, Fault("SystemFault", "an input's owner died", inputs_lost=True)),
    (rx.ObjectLostError, Fault("SystemFault", "an input was lost with its node", inputs_lost=True)),
    (rx.ObjectFetchTimedOutError, Fault("SystemFault", "an input could not be fetched", inputs_lost=True)),
)


def translate(error: BaseException) -> Fault:
    """The fault behind an exception that Ray raised for a task or an actor call."""
    cause = getattr(error, "cause", None)
    for seen in (error, cause):
        for kind, fault in _TABLE:
            if isinstance(seen, kind):
                return fault
    return Fault("SystemFault", f"{type(cause or error).__name__}: {str(cause or error).strip()[:500]}")
