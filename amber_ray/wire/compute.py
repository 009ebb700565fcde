"""The body of `POST /v1/compute` and `POST /v1/explain`, both ways.

Every field is checked by name, and each refusal is one sentence that names it. What needs the registry
(whether a feature or a parameter exists, a parameter's type) is the planner's to judge.
Must not know: HTTP, the registry, files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from amber_ray.core.model.callback import ENDS, EVENTS, Callback
from amber_ray.core.model.request import AssetRef, ComputeRequest, Priority
from amber_ray.errors import BadParameter, BadRequest, TooLarge
from amber_ray.settings import Limits
from amber_ray.wire.json import describe, members, quote, text

T = TypeVar("T")

KEY = re.compile(r"[0-9a-f]{32}\Z")
"""A value's key or an asset's id: 128 bits in lower-case hex."""
REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{5,63}\Z")
"""A request's id, wherever it came from: it names a file in the journal, so it holds no dot and no slash."""
TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")

FIELDS = (
    "features",
    "assets",
    "params",
    "range",
    "priority",
    "tenant",
    "refresh",
    "deadline",
    "expect",
    "registry",
    "callback",
)
MAX_URI = 4096
MAX_CALLBACK = 2048
MAX_FEATURES = 1000
MAX_DEADLINE = 31 * 86_400.0


def decode_request(
    data: Any, limits: Limits | None = None, tenant: str = "default", trace: str = ""
) -> ComputeRequest:
    """The body of a compute or explain call, as `loads` gave it. Raises `BadRequest` naming the field.

    `tenant` is that of a body which names none, `trace` the request's (`core.model.trace`): no body names it.
    """
    limits = limits or Limits()
    fields = members(data, FIELDS, "the body")
    return ComputeRequest(
        features=_features(fields.get("features")),
        assets=_assets(fields.get("assets"), limits),
        params=_given(fields, "params", given_params, {}),
        range=_given(fields, "range", _range, None),
        priority=_given(fields, "priority", _priority, Priority.INTERACTIVE),
        tenant=_given(fields, "tenant", decode_tenant, tenant),
        refresh=_given(fields, "refresh", _refresh, False),
        deadline_seconds=_given(fields, "deadline", _deadline, None),
        expect=_given(fields, "expect", digests, {}),
        registry=_given(fields, "registry", _registry, ""),
        callback=_given(fields, "callback", decode_callback, None),
        trace=trace,
    )


def encode_request(request: ComputeRequest) -> dict[str, Any]:
    """The body for a request; fields that hold their default are left out."""
    data: dict[str, Any] = {
        "features": list(request.features),
        "assets": [encode_ref(ref) for ref in request.assets],
    }
    if request.params:
        data["params"] = dict(request.params)
    if request.range is not None:
        data["range"] = list(request.range)
    if request.priority is not Priority.INTERACTIVE:
        data["priority"] = request.priority.name.lower()
    if request.tenant != "default":
        data["tenant"] = request.tenant
    if request.refresh:
        data["refresh"] = True
    if request.deadline_seconds is not None:
        data["deadline"] = request.deadline_seconds
    if request.expect:
        data["expect"] = dict(request.expect)
    if request.registry:
        data["registry"] = request.registry
    if request.callback is not None:
        data["callback"] = {"url": request.callback.url, "on": list(request.callback.on)}
    return data


def encode_ref(ref: AssetRef) -> dict[str, str]:
    """`{"uri": ...}` or `{"id": ...}`."""
    return {"id": ref.id} if ref.id is not None else {"uri": ref.uri or ""}


def decode_ref(data: Any, where: str = "asset") -> AssetRef:
    """One asset as a caller names it: exactly one of `uri` and `id`."""
    if isinstance(data, str):
        raise BadRequest(f'{where} must be an object such as {{"uri": "/m/a.mp4"}}, not {describe(data)}')
    fields = members(data, ("uri", "id"), where)
    uri, known = fields.get("uri"), fields.get("id")
    if (uri is None) == (known is None):
        raise BadRequest(f'{where} must have exactly one of "uri" and "id"')
    if uri is not None:
        return AssetRef(uri=text(uri, f"{where}.uri", MAX_URI))
    if not (isinstance(known, str) and KEY.match(known)):
        raise BadRequest(f"{where}.id must be 32 lower-case hex digits, not {describe(known)}")
    return AssetRef(id=known)


def _given(fields: Mapping[str, Any], name: str, read: Callable[[Any], T], default: T) -> T:
    """The field if it is there and not null, else its default."""
    value = fields.get(name)
    return default if value is None else read(value)


def _features(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise BadRequest(f'features must be a list of names such as ["shots"], not {_shape(value)}')
    if len(value) > MAX_FEATURES:
        raise TooLarge(f"features has {len(value):,} names; at most {MAX_FEATURES:,} are taken")
    names = (text(name, f"features[{i}]") for i, name in enumerate(value))
    return tuple(dict.fromkeys(names))


def _assets(value: Any, limits: Limits) -> tuple[AssetRef, ...]:
    if not isinstance(value, list) or not value:
        raise BadRequest(f'assets must be a list such as [{{"uri": "file:///a.mp4"}}], not {_shape(value)}')
    if len(value) > limits.assets_per_request:
        raise TooLarge(
            f"assets has {len(value):,} entries; at most {limits.assets_per_request:,} are taken, "
            "so send several requests"
        )
    return tuple([decode_ref(item, f"assets[{i}]") for i, item in enumerate(value)])


def _shape(value: Any) -> str:
    return "an empty list" if value == [] else "nothing" if value is None else describe(value)


def given_params(value: Any) -> dict[str, Any]:
    """`feature.name` to a value. Raises `BadRequest`, `BadParameter`."""
    if not isinstance(value, dict):
        raise BadRequest(f'params must be an object such as {{"frames.fps": 2}}, not {describe(value)}')
    for name, given in value.items():
        text(name, "a name in params")
        if isinstance(given, (list, dict)):
            raise BadParameter(
                f"params[{quote(name)}] must be a number, a text, true, false or null, not {describe(given)}"
            )
        if isinstance(given, str) and given:
            text(given, f"params[{quote(name)}]", MAX_URI)
    return value


def digests(value: Any, where: str = "expect") -> dict[str, str]:
    """Features and their digests. Raises `BadRequest`, `TooLarge`."""
    if not isinstance(value, dict):
        raise BadRequest(f"{where} must be an object of features and their digests, not {describe(value)}")
    if len(value) > MAX_FEATURES:
        raise TooLarge(f"{where} has {len(value):,} features; at most {MAX_FEATURES:,} are taken")
    for name, digest in value.items():
        text(name, f"a name in {where}")
        if not (isinstance(digest, str) and KEY.match(digest)):
            raise BadRequest(
                f"{where}[{quote(name)}] must be 32 lower-case hex digits, as GET /v1/features tells them, "
                f"not {describe(digest)}"
            )
    return value


def _registry(value: Any) -> str:
    if not (isinstance(value, str) and (not value or KEY.match(value))):
        raise BadRequest(
            "registry must be the digest that POST /v1/registry answered, 32 lower-case hex digits, "
            f"not {describe(value)}"
        )
    return value


def decode_callback(value: Any, where: str = "callback") -> Callback:
    """Who is to be called: `{"url": ..., "on": ["done", "failed"]}`. Whether it may be is not judged here."""
    if not isinstance(value, dict):
        raise BadRequest(
            f'{where} must be an object such as {{"url": "https://hooks.example/amber"}}, '
            f"not {describe(value)}"
        )
    fields = members(value, ("url", "on"), where)
    on = fields.get("on", list(ENDS))
    if not (isinstance(on, list) and on and all(isinstance(event, str) and event in EVENTS for event in on)):
        raise BadRequest(f"{where}.on must be a list of {', '.join(EVENTS)}, not {_shape(on)}")
    url = text(fields.get("url"), f"{where}.url", MAX_CALLBACK)
    return Callback(url, tuple(event for event in EVENTS if event in on))


def _range(value: Any) -> tuple[float, float]:
    if not (isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))):
        raise BadRequest(f"range must be [A, B) in seconds, such as [10, 20], not {_shape(value)}")
    a, b = float(value[0]), float(value[1])
    if not 0 <= a < b:
        raise BadRequest(f"range must be [A, B) with 0 <= A < B in seconds, not [{a:g}, {b:g})")
    return a, b


def _priority(value: Any) -> Priority:
    names = [p.name.lower() for p in reversed(Priority)]
    if not (isinstance(value, str) and value in names):
        raise BadRequest(f"priority must be one of {', '.join(names)}, not {describe(value)}")
    return Priority[value.upper()]


def decode_tenant(value: Any) -> str:
    """A tenant's name. Raises `BadRequest`."""
    if not (isinstance(value, str) and TENANT.match(value)):
        raise BadRequest(
            f"tenant must be up to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit, "
            f"not {describe(value)}"
        )
    return value


def _refresh(value: Any) -> bool:
    if not isinstance(value, bool):
        raise BadRequest(f"refresh must be true or false, not {describe(value)}")
    return value


def _deadline(value: Any) -> float:
    if not (_is_number(value) and 0 < value <= MAX_DEADLINE):
        raise BadRequest(
            f"deadline must be seconds above 0 and at most {MAX_DEADLINE:,.0f}, not {describe(value)}"
        )
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
