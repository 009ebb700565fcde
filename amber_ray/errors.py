"""Every error that Amber raises, in one tree.

    AmberError (500)
    ├── BadRequest (400)            the caller's words are wrong; nothing was run
    │   ├── UnknownFeature (404)
    │   ├── UnknownParameter (400)
    │   ├── BadParameter (400)
    │   ├── UnknownKey (404)
    │   ├── UnknownRequest (404)
    │   ├── UnknownAsset (404)
    │   ├── UnknownDelivery (404)
    │   ├── UnknownDemand (404)
    │   ├── TooLarge (413)
    │   ├── VersionGone (410)       a value of a version whose code is not here, and that is not stored
    │   ├── NotAcceptable (406)
    │   ├── FeatureMismatch (412)   the service's feature is not the one that was meant
    │   ├── UnknownRegistry (412)   the registry that a request names is not known here (any more)
    │   └── RequestMismatch (422)   the id given belongs to another request
    ├── DeclarationError (500)      a feature or a registry that can't be right; found before Ray is asked
    │   └── UnfitCode (422)         code that was sent, and can't be loaded or registered here
    ├── MediaError (422)            the media itself: missing, corrupt, not what it claims to be
    │   ├── Unsuitable (422)        sound where pictures are needed, or the other way round
    │   ├── MediaNotFound (404)     gone from its place, which says nothing of its content
    │   ├── MediaChanged (409)      other bytes than when it was registered
    │   └── Forbidden (403)         outside the media roots, or a scheme that is switched off
    ├── FeatureError (422)          a feature's own code raised, or broke its declared type
    ├── SystemFault (503)           a worker, node or the object store died; retried before a caller sees it
    │   ├── StepTimeout (504)
    │   ├── Quarantined (503)       the worker died under the step each time: it is set aside for a while
    │   └── MissingResource (503)   no node has, or can get, what the feature requires
    ├── Unauthorized (401)
    ├── Overloaded (429)            a bound of the service; carries `retry_after` seconds
    ├── Unavailable (503)           the cluster or the server can't be reached
    ├── Cancelled (409)             the request was cancelled
    ├── Expired (504)               the request's deadline passed
    └── StoreError (503)            the store can't be read or written now
        ├── StoreBusy (409)         another server owns the store
        ├── DamagedRecord (503)     a record in JSON was delivered in full, twice, and is none
        └── DamagedPart (503)       a Parquet part fails its checksum, twice; its keys become misses

`status` is the HTTP status and `kind` the class of failure that decides how long it is remembered
(`core.ledger`): "input", "feature", "system", or None for errors that are never a step's outcome.
An error's message is one sentence that names what was wrong and what would be right.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

__all__ = [
    "AmberError",
    "BadParameter",
    "BadRequest",
    "Cancelled",
    "DamagedPart",
    "DamagedRecord",
    "DeclarationError",
    "Expired",
    "FeatureError",
    "FeatureMismatch",
    "Forbidden",
    "MediaChanged",
    "MediaError",
    "MediaNotFound",
    "MissingResource",
    "NotAcceptable",
    "Overloaded",
    "Quarantined",
    "RequestMismatch",
    "StepTimeout",
    "StoreBusy",
    "StoreError",
    "SystemFault",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "UnfitCode",
    "UnknownAsset",
    "UnknownDelivery",
    "UnknownDemand",
    "UnknownFeature",
    "UnknownKey",
    "UnknownParameter",
    "UnknownRegistry",
    "UnknownRequest",
    "Unsuitable",
    "VersionGone",
]


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return a hint for a name that is not among `known`: the nearest of them, else `otherwise`.

    >>> did_you_mean("flim", ["film", "shots"])
    "did you mean 'film'?"
    """
    from difflib import get_close_matches

    # Comparing takes time that grows with the product of the lengths, and the name may be a stranger's.
    near = get_close_matches(name[:64], sorted(known), 3)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else otherwise


class AmberError(Exception):
    """Root of the tree; catches everything Amber raises on purpose."""

    status: ClassVar[int] = 500
    kind: ClassVar[str | None] = None


class BadRequest(AmberError):
    """The caller's words are wrong; nothing was run."""

    status = 400


class UnknownFeature(BadRequest):
    """No feature of that name is registered."""

    status = 404


class UnknownParameter(BadRequest):
    """A parameter that no step of the request declares."""


class BadParameter(BadRequest):
    """A parameter's value does not fit its declared type."""


class UnknownKey(BadRequest):
    """No value is stored under that key."""

    status = 404


class UnknownRequest(BadRequest):
    """No request has that id (or it was forgotten after its retention time)."""

    status = 404


class UnknownAsset(BadRequest):
    """No asset has that id; register its URI first."""

    status = 404


class UnknownDelivery(BadRequest):
    """No delivery has that id (or it was forgotten after its retention time)."""

    status = 404


class UnknownDemand(BadRequest):
    """No demand has that name."""

    status = 404


class TooLarge(BadRequest):
    """A bound on what one caller may cost: body, depth, assets, media size or duration."""

    status = 413


class VersionGone(BadRequest):
    """There is no stored value of an older version of a feature, and its code is not here to make one."""

    status = 410


class NotAcceptable(BadRequest):
    """The value can't be given in any of the media types asked for."""

    status = 406


class FeatureMismatch(BadRequest):
    """The service's feature of that name is not the one that the caller meant; nothing was run."""

    status = 412


class UnknownRegistry(BadRequest):
    """A request is to be planned with features that were registered once, and are not known here any more."""

    status = 412


class RequestMismatch(BadRequest):
    """The id given for the request belongs to a request for something else."""

    status = 422


class DeclarationError(AmberError):
    """A feature or registry that can't be right: cycle, duplicate name, unknown input, bad type."""


class UnfitCode(DeclarationError):
    """Code that a client sent, or would send, and that can't be loaded or registered by the server."""

    status = 422


class MediaError(AmberError):
    """The media is corrupt, empty, or not what the feature needs."""

    status = 422
    kind = "input"


class Unsuitable(MediaError):
    """The media is of a kind that can't have the feature, as sound where pictures are needed."""


class MediaNotFound(MediaError):
    """Nothing is at that URI; it may be again, so it is not remembered like a fault of the content."""

    status = 404
    kind = "system"


class MediaChanged(MediaError):
    """The URI has other bytes than when it was registered; what was asked for may be elsewhere."""

    status = 409
    kind = "system"


class Forbidden(MediaError):
    """The URI is outside the configured media roots, or its scheme is switched off."""

    status = 403


class FeatureError(AmberError):
    """A feature's code raised, or returned something that is not of its declared type."""

    status = 422
    kind = "feature"


class SystemFault(AmberError):
    """A worker or node died, memory ran out, or an object was lost: retried, then reported."""

    status = 503
    kind = "system"


class StepTimeout(SystemFault):
    """A step ran past its `timeout` and was stopped."""

    status = 504


class Quarantined(SystemFault):
    """The worker died under the step each time it was tried, by itself: it is set aside for a while."""


class MissingResource(SystemFault):
    """The feature requires a resource that no node has or can get."""


class Unauthorized(AmberError):
    """The API token is missing or wrong."""

    status = 401


class Overloaded(AmberError):
    """The service is at a bound; try again after `retry_after` seconds."""

    status = 429

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(AmberError):
    """The cluster, the cache actor or the server can't be reached."""

    status = 503


class Cancelled(AmberError):
    """The request was cancelled before this step was done."""

    status = 409


class Expired(AmberError):
    """The request's deadline passed before this step was done."""

    status = 504


class StoreError(AmberError):
    """The store can't be read or written now: a call failed, or only a part of the bytes was delivered.

    It says nothing of what is in the store. Only its subclasses `DamagedRecord` and `DamagedPart` do.
    """

    status = 503


class StoreBusy(StoreError):
    """Another server owns this store."""

    status = 409


class DamagedRecord(StoreError):
    """A record in JSON, of a request or a purge, was delivered in full and can't be parsed."""


class DamagedPart(StoreError):
    """Bytes of a Parquet part were delivered in full and fail their checksum."""
