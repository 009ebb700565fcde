"""Signatures of the Standard Webhooks specification (https://www.standardwebhooks.com, symmetric, "v1").

What is signed is `id.timestamp.body` by HMAC-SHA256. While a secret is replaced there are several, and a
message carries a signature by each, so a receiver that knows one of them can verify it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

from amber_ray.errors import BadRequest

PREFIX = "whsec_"
SHORTEST, LONGEST = 24, 64
"""Bytes of a secret, by the specification."""


def key_of(secret: str) -> bytes:
    """Return the key in a secret, "whsec_<base64>". Raises `BadRequest`, which does not tell the secret."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX).encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        key = b""
    if not (secret.startswith(PREFIX) and SHORTEST <= len(key) <= LONGEST):
        raise BadRequest(
            f"each of callback_secrets must be '{PREFIX}' and the base64 of {SHORTEST} to {LONGEST} random "
            f'bytes, as `python -c "import base64, secrets; '
            f"print('{PREFIX}' + base64.b64encode(secrets.token_bytes(32)).decode())\"` prints"
        )
    return key


def signatures(secrets: Sequence[str], id: str, timestamp: int, body: bytes) -> str:
    """Return the header `webhook-signature`: one "v1,<base64>" for each secret, separated by spaces."""
    signed = f"{id}.{timestamp}.".encode() + body
    digests = (hmac.new(key_of(secret), signed, hashlib.sha256).digest() for secret in secrets)
    return " ".join("v1," + base64.b64encode(digest).decode() for digest in digests)


def headers(secrets: Sequence[str], id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a message that is sent at a Unix time."""
    return {
        "content-type": "application/json",
        "user-agent": "amber-on-ray",
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signatures(secrets, id, timestamp, body),
    }
