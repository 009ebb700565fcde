"""Signatures of deliveries, by the specification's own example."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest

from amber_ray.core.deliveries.signature import headers, key_of, signatures
from amber_ray.errors import BadRequest

# The example of the specification and of its reference libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, MOMENT, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNED = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
GUIDE = Path(__file__).parents[4] / "docs" / "deliveries.md"
NEWER = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def test_the_example_of_the_specification_is_signed_as_it_says() -> None:
    assert signatures([SECRET], ID, MOMENT, BODY) == SIGNED


def test_while_a_secret_is_replaced_there_is_a_signature_by_each() -> None:
    newer = signatures([NEWER], ID, MOMENT, BODY)
    assert newer != SIGNED
    assert signatures([NEWER, SECRET], ID, MOMENT, BODY) == f"{newer} {SIGNED}"


def test_id_time_and_body_are_all_signed() -> None:
    others = {
        signatures([SECRET], ID + "x", MOMENT, BODY),
        signatures([SECRET], ID, MOMENT + 1, BODY),
        signatures([SECRET], ID, MOMENT, BODY + b" "),
    }
    assert len(others | {SIGNED}) == 4


def test_the_receiver_of_the_guide_knows_what_is_amber_s() -> None:
    [code] = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    written: dict[str, Any] = {}
    exec(code, written)
    made = headers([NEWER, SECRET], ID, MOMENT, BODY)
    verified = written["verified"]
    assert verified(SECRET, made, BODY, MOMENT + 299)
    assert verified(NEWER, made, BODY, MOMENT - 299)
    assert not verified(SECRET, made, BODY, MOMENT + 300)
    assert not verified(SECRET, made, BODY + b" ", MOMENT)
    assert not verified("whsec_" + base64.b64encode(bytes(24)).decode(), made, BODY, MOMENT)


def test_headers_have_the_names_of_the_specification() -> None:
    made = headers([SECRET], ID, MOMENT, BODY)
    assert (made["webhook-id"], made["webhook-timestamp"], made["webhook-signature"]) == (
        ID,
        "1614265330",
        SIGNED,
    )
    assert made["content-type"] == "application/json"


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",  # without the prefix
        "whsec_",
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",  # its base64 is cut short
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSé",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZI o2LaLaSw",
    ],
)
def test_what_is_no_secret_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(BadRequest, match="callback_secrets must be 'whsec_'") as caught:
        key_of(secret)
    assert len(secret) < 10 or secret not in str(caught.value)
