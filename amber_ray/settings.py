"""One frozen `Settings`, built once at an entry point (the command, a Serve deployment, `connect`).

Nothing else reads the environment: a module that needs a number takes it from here, so a test can
choose it and a reader can find it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from amber_ray.errors import BadRequest

MIB = 1 << 20
GIB = 1 << 30
MOST_DRAIN_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what one caller can cost. Sizes in bytes, times in seconds.

    `step_seconds` bounds a step of a feature that sets no `timeout` of its own, `units_per_asset` the ranges
    of one finder that features are computed for, `steps_per_request` what a request needs, those included,
    `deliveries_per_tenant` the callbacks that are still to be made.
    """

    body_bytes: int = 4 * MIB
    body_depth: int = 32
    source_bytes: int = 1 * MIB
    upload_bytes: int = 2 * GIB
    assets_per_request: int = 10_000
    values_per_request: int = 10_000
    values_bytes: int = 2 * GIB
    steps_per_request: int = 500_000
    units_per_asset: int = 100_000
    requests_per_tenant: int = 10_000
    deliveries_per_tenant: int = 10_000
    wait_seconds: float = 60.0
    media_bytes: int = 64 * GIB
    media_seconds: float = 24 * 3600.0
    decode_seconds: float = 600.0
    step_seconds: float = 3600.0
    frame_pixels: int = 16_384 * 16_384


@dataclass(frozen=True, slots=True)
class Settings:
    """How one Amber runs.

    `store` is a directory or an fsspec URL; `media_roots` the only places media is read from;
    `features` modules or `.py` files registered beside the built-in ones; `memory_bytes` the budget of
    values in memory, of which those of up to `inline_bytes` travel in messages and larger ones as objects of
    Ray's; `attainable` the resources of one more node that an autoscaler can add (`{"CPU": 16, "GPU": 8}`),
    so that a feature requiring them waits instead of failing; `overtakes` how many tasks of more urgent
    classes go ahead of one that waits before it has a turn; `allow_origins` the origins of web pages
    (`https://app.example`) that may ask from a browser; `register` whether clients may register features over
    HTTP, which runs their code here; `retry_later_seconds` for how long in all a step may put itself off
    (`RetryLater`); `revision` any text: with another one `serve deploy` starts new replicas, which read the
    features' code anew; `drain_seconds` how long callers who wait are given when a server or a replica stops.
    Of requests, those that fail or take `slow_seconds` are logged, with `access_log` every one, as "text" or
    "json" (`log_format`); `console` is the socket that lines go to, which `amber serve` sets. Traces are sent
    by OTLP to `trace_endpoint` (`http://collector:4318`); of those that begin here, and that no caller
    brings, the share `trace_share` is; they are called `trace_service`, and `trace_headers` (`name=value`) go
    along. The hosts that requests may have called when they have ended are
    `callback_hosts` (`hooks.example`, `hooks.example:8443`, `http://hooks.example`), `callback_secrets` is
    what these calls are signed with (`whsec_...`; several while one is replaced), and `callback_addresses`
    are addresses and networks that may be called though they are not of the public internet. Lines
    of the audit log are kept for `audit_seconds`, the newest ones up to `audit_bytes` in all. With
    `gpu_decoding` steps that hold a GPU have films decoded by it (NVDEC).
    """

    store: str = "amber-store"
    media_roots: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    builtins: bool = True
    segment_seconds: float = 60.0
    namespace: str = "amber"
    shards: int = 1
    replicas: int = 1
    host: str = "127.0.0.1"
    port: int = 8000
    num_gpus: float | None = None
    attainable: Mapping[str, float] = field(default_factory=dict)
    tokens: tuple[str, ...] = ()
    allow_origins: tuple[str, ...] = ()
    register: bool = False
    remote_schemes: tuple[str, ...] = ()
    etag_identity: bool = False
    memory_bytes: int = 1 * GIB
    replica_cache_bytes: int = 256 * MIB
    inline_bytes: int = 16 * 1024
    spill_seconds: float = 0.25
    spill_bytes: int = 64 * MIB
    compact_parts: int = 64
    grace_seconds: float = 2.0
    pack_seconds: float = 0.5
    lookahead: int = 2
    overtakes: int = 32
    retry_seconds: float = 0.2
    retry_later_seconds: float = 3600.0
    input_failure_seconds: float = 86_400.0
    feature_failure_seconds: float = 300.0
    system_failure_seconds: float = 10.0
    quarantine_seconds: float = 600.0
    idle_actor_seconds: float = 60.0
    request_seconds: float = 7 * 86_400.0
    audit_seconds: float = 400 * 86_400.0
    audit_bytes: int = 256 * MIB
    revision: str = ""
    drain_seconds: float = 10.0
    access_log: bool = False
    slow_seconds: float = 10.0
    log_format: str = "text"
    console: str = ""
    trace_endpoint: str = ""
    trace_share: float = 1.0
    trace_service: str = "amber"
    trace_headers: tuple[str, ...] = ()
    gpu_decoding: bool = False
    callback_hosts: tuple[str, ...] = ()
    callback_secrets: tuple[str, ...] = ()
    callback_addresses: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.segment_seconds <= 0:
            raise BadRequest(f"segment_seconds must be above 0, not {self.segment_seconds}")
        if not 0 <= self.drain_seconds <= MOST_DRAIN_SECONDS:
            raise BadRequest(
                f"drain_seconds must be from 0 to {MOST_DRAIN_SECONDS:g}, not {self.drain_seconds}"
            )
        if self.log_format not in ("text", "json"):
            raise BadRequest(f'log_format must be "text" or "json", not {self.log_format!r}')
        if self.trace_endpoint and not self.trace_endpoint.startswith(("http://", "https://")):
            raise BadRequest(
                f"trace_endpoint must be the http or https URL of a collector, not {self.trace_endpoint!r}"
            )
        if not 0 <= self.trace_share <= 1:
            raise BadRequest(f"trace_share must be from 0 to 1, not {self.trace_share}")
        if self.overtakes < 1:
            raise BadRequest(f"overtakes must be at least 1, not {self.overtakes}")
        if self.shards < 1 or self.replicas < 1:
            raise BadRequest(f"shards and replicas must be at least 1, not {self.shards} and {self.replicas}")

    def replace(self, **changes: Any) -> Settings:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        """One line of JSON that `from_json` reads back (a Serve config or a child process carries it)."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Read what `to_json` wrote; an unknown field is named in a `BadRequest`."""
        return cls.from_mapping(json.loads(text))

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> Settings:
        """Build from plain data such as a Serve config's `args`; lists become tuples."""
        names = {f.name for f in dataclasses.fields(cls)}
        if unknown := sorted(set(data) - names):
            raise BadRequest(f"unknown setting {unknown[0]!r}; the settings are {', '.join(sorted(names))}")
        for f in dataclasses.fields(cls):
            # A text is iterable too: every letter of it would be taken for a place, a token or an origin.
            if isinstance(f.default, tuple) and isinstance(given := data.get(f.name), str):
                raise BadRequest(f"{f.name} must be a list, such as [{given!r}], not {given!r}")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        if isinstance(values.get("limits"), Mapping):
            values["limits"] = Limits(**values["limits"])
        return cls(**values)
