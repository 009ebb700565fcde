"""`POST /v1/registry`, both ways: features as source text, and what a registry has.

Nothing here is ever unpickled or run: texts are texts. Must not know: HTTP, how a text is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from amber_ray.core.declare.texts import SourceText
from amber_ray.core.model.service import RegistryView
from amber_ray.errors import BadRequest, TooLarge
from amber_ray.settings import Limits
from amber_ray.wire.compute import KEY, digests
from amber_ray.wire.json import describe, members, text
from amber_ray.wire.problems import Reading
from amber_ray.wire.views import decode_feature, encode_feature

MOST_TEXTS = 100


class Registering(NamedTuple):
    """What is to be registered: features with the digests that they must have, in texts, on top of `base`."""

    base: str
    texts: tuple[SourceText, ...]
    features: Mapping[str, str]


def encode_registering(base: str, texts: Sequence[SourceText], features: Mapping[str, str]) -> dict[str, Any]:
    """The body for a registration."""
    sent = [{"name": t.name, "text": t.text, "package": t.package, "filed": t.filed} for t in texts]
    return {"base": base, "texts": sent, "features": dict(features)}


def decode_registering(data: Any, limits: Limits) -> Registering:
    """What `encode_registering` wrote. Raises `BadRequest` naming the field, and `TooLarge`."""
    fields = members(data, ("base", "texts", "features"), "the body")
    base = fields.get("base") or ""
    if not isinstance(base, str) or (base and not KEY.match(base)):
        raise BadRequest(
            f"base must be the digest of a registry, 32 lower-case hex digits, not {describe(base)}"
        )
    given = fields.get("texts") or []
    if not isinstance(given, list):
        raise BadRequest(f"texts must be a list of modules' texts, not {describe(given)}")
    if len(given) > MOST_TEXTS:
        raise TooLarge(f"texts has {len(given):,} texts; at most {MOST_TEXTS:,} are taken")
    texts = tuple(_text(one, f"texts[{i}]") for i, one in enumerate(given))
    size = sum(len(one.text.encode("utf-8", "surrogatepass")) for one in texts)
    if size > limits.source_bytes:
        raise TooLarge(
            f"the texts have {size:,} bytes; at most {limits.source_bytes:,} are taken, so give the module "
            "to the server (`amber serve --features`)"
        )
    features = digests(fields.get("features") or {}, "features")
    if bool(texts) != bool(features):
        raise BadRequest("texts and features belong together: the code, and which features of it are meant")
    return Registering(base, texts, features)


def encode_registry(view: RegistryView) -> dict[str, Any]:
    """What a registry has."""
    return {
        "digest": view.digest,
        "features": [encode_feature(info) for info in view.features],
        "declared": dict(view.declared),
    }


def decode_registry(data: Mapping[str, Any]) -> RegistryView:
    """What `encode_registry` wrote."""
    with Reading("a registry"):
        features = tuple(decode_feature(item) for item in data["features"])
        return RegistryView(data["digest"], features, dict(data["declared"]))


def _text(data: Any, where: str) -> SourceText:
    fields = members(data, ("name", "text", "package", "filed"), where)
    package, filed, code = fields.get("package") or "", fields.get("filed") or False, fields.get("text")
    if not isinstance(code, str):
        raise BadRequest(f"{where}.text must be a module's source, not {describe(code)}")
    if not isinstance(filed, bool):
        raise BadRequest(f"{where}.filed must be true or false, not {describe(filed)}")
    if not isinstance(package, str) or (package and not all(map(str.isidentifier, package.split(".")))):
        raise BadRequest(f"{where}.package must be a package's dotted name, not {describe(package)}")
    return SourceText(text(fields.get("name"), f"{where}.name"), code, package, filed)
