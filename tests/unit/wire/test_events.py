"""Events in all forms that senders have: the place that each means, and what is no event in one sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from amber_ray.core.model.demands import Demand, Noticed
from amber_ray.core.model.places import Cover, place_named
from amber_ray.errors import BadRequest
from amber_ray.settings import Limits
from amber_ray.wire.events import DEEPEST, decode_events, decode_noticed, encode_events, encode_noticed

NAME = "new/red flower+ü.png"
PLACE = f"s3://media/{NAME}"


def record(name: str = "ObjectCreated:Put", key: str = "new/red+flower%2B%C3%BC.png") -> dict[str, Any]:
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": name,
        "s3": {"bucket": {"name": "media", "arn": "arn:aws:s3:::media"}, "object": {"key": key, "size": 5}},
    }


S3 = {"Records": [record()]}
MINIO = {"EventName": "s3:ObjectCreated:Put", "Key": PLACE[5:], "Records": [record("s3:ObjectCreated:Put")]}
BRIDGE = {
    "version": "0",
    "detail-type": "Object Created",
    "source": "aws.s3",
    "detail": {"version": "0", "bucket": {"name": "media"}, "object": {"key": NAME, "size": 5}},
}


def sns(inner: Any) -> dict[str, Any]:
    return {"Type": "Notification", "TopicArn": "arn:aws:sns:eu:1:new", "Message": json.dumps(inner)}


def sqs(inner: Any) -> dict[str, Any]:
    return {"Messages": [{"MessageId": "1", "Body": json.dumps(inner)}]}


def of_lambda(inner: Any) -> dict[str, Any]:
    return {"Records": [{"messageId": "1", "eventSource": "aws:sqs", "body": json.dumps(inner)}]}


@pytest.mark.parametrize("bare", [S3, MINIO, BRIDGE], ids=["s3", "minio", "eventbridge"])
def test_a_name_is_decoded_as_its_sender_codes_it_in_every_envelope(bare: dict[str, Any]) -> None:
    lambda_sns = {"Records": [{"EventSource": "aws:sns", "Sns": sns(bare)}]}
    for body in (
        bare,
        sns(bare),
        sqs(bare),
        of_lambda(bare),
        lambda_sns,
        sqs(sns(bare)),
        of_lambda(sns(bare)),
    ):
        assert decode_events(body, Limits()) == ((PLACE,), 0, "")


def test_plain_events_name_one_place_or_many() -> None:
    assert decode_events({"uri": "/films/a%20b.mp4"}, Limits()).uris == ("/films/a%20b.mp4",)
    assert decode_events(encode_events(["/a", "s3://b/c"]), Limits()).uris == ("/a", "s3://b/c")
    assert decode_events(encode_events([]), Limits()).uris == ()


def test_what_changes_nothing_is_counted_and_nothing_else() -> None:
    read, tagged = record("s3:ObjectAccessed:Get"), record("ObjectTagging:Put")
    gone = record("ObjectRemoved:DeleteMarkerCreated")
    told = decode_events({"Records": [read, gone, tagged]}, Limits())
    assert told == ((PLACE,), 2, "")
    assert decode_events({"Service": "Amazon S3", "Event": "s3:TestEvent"}, Limits()) == ((), 1, "")
    assert decode_events(BRIDGE | {"detail-type": "Object Tags Added"}, Limits()) == ((), 1, "")
    assert decode_events({"Type": "UnsubscribeConfirmation"}, Limits()) == ((), 1, "")


def test_a_subscription_is_told_to_be_confirmed_and_is_no_event() -> None:
    asked = {"Type": "SubscriptionConfirmation", "SubscribeURL": "https://sns.eu.amazonaws.com/?Token=1"}
    assert decode_events(asked, Limits()) == ((), 0, "https://sns.eu.amazonaws.com/?Token=1")


def nested(times: int) -> Any:
    body: Any = S3
    for _ in range(times):
        body = sns(body)
    return body


def test_envelopes_are_opened_so_deep_and_no_deeper() -> None:
    assert decode_events(nested(DEEPEST), Limits()).uris == (PLACE,)
    with pytest.raises(BadRequest, match=f"more than {DEEPEST} envelopes"):
        decode_events(nested(DEEPEST + 1), Limits())


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ([], "not an array"),
        (None, "not null"),
        ({}, "this one has no fields"),
        ({"wrong": 1}, "this one has 'wrong'"),
        ({"uri": ""}, "uri must not be empty"),
        ({"uri": "/a", "uris": ["/b"]}, "both uri and uris"),
        ({"uri": "/a", "x": 1}, "unknown field 'x'"),
        ({"uris": "/a"}, "uris must be an array"),
        ({"uris": [1]}, r"uris\[0\] must be a text, not 1"),
        ({"Records": {}}, "Records must be an array"),
        ({"Records": [1]}, r"Records\[0\] must be a JSON object"),
        ({"Records": [{"x": 1}]}, r"Records\[0\] is of S3"),
        ({"Records": [{"s3": {}}]}, r"Records\[0\].eventName must be a text"),
        (
            {"Records": [{"s3": 1, "eventName": "ObjectCreated:Put"}]},
            r"Records\[0\].s3 must be a JSON object",
        ),
        ({"Records": [record(key="%ff")]}, "does not decode to UTF-8"),
        ({"Records": [record(key="")]}, "object.key must not be empty"),
        ({"Messages": [{}]}, r"Messages\[0\] has no Body"),
        ({"Messages": [{"Body": 1}]}, r"Messages\[0\].Body must be a text with JSON"),
        ({"Messages": [{"Body": "{"}]}, r"Messages\[0\].Body: the body is not JSON"),
        ({"Type": "Notification"}, "the body has no Message"),
        ({"Type": "Other"}, "a Type that SNS does not send: 'Other'"),
        ({"Type": "SubscriptionConfirmation"}, "SubscribeURL must be a text"),
        (BRIDGE | {"source": "aws.ec2"}, "source must be 'aws.s3'"),
        (BRIDGE | {"detail": {}}, "detail has no bucket"),
    ],
)
def test_what_is_no_event_is_named_in_one_sentence(body: Any, said: str) -> None:
    with pytest.raises(BadRequest, match=said) as caught:
        decode_events(body, Limits())
    assert "\n" not in str(caught.value)


def test_what_became_of_events_goes_there_and_back() -> None:
    assert decode_noticed(encode_noticed(Noticed(1, 2, 3), 4)) == Noticed(1, 2, 3)


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("/films/a.mp4", "/films/a.mp4"),
        ("file:///films/a%20b.mp4", "/films/a b.mp4"),
        ("file://localhost/films/a.mp4", "/films/a.mp4"),
        ("//films/./x/../a.mp4", "/films/a.mp4"),
        ("/films/../../etc/passwd", "/etc/passwd"),
        ("s3://b/a//../b c.mp4", "s3://b/a//../b c.mp4"),
        ("films/a.mp4", "films/a.mp4"),
    ],
)
def test_a_uri_means_the_place_that_a_listing_calls_so(uri: str, place: str) -> None:
    assert place_named(uri) == place


@pytest.mark.parametrize(
    ("place", "prefix", "covered"),
    [
        ("/films/new/a.mp4", "/films", True),
        ("/films/new/a.mp4", "/films/", True),
        ("/films/a.mp4", "file:///films", True),
        ("/films", "/films/", True),
        ("/films2/a.mp4", "/films", False),
        ("/a.mp4", "/", True),
        ("/films/a.mp4", "/films/a.mp4", True),
        ("s3://b/new/a.mp4", "s3://b/new/", True),
        ("s3://b/new/a.mp4", "s3://b/new", False),
        ("s3://b/new2/a.mp4", "s3://b/new/", False),
        ("s3://b/a.mp4", "s3://b/a.mp4", True),
        ("s3://b/a//b.mp4", "s3://b/a//", True),
        ("s3://b/a", "/", False),
        ("/films/a.mp4", "/films//new/..", True),
    ],
)
def test_a_demand_covers_what_is_below_its_prefixes(place: str, prefix: str, covered: bool) -> None:
    assert Cover([prefix]).has(place) == covered
    assert Demand("d", ("size",), ("/elsewhere", prefix)).cover().has(place) == covered
