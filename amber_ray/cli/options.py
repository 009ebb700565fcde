"""From the words of a command line to settings, clients and parameters.

The one place of the command that reads the environment: AMBER_TOKEN, AMBER_TOKENS and
AMBER_CALLBACK_SECRETS.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from amber_ray.cli.catalogue import Survey
from amber_ray.cli.parser import DEFAULT_STORE
from amber_ray.cli.terminal import note
from amber_ray.client.address import connect, source_name
from amber_ray.client.names import feature_names
from amber_ray.client.sync import Client
from amber_ray.core.model.service import FeatureInfo
from amber_ray.errors import BadParameter, BadRequest
from amber_ray.settings import Settings

OWN = {
    "features": "--features",
    "media_root": "--media-root",
    "store": "--store",
    "segment_seconds": "--segment-seconds",
    "num_gpus": "--num-gpus",
    "memory_bytes": "--memory-bytes",
}


def settings_of(
    args: argparse.Namespace, assets: Sequence[str] = (), survey: Survey | None = None
) -> Settings:
    """The settings of an Amber of one's own.

    Without --media-root, media is read from the folders of the local `assets`, or of the `survey` of a
    catalogue; URLs among them allow their schemes, since whoever typed them wants them read.
    """
    if survey is None:
        survey = Survey(folders=dict.fromkeys(folders(assets)), schemes=schemes(assets))
    given = {name: getattr(args, name, None) for name in ("segment_seconds", "num_gpus", "memory_bytes")}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    roots = [absolute(r) for r in args.media_root]
    for root in roots:
        if "://" not in root and not os.path.isdir(root):
            raise BadRequest(f"--media-root {root} is not a folder")
    return Settings().replace(
        features=tuple(source_name(f) for f in args.features),
        media_roots=tuple(dict.fromkeys(roots or survey.folders)),
        remote_schemes=tuple(sorted(survey.schemes)),
        store=absolute(args.store or DEFAULT_STORE),
        **changes,
    )


def there(store: str | None) -> str:
    """The place of a store that is only read. Raises `BadRequest` for a folder that is not there."""
    place = absolute(store or DEFAULT_STORE)
    if "://" not in place and not os.path.isdir(place):
        raise BadRequest(f"there is no store at {place}; --store says where it is")
    return place


def client_of(args: argparse.Namespace, assets: Sequence[str] = (), survey: Survey | None = None) -> Client:
    """The server's client if --server was given, else one with an embedded Ray on --store."""
    if args.server:
        for name, option in OWN.items():
            if getattr(args, name, None) not in (None, []):
                raise BadRequest(f"{option} belongs to the server at {args.server}; leave it out here")
        return connect(args.server, token=token_of(args), tenant=getattr(args, "tenant", "default"))
    if args.token:
        raise BadRequest("--token is for a server; name one with --server")
    settings = settings_of(args, assets, survey)
    client = connect(settings=settings, tenant=getattr(args, "tenant", "default"))
    try:
        warn_of_changes(settings.store, client.features())
    except BaseException:
        client.close()
        raise
    return client


def token_of(args: argparse.Namespace) -> str | None:
    """The API token for --server: --token, else AMBER_TOKEN."""
    return args.token or os.environ.get("AMBER_TOKEN") or None


def tokens_of(args: argparse.Namespace) -> tuple[str, ...]:
    """The tokens that `serve` accepts: each --token, and AMBER_TOKENS separated by commas."""
    listed = os.environ.get("AMBER_TOKENS", "").split(",")
    return tuple(dict.fromkeys(t.strip() for t in (*args.token, *listed) if t.strip()))


def callback_secrets() -> tuple[str, ...]:
    """What callbacks are signed with: AMBER_CALLBACK_SECRETS separated by commas."""
    return tuple(s.strip() for s in os.environ.get("AMBER_CALLBACK_SECRETS", "").split(",") if s.strip())


def warn_of_changes(store: str, infos: Iterable[FeatureInfo]) -> None:
    """Say on stderr, in one line, which pinned features' code is not what the store's values were made by."""
    from amber_ray.client.version_lock import compare, read

    changes = compare(read(store), infos)
    if len(changes) == 1:
        note(f"{changes[0]}, or accept it: amber check --accept")
    elif changes:
        names = ", ".join(change.feature for change in changes)
        note(
            f"{names}: their code changed under the same versions; values computed by the old code are still "
            "served. Give them new versions, or accept it: amber check --accept"
        )


def absolute(place: str) -> str:
    """A URL as it is, a path made absolute."""
    return place if "://" in place else os.path.abspath(os.path.expanduser(place))


def local(asset: str) -> str | None:
    """The local path that an asset's path or `file://` URI means; None for other URLs."""
    if asset.startswith("file://"):
        return unquote(urlsplit(asset).path)
    return None if "://" in asset else absolute(asset)


def folders(assets: Iterable[str]) -> list[str]:
    """The folders that hold the local assets, by the name given and where a symbolic link leads."""
    found: dict[str, None] = {}
    for path in filter(None, map(local, assets)):
        found[os.path.dirname(path)] = None
        found[os.path.dirname(os.path.realpath(path))] = None
    return list(found)


def schemes(assets: Iterable[str]) -> set[str]:
    """The schemes of the assets that are neither paths nor `file://` URIs."""
    return {a.partition("://")[0] for a in assets if local(a) is None}


def wanted(text: str) -> tuple[str, ...]:
    """`shots,loudness` -> the features' names."""
    return feature_names(text)


def no_feature_among(assets: Sequence[str], client: Client, features: Sequence[str]) -> None:
    """Refuse `get shots loudness a.mp4`: a word among the assets that is a feature and no file."""
    words = [a for a in assets if a.isidentifier() and not os.path.exists(a)]
    known = {info.name for info in client.features()} if words else set()
    for word in words:
        if word in known:
            raise BadRequest(
                f"{word!r} is a feature, not a file; several are joined by commas: "
                + ",".join(dict.fromkeys((*features, *(w for w in words if w in known))))
            )


def params_of(client: Client, given: Sequence[str]) -> dict[str, Any]:
    """`feature.name=value` words as parameters.

    A value is JSON where it can be read as such (2, 0.5, true, null), else text; text it stays where the
    parameter is declared as text, so that `--param caption.style=2` means "2" to a `str`.
    """
    raw: dict[str, str] = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals or not all(name.partition(".")[::2]):
            raise BadParameter(f"--param takes FEATURE.NAME=VALUE, such as frames.fps=2, not {word!r}")
        raw[name] = value
    values = {name: _value(text) for name, text in raw.items()}
    if any(not isinstance(v, str) for v in values.values()):
        types = {f"{i.name}.{p}": type for i in client.features() for p, (type, _) in i.params.items()}
        for name, text in raw.items():
            if types.get(name, "").startswith("str") and text != "null":
                values[name] = text
    return values


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(text, text)
    return text if isinstance(value, list | dict) else value


def range_of(text: str | None) -> tuple[float, float] | None:
    """`A:B` in seconds; A may be left out for the beginning."""
    if text is None:
        return None
    first, colon, last = text.partition(":")
    try:
        if not colon:
            raise ValueError
        a, b = float(first or 0), float(last)
    except ValueError:
        raise BadRequest(f"--range takes A:B in seconds, such as 10:20, not {text!r}") from None
    if not 0 <= a < b < float("inf"):
        raise BadRequest(f"--range needs 0 <= A < B, not {text}")
    return a, b
