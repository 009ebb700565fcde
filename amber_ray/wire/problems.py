"""Errors and failures on the wire: RFC 9457 problem documents and a result's `error`, both ways.

Shared by the app and the HTTP client. An error keeps its class across the wire by name, so a caller in
Python catches the same class whether the engine is in its process or behind HTTP.
Must not know: HTTP libraries, requests, results.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from amber_ray import errors
from amber_ray.core.model.request import Failure
from amber_ray.errors import AmberError, Overloaded


class Reading:
    """Turns what a malformed answer makes Python raise into one `AmberError` that says which part it was."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (KeyError, TypeError, ValueError, AttributeError)):
            raise AmberError(
                f"the server's answer is not {self.what}: {type(error).__name__}: {error}"
            ) from error


def encode_failure(failure: Failure) -> dict[str, Any]:
    """A result's `error`: the failure's fields, `title` (its type in words) and any `traceback`."""
    data = {
        "kind": failure.kind,
        "type": failure.type,
        "title": title(failure.type),
        "message": failure.message,
        "status": failure.status,
        "step": failure.step,
        "key": failure.key,
        "unit": failure.unit,
        "attempts": failure.attempts,
    }
    if failure.traceback:
        data["traceback"] = failure.traceback
    if failure.blocked:
        data["blocked"] = list(failure.blocked)
    if failure.uri:
        data["uri"] = failure.uri
    return data


def decode_failure(data: Mapping[str, Any]) -> Failure:
    """What `encode_failure` wrote."""
    with Reading("a failure"):
        return Failure(
            kind=data["kind"],
            type=data["type"],
            message=data["message"],
            step=data["step"],
            key=data["key"],
            unit=data["unit"],
            status=data["status"],
            traceback=data.get("traceback", ""),
            attempts=data.get("attempts", 1),
            blocked=tuple(data.get("blocked", ())),
            uri=data.get("uri", ""),
        )


_CLASSES: dict[str, type[AmberError]] = {name: getattr(errors, name) for name in errors.__all__}
_BY_STATUS: dict[int, type[AmberError]] = {
    401: errors.Unauthorized,
    403: errors.Forbidden,
    406: errors.NotAcceptable,
    413: errors.TooLarge,
    416: errors.BadRequest,
    429: errors.Overloaded,
    502: errors.Unavailable,
    503: errors.Unavailable,
    504: errors.Expired,
}
_BY_KIND: dict[str, type[AmberError]] = {
    "input": errors.MediaError,
    "feature": errors.FeatureError,
    "system": errors.SystemFault,
}


def title(name: str) -> str:
    """An error's class name in words: `UnknownFeature` -> `Unknown feature`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).capitalize()


def problem(error: AmberError, instance: str | None = None) -> dict[str, Any]:
    """An RFC 9457 problem document; `error` is the class's name and `instance` the HTTP request's id."""
    name = type(error).__name__
    data: dict[str, Any] = {
        "type": "urn:amber:error:" + title(name).lower().replace(" ", "-"),
        "title": title(name),
        "status": error.status,
        "detail": str(error),
        "error": name,
    }
    if isinstance(error, Overloaded):
        data["retry_after"] = error.retry_after
    if instance is not None:
        data["instance"] = instance
    return data


def error_of_problem(status: int, data: Any) -> AmberError:
    """The error that a response with this HTTP status and body stands for; never raises."""
    fields = data if isinstance(data, Mapping) else {}
    detail = fields.get("detail") or fields.get("title") or f"the server answered with HTTP status {status}"
    kind = _CLASSES.get(str(fields.get("error"))) or _BY_STATUS.get(status)
    if kind is None:
        kind = errors.BadRequest if 400 <= status < 500 else AmberError
    if issubclass(kind, Overloaded):
        retry = fields.get("retry_after")
        return kind(str(detail), float(retry) if isinstance(retry, (int, float)) else 1.0)
    return kind(str(detail))


def error_of_failure(failure: Failure) -> AmberError:
    """The error to raise for a failed result: Amber's own class where it was one, else that of its kind."""
    where = f"{failure.step}: " if failure.step else ""
    kind = _CLASSES.get(failure.type)
    if kind is not None and not issubclass(kind, Overloaded):
        return kind(where + failure.message)
    return _BY_KIND[failure.kind](f"{where}{failure.type}: {failure.message}")
