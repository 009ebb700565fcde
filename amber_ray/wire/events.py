"""Events: what senders say has happened to media, and where; as many forms as there are senders.

    {"uri": ...}, {"uris": [...]}          plain: whoever has no other form
    {"Records": [{"s3": ...}]}             S3 and MinIO; keys are coded as in a form: "red+flower.png"
    {"Event": "s3:TestEvent"}              what S3 sends first: nothing has happened
    {"detail-type": ..., "detail": ...}    S3 by EventBridge; keys as they are
    {"Type": ..., "Message": "..."}        SNS around any of these
    {"Records": [{"Sns": ...}]}            SNS as Lambda is given it
    {"Messages": [{"Body": "..."}]}        SQS as it is received
    {"Records": [{"body": "..."}]}         SQS as Lambda is given it

(S3 user guide, "Event message structure" and "EventBridge event message structure"; SNS developer guide,
"HTTP/HTTPS notification JSON format"; SQS API, ReceiveMessage; MinIO, `cmd/event-notification.go`.)

Only what may change what is at a place counts: an object that was read or tagged is as it was. Must not know:
HTTP, which places anybody wants to know of.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from amber_ray.core.model.demands import Noticed
from amber_ray.errors import BadRequest
from amber_ray.settings import Limits
from amber_ray.wire.compute import MAX_URI
from amber_ray.wire.json import describe, loads, members, text
from amber_ray.wire.problems import Reading

DEEPEST = 4
"""Envelopes in each other: EventBridge in SNS in SQS are three."""
CHANGING = ("ObjectCreated:", "ObjectRemoved:", "ObjectRestore:", "LifecycleExpiration:")
"""Kinds of events of S3 and MinIO after which something else may be at a place."""
CHANGING_DETAILS = ("Object Created", "Object Deleted", "Object Restore Completed")
"""The same by EventBridge."""
FORMS = (
    'the body must be {"uri": ...}, {"uris": [...]}, or a notification of S3 or MinIO, as it comes or by '
    "SNS, SQS or EventBridge"
)


class Told(NamedTuple):
    """What a body tells: places where something may have changed, and how many of its events change nothing.

    `confirm`: the URL that is opened to confirm a subscription of SNS, if it asks for that.
    """

    uris: tuple[str, ...]
    ignored: int
    confirm: str = ""


def encode_events(uris: Sequence[str]) -> dict[str, Any]:
    """The plain body."""
    return {"uris": list(uris)}


def decode_events(data: Any, limits: Limits) -> Told:
    """What a body tells. Raises `BadRequest` in one sentence, `TooLarge`."""
    uris: list[str] = []
    ignored, confirm = 0, ""
    for one in _events(data, limits, 0):
        if isinstance(one, Confirm):
            confirm = one.url
        elif one is None:
            ignored += 1
        else:
            uris.append(one)
    return Told(tuple(uris), ignored, confirm)


class Confirm(NamedTuple):
    """SNS wants to know that somebody is there, who opens this URL."""

    url: str


def _events(data: Any, limits: Limits, depth: int) -> Iterator[str | Confirm | None]:
    """URIs; None for what changes nothing."""
    if depth > DEEPEST:
        raise BadRequest(
            f"the body has more than {DEEPEST} envelopes in each other, which is as many as are opened"
        )
    if not isinstance(data, dict):
        raise BadRequest(f"{FORMS}, not {describe(data)}")
    if "uri" in data or "uris" in data:
        yield from _plain(data)
    elif "Records" in data:
        for i, record in enumerate(_list(data, "Records")):
            yield from _record(record, f"Records[{i}]", limits, depth)
    elif "Messages" in data:
        for i, message in enumerate(_list(data, "Messages")):
            where = f"Messages[{i}]"
            yield from _within(_of(message, "Body", where), f"{where}.Body", limits, depth)
    elif "Type" in data:
        yield from _sns(data, "the body", limits, depth)
    elif "detail-type" in data:
        yield _bridged(data)
    elif data.get("Event") == "s3:TestEvent":
        yield None
    else:
        raise BadRequest(f"{FORMS}; this one has {_names(data)}")


def _plain(data: dict[str, Any]) -> Iterator[str]:
    members(data, ("uri", "uris"), "the body")
    if "uri" in data and "uris" in data:
        raise BadRequest("the body has both uri and uris; one is enough")
    if "uri" in data:
        yield text(data["uri"], "uri", MAX_URI)
    for i, uri in enumerate(_list(data, "uris") if "uris" in data else ()):
        yield text(uri, f"uris[{i}]", MAX_URI)


def _record(record: Any, where: str, limits: Limits, depth: int) -> Iterator[str | Confirm | None]:
    if not isinstance(record, dict):
        raise BadRequest(f"{where} must be a JSON object, not {describe(record)}")
    if "s3" in record:
        yield _s3(record, where)
    elif "Sns" in record:
        yield from _sns(_of(record, "Sns", where), f"{where}.Sns", limits, depth)
    elif "body" in record:
        yield from _within(record["body"], f"{where}.body", limits, depth)
    else:
        raise BadRequest(f"{where} is of S3, MinIO, SNS or SQS by s3, Sns or body; it has {_names(record)}")


def _s3(record: dict[str, Any], where: str) -> str | None:
    name = text(record.get("eventName"), f"{where}.eventName")
    if not name.removeprefix("s3:").startswith(CHANGING):
        return None
    told = _of(record, "s3", where)
    bucket = text(
        _of(_of(told, "bucket", f"{where}.s3"), "name", f"{where}.s3.bucket"), f"{where}.s3.bucket.name"
    )
    key = text(
        _of(_of(told, "object", f"{where}.s3"), "key", f"{where}.s3.object"),
        f"{where}.s3.object.key",
        MAX_URI,
    )
    try:
        return f"s3://{bucket}/{urllib.parse.unquote_plus(key, errors='strict')}"
    except UnicodeDecodeError:
        raise BadRequest(f"{where}.s3.object.key does not decode to UTF-8") from None


def _bridged(data: dict[str, Any]) -> str | None:
    kind = text(data["detail-type"], "detail-type")
    if data.get("source") != "aws.s3":
        raise BadRequest(f"source must be 'aws.s3', not {describe(data.get('source'))}")
    if kind not in CHANGING_DETAILS:
        return None
    detail = _of(data, "detail", "the body")
    bucket = text(_of(_of(detail, "bucket", "detail"), "name", "detail.bucket"), "detail.bucket.name")
    key = text(_of(_of(detail, "object", "detail"), "key", "detail.object"), "detail.object.key", MAX_URI)
    return f"s3://{bucket}/{key}"


def _sns(data: Any, where: str, limits: Limits, depth: int) -> Iterator[str | Confirm | None]:
    kind = _of(data, "Type", where)
    if kind == "SubscriptionConfirmation":
        yield Confirm(text(data.get("SubscribeURL"), f"{where}.SubscribeURL", MAX_URI))
    elif kind == "UnsubscribeConfirmation":
        yield None
    elif kind == "Notification":
        yield from _within(_of(data, "Message", where), f"{where}.Message", limits, depth)
    else:
        raise BadRequest(f"{where} has a Type that SNS does not send: {describe(kind)}")


def _within(value: Any, where: str, limits: Limits, depth: int) -> Iterator[str | Confirm | None]:
    """The events of a text that is JSON itself."""
    if not isinstance(value, str):
        raise BadRequest(f"{where} must be a text with JSON in it, not {describe(value)}")
    try:
        inner = loads(value.encode("utf-8"), limits)
    except UnicodeEncodeError:
        raise BadRequest(f"{where} has half of a surrogate pair") from None
    except BadRequest as error:
        raise BadRequest(f"{where}: {error}") from None
    yield from _events(inner, limits, depth + 1)


def _of(data: Any, name: str, where: str) -> Any:
    if not isinstance(data, dict):
        raise BadRequest(f"{where} must be a JSON object, not {describe(data)}")
    if name not in data:
        raise BadRequest(f"{where} has no {name}")
    return data[name]


def _list(data: dict[str, Any], name: str) -> list[Any]:
    value = data[name]
    if not isinstance(value, list):
        raise BadRequest(f"{name} must be an array, not {describe(value)}")
    return value


def _names(data: dict[str, Any]) -> str:
    return ", ".join(describe(name) for name in list(data)[:5]) or "no fields"


def encode_noticed(noticed: Noticed, ignored: int = 0) -> dict[str, int]:
    """What became of events. `ignored`: how many change nothing at any place."""
    return {**noticed._asdict(), "ignored": ignored}


def decode_noticed(data: Any) -> Noticed:
    """What `encode_noticed` wrote. Raises `Unavailable` for what is none."""
    with Reading("what became of events"):
        return Noticed(int(data["taken"]), int(data["uncovered"]), int(data["dropped"]))
